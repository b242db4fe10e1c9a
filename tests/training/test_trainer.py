"""The trainer: what moves and what does not, rounds, resuming, and parts of a batch."""

import json
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate")

from stm_fast import load_model
from stm_fast.errors import ArgumentError, RunStateError, StmFastError
from stm_fast.models.resnet50 import resnet50_stm
from stm_fast.training.accelerator import make_accelerator
from stm_fast.training.average import WeightAverage
from stm_fast.training.checkpoint import load_checkpoint, save_checkpoint
from stm_fast.training.optimizer import freeze
from stm_fast.training.recipe import Optimizer, Round, Schedule
from stm_fast.training.trainer import Trainer
from tests.training.tiny_runs import (
    STAGE,
    TINY,
    MovingSquares,
    difference,
    squares,
    train,
    trainer,
    weights,
    with_stage,
)


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def values(folder: Path, name: str) -> list[float]:
    return [line[name] for line in lines(folder) if name in line]


def test_frozen_weights_stay_and_others_move(tmp_path: Path) -> None:
    made = trainer(TINY, tmp_path)
    before = weights(made)
    for _ in made.run():
        pass
    moved = {name for name, tensor in weights(made).items() if not torch.equal(tensor, before[name])}
    assert not [name for name in moved if "depthwise.weight" in name or ".stem." in name]
    assert "query_encoder.trunk.blocks.1.project.weight" not in moved
    assert {"decoder.predict.weight", "query_head.key.weight", "memory_encoder.masks.weight"} <= moved
    assert "query_encoder.trunk.blocks.9.expand.weight" in moved


def test_statistics_of_batch_norm_stay_with_or_without_its_scale() -> None:
    model = resnet50_stm()
    freeze(model, ("batch-norm",))
    assert not any(weight.requires_grad for name, weight in model.named_parameters() if "stem.norm" in name)
    freeze(model := resnet50_stm(), ())
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.encode_query(torch.rand(1, 3, 32, 32))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert all(weight.requires_grad for weight in model.parameters())


def test_a_run_leaves_weights_a_log_and_pictures(tmp_path: Path) -> None:
    made = train(replace(TINY, picture_every=2), tmp_path)
    assert made.step == 2
    seen = lines(tmp_path)
    assert [line["step"] for line in seen] == [1, 2, 2]
    assert {"loss", "rate", "seconds", "memory_gb"} < seen[0].keys()
    assert seen[2]["validation_j"] == pytest.approx(made.best, abs=1e-5)
    assert seen[2]["validation_loss"] > 0
    assert 0.1 < seen[1]["memory_gb"] < 1000
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["step_0000002.png"]
    last = load_model(tmp_path / "last.safetensors").state_dict()
    assert difference(last, weights(made)) == 0
    load_model(tmp_path / "best.safetensors")
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    recipe = replace(TINY, ema=0.9, rounds=(Round((STAGE,)), Round((STAGE,), halfway=True)))
    whole = train(recipe, tmp_path / "whole")
    steps = trainer(recipe, tmp_path / "parts").run()
    next(steps), next(steps), next(steps)
    steps.close()
    resumed = trainer(recipe, tmp_path / "parts")
    assert resumed.step == 3
    for _ in resumed.run():
        pass
    assert difference(weights(whole), weights(resumed)) == 0
    assert whole.best == resumed.best
    assert [line["step"] for line in lines(tmp_path / "parts")] == [1, 2, 2, 3, 4, 4]


def test_a_log_forgets_steps_after_the_checkpoint(tmp_path: Path) -> None:
    train(TINY, tmp_path)
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 7, "loss": 1.0}\n{"step": 8, "lo')
    train(TINY, tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 2]


def test_an_interrupted_validation_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("stm_fast.training.trainer.score_clips", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "best.safetensors").exists()
    resumed = trainer(TINY, tmp_path)
    assert resumed.step == 2
    assert list(resumed.run()) == []
    assert resumed.best >= 0
    load_model(tmp_path / "best.safetensors")


TWO_ROUNDS = replace(TINY, ema=0.9, rounds=(Round((STAGE,), halfway=True), Round((STAGE,))))


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of a run of `TWO_ROUNDS` that no signal reaches."""
    return weights(train(TWO_ROUNDS, tmp_path_factory.mktemp("uncut")))


def die(*_: object) -> None:
    raise RuntimeError("a worker was killed")


@pytest.mark.parametrize(
    ("steps", "by", "handler", "raised"),
    [
        (1, signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
        (2, signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
        (1, signal.SIGCHLD, die, RuntimeError),
    ],
)
def test_a_signal_does_not_cut_a_step_in_two(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    by: signal.Signals,
    handler: Callable[..., object],
    raised: type[BaseException],
    uncut: dict[str, torch.Tensor],
) -> None:
    """It comes while the weights change: the step is finished first, with its round, and saved."""
    made = trainer(TWO_ROUNDS, tmp_path)
    update = WeightAverage.update
    before = signal.signal(by, handler)

    def interrupted(self: WeightAverage, model: torch.nn.Module, step: int) -> None:
        if step == steps - 1:
            signal.raise_signal(by)
        update(self, model, step)

    monkeypatch.setattr(WeightAverage, "update", interrupted)
    try:
        with pytest.raises(raised):
            list(made.run())
    finally:
        signal.signal(by, before)
    monkeypatch.undo()
    resumed = trainer(TWO_ROUNDS, tmp_path)
    assert resumed.step == made.step == steps
    for _ in resumed.run():
        pass
    assert difference(weights(resumed), uncut) == 0


def test_a_round_ends_halfway_between_where_it_began_and_what_it_came_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came_to, ends = [], []
    halve_towards, assign = WeightAverage.halve_towards, WeightAverage.assign
    name = "decoder.predict.bias"

    def watched(self: WeightAverage, other: dict[str, torch.Tensor]) -> None:
        came_to.append(self.copy()[name])
        halve_towards(self, other)

    def ended(self: WeightAverage, model: torch.nn.Module) -> None:
        ends.append(self.copy()[name])
        assign(self, model)

    monkeypatch.setattr(WeightAverage, "halve_towards", watched)
    monkeypatch.setattr(WeightAverage, "assign", ended)
    rounds = Round((STAGE,)), Round((STAGE,), halfway=True), Round((STAGE,), halfway=True)
    made = train(replace(TINY, ema=0.9, rounds=rounds), tmp_path)
    assert (len(came_to), len(ends)) == (2, 3)
    for before, after, seen in zip(ends[:-1], ends[1:], came_to, strict=True):
        torch.testing.assert_close(after, (before + seen) / 2)
        assert not torch.equal(after, before)
    torch.testing.assert_close(weights(made)[name], ends[-1])


@pytest.mark.parametrize("accumulate", [2, 3])
def test_micro_batches_make_the_step_of_the_whole_batch(tmp_path: Path, accumulate: int) -> None:
    """Also if they do not have the same number of clips."""
    recipe = with_stage(TINY, clips=4)
    whole = train(recipe, tmp_path / "whole")
    parts = train(replace(recipe, optimizer=Optimizer("adamw", 1e-3, accumulate=accumulate)), tmp_path / "parts")
    # Adam divides gradients by their own size, and turns rounding of the smallest ones into steps.
    assert difference(weights(whole), weights(parts)) < 2e-4
    assert values(tmp_path / "whole", "loss") == pytest.approx(values(tmp_path / "parts", "loss"), rel=1e-3)


def test_steps_without_finite_gradients_change_nothing_and_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stm_fast.training.trainer._MAX_SKIPPED", 1)
    made = trainer(TINY, tmp_path)
    with torch.no_grad():
        made.model.get_parameter("decoder.predict.bias").fill_(math.nan)
    before = weights(made)
    with pytest.raises(StmFastError, match=r"were not finite: try a lower optimizer\.learning_rate"):
        list(made.run())
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(made).items() if "predict" not in name)


def test_an_accelerator_of_another_make_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ArgumentError, match=r"accelerator has mixed precision bf16, and the recipe's precision is fp32"
    ):
        Trainer(TINY, squares(), tmp_path, make_accelerator("bf16", "cpu"))
    accelerator = make_accelerator("fp32", "cpu")
    accelerator.gradient_accumulation_steps = 2
    with pytest.raises(ArgumentError, match="accelerator must leave gradient accumulation to the recipe, got 2"):
        Trainer(TINY, squares(), tmp_path, accelerator)


def test_settings_of_accelerate_launch_do_not_scale_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert make_accelerator("fp32", "cpu").gradient_accumulation_steps == 1


def test_a_step_must_have_a_clip_for_every_part(tmp_path: Path) -> None:
    with pytest.raises(StmFastError, match="at least one for each process and micro-batch, which are 3, got 2"):
        trainer(replace(TINY, optimizer=Optimizer(accumulate=3)), tmp_path)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    train(TINY, tmp_path)
    with pytest.raises(RunStateError, match=r"trained with optimizer\.learning_rate 0\.001, not 1e-05"):
        trainer(replace(TINY, optimizer=Optimizer("adamw")), tmp_path)
    with pytest.raises(RunStateError, match=r"trained on \[5\] pictures and videos, and now there are \[6\]"):
        trainer(TINY, tmp_path, replace(squares(), rounds=(MovingSquares(6),)))
    trainer(replace(TINY, workers=3), tmp_path)


@pytest.mark.parametrize("room", [0, 100_000, 20_000_000])
def test_a_checkpoint_that_does_not_fit_on_the_disk_leaves_the_one_before(tmp_path: Path, room: int) -> None:
    resource = pytest.importorskip("resource")
    save_checkpoint(tmp_path, {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError, match=r"."):
            save_checkpoint(tmp_path, {"step": 2, "model": torch.zeros(10_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 1


@pytest.mark.parametrize(("entry", "value"), [("model", {}), ("optimizer", None), ("settings", 5), ("lengths", None)])
def test_a_checkpoint_that_lacks_something_is_told(tmp_path: Path, entry: str, value: object) -> None:
    train(TINY, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save({**state, entry: value}, tmp_path / "checkpoint.pt")
    with pytest.raises(RunStateError, match=r"checkpoint\.pt"):
        trainer(TINY, tmp_path)
    del state[entry]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(RunStateError, match=rf"checkpoint\.pt is incomplete .*delete it to start again .*'{entry}'"):
        trainer(TINY, tmp_path)


@pytest.mark.parametrize("spoil", ["cut", "text", "foreign"])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, spoil: str) -> None:
    train(TINY, tmp_path)
    path = tmp_path / "checkpoint.pt"
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif spoil == "text":
        path.write_text("not a checkpoint")
    else:
        torch.save({"epoch": 3}, path)
    with pytest.raises(RunStateError, match=r"checkpoint\.pt is .*: delete it to start again"):
        trainer(TINY, tmp_path)


def test_the_schedule_sets_the_rate(tmp_path: Path) -> None:
    schedule = Schedule("trapezoid", rate=0.5, decay=1)
    train(replace(TINY, rounds=(Round((STAGE,), schedule=schedule),)), tmp_path)
    assert values(tmp_path, "rate") == [0.5, 0.25]


def test_bfloat16_trains(tmp_path: Path) -> None:
    made = train(replace(TINY, precision="bf16"), tmp_path)
    assert all(weight.dtype == torch.float32 for weight in made.model.parameters())
    assert all(map(math.isfinite, values(tmp_path, "loss")))


def test_workers_draw_what_the_process_itself_would(tmp_path: Path) -> None:
    alone = train(TINY, tmp_path / "alone")
    helped = train(replace(TINY, workers=2), tmp_path / "helped")
    assert difference(weights(alone), weights(helped)) == 0
