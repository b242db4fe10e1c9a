"""Which clips a step has: a matter of the seed and the step alone."""

from collections import Counter

import numpy as np
import pytest
import torch

from stm_fast.training.batch import Example, Packed
from stm_fast.training.plan import Plan
from stm_fast.training.sampler import Clips, Part, Parts
from stm_fast.training.sampling import Sampling
from tests.training.tiny_runs import TINY, MovingSquares, with_stage

RECIPE = with_stage(TINY, clips=5, steps=4)
SOURCE = MovingSquares()
PLAN = Plan(RECIPE, [len(SOURCE)])


class Counting(MovingSquares):
    """Counts which indices are drawn from."""

    def __init__(self, length: int) -> None:
        super().__init__(length, misses=0)
        self.drawn: Counter[int] = Counter()

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> Example | None:
        self.drawn[index] += 1
        return super().draw(index, rng, sampling)


def frames_of_step(step: int, processes: int, accumulate: int) -> torch.Tensor:
    clips = Clips([SOURCE], PLAN, seed=3)
    batches = []
    for process in range(processes):
        for part in Parts(PLAN, step, process, processes, accumulate):
            if part.step == step:
                batch = clips[part]
                assert isinstance(batch, Packed)
                batches.append(batch.frames)
    return torch.cat(batches)


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (1, 2), (2, 1), (2, 2), (5, 1)])
def test_every_split_draws_the_same_clips(processes: int, accumulate: int) -> None:
    for step in range(PLAN.steps):
        assert torch.equal(frames_of_step(step, processes, accumulate), frames_of_step(step, 1, 1))
    assert not torch.equal(frames_of_step(0, 1, 1), frames_of_step(1, 1, 1))


def test_an_epoch_draws_everything_once_and_in_another_order_each_time() -> None:
    source = Counting(length=10)
    recipe = with_stage(TINY, steps=4, clips=5)
    clips = Clips([source], Plan(recipe, [len(source)]), seed=0)
    orders = []
    for epoch in range(2):
        order = []
        for step in (2 * epoch, 2 * epoch + 1):
            for number in range(5):
                source.drawn.clear()
                clips[Part(step, number, number + 1)]
                order += list(source.drawn)
        assert sorted(order) == list(range(10))
        orders.append(order)
    assert orders[0] != orders[1]
