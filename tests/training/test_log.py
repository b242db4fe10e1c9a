"""The log of a run, in files and in W&B."""

import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stm_fast.training.log import RunLog


class FakeWandb(SimpleNamespace):
    """Notes what it is called with."""

    def __init__(self, key: str | None) -> None:
        super().__init__(
            api=SimpleNamespace(api_key=key), runs=[], logged=[], Image=lambda image: ("image", image.shape)
        )

    def init(self, **options: Any) -> SimpleNamespace:
        self.runs.append(options)
        return SimpleNamespace(
            id=options["id"] or "new", log=lambda record, step: self.logged.append((step, record)), finish=lambda: None
        )


@pytest.fixture(autouse=True)
def no_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", None)


def test_lines_are_json(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write(3, {"loss": 1 / 3, "rate": 1e-7 / 3})
    log.close()
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"step": 3, "loss": 0.333333, "rate": 3.33333e-08}


def test_tensorboard_has_numbers_and_pictures(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = RunLog(tmp_path)
    log.write(1, {"loss": 0.5})
    log.picture(1, np.zeros((4, 6, 3), np.uint8))
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == [0.5]
    assert events.Images("predictions")[0].width == 6


def test_an_interrupt_waits_until_a_step_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def add_scalar(name: str, value: float, step: int) -> None:
        signal.raise_signal(signal.SIGINT)
        written.append((name, value, step))

    board = SimpleNamespace(add_scalar=add_scalar, close=lambda: None)
    monkeypatch.setattr("stm_fast.training.log._tensorboard", lambda *_: board)
    log = RunLog(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            log.write(1, {"loss": 0.5, "rate": 1.0})
    finally:
        signal.signal(signal.SIGINT, before)
    log.close()
    assert written == [("loss", 0.5, 1), ("rate", 1.0, 1)]


@pytest.mark.parametrize(("key", "mode"), [("secret", None), (None, "offline")])
def test_wandb_is_used_where_it_is_set_up_and_resumes_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, mode: str | None
) -> None:
    wandb = FakeWandb(key)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    for _ in range(2):
        log = RunLog(tmp_path, settings={"seed": 0})
        log.write(1, {"loss": 0.5})
        log.picture(1, np.zeros((4, 6, 3), np.uint8))
        log.close()
    assert [run["id"] for run in wandb.runs] == [None, "new"]
    assert wandb.runs[0]["config"] == {"seed": 0}
    assert wandb.logged[:2] == [(1, {"loss": 0.5}), (1, {"predictions": ("image", (4, 6, 3))})]


def test_wandb_never_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = FakeWandb(None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    RunLog(tmp_path).close()
    assert not wandb.runs
