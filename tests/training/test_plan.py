"""Where steps lie in a recipe, and the learning rate there."""

from dataclasses import replace

import pytest

from stm_fast.training.plan import Plan, max_skip
from stm_fast.training.recipe import MaxSkip, Round, Schedule, Stage
from stm_fast.training.recipe_files import load_recipe
from stm_fast.training.schedule import rate
from tests.training.tiny_runs import STAGE, TINY


def test_each_step_has_its_stage() -> None:
    large = replace(STAGE, steps=3, clips=1, size=64)
    plan = Plan(replace(TINY, rounds=(Round((STAGE, large)), Round((STAGE,)))), [5, 7])
    places = [plan.place(step) for step in range(plan.steps)]
    assert [place.round for place in places] == [0] * 5 + [1] * 2
    assert [place.step for place in places] == [0, 1, 2, 3, 4, 0, 1]
    assert [place.first_clip for place in places] == [0, 2, 4, 5, 6, 0, 2]
    assert [place.sampling.size for place in places] == [32, 32, 64, 64, 64, 32, 32]
    assert plan.round_ends == (5, 7)
    with pytest.raises(ValueError, match="from 0 to 6, got 7"):
        plan.place(7)


def test_epochs_are_steps_once_the_data_is_known() -> None:
    stage = Stage(epochs=3, clips=4)
    assert Plan(replace(TINY, rounds=(Round((stage,)),)), [10]).steps == 8  # 30 clips


def test_the_paper_raises_the_skip_by_five_every_twenty_epochs_up_to_25() -> None:
    recipe = load_recipe("stm-paper-video", ["start=none"])
    plan = Plan(recipe, [8])
    skips = [plan.place(2 * epoch).sampling.max_skip for epoch in range(120)]
    assert skips == [5 * (epoch // 20) for epoch in range(120)]


def test_a_skip_above_the_limit_stays() -> None:
    assert max_skip(MaxSkip(first=40), 3) == 40
    assert max_skip(MaxSkip(first=1, increase=2, every_epochs=2, limit=4), 9) == 4


def test_a_trapezoid_rises_rests_and_falls() -> None:
    rates = [rate(Schedule("trapezoid", warmup=10, decay=19), step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert rates[-1] == pytest.approx(1 / 20)


def test_a_trapezoid_has_its_own_height() -> None:
    rates = [rate(Schedule("trapezoid", rate=0.5, warmup=2, decay=1), step, 10) for step in range(10)]
    assert rates == pytest.approx([0.25, *[0.5] * 8, 0.25])


def test_other_schedules() -> None:
    assert [rate(Schedule(), step, 3) for step in range(3)] == [1, 1, 1]
    poly = [rate(Schedule("poly", power=2), step, 4) for step in range(4)]
    assert poly == pytest.approx([1, 9 / 16, 1 / 4, 1 / 16])
    steps = [rate(Schedule("step", at=(1, 3), factor=0.1, rate=2), step, 4) for step in range(4)]
    assert steps == pytest.approx([2, 0.2, 0.2, 0.02])
