"""Calls that raise leave the video where it was, and can be repeated."""

import contextlib
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from stm_fast import MemoryPolicy, Segmenter
from stm_fast.errors import RunStateError
from stm_fast.inference import segmenter as segmenter_module
from stm_fast.memory import presets
from stm_fast.memory.stores import DiskStore
from stm_fast.models.stm import STM
from tests.colours import Blocks, blocks_of


def fail(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["encode_memory", "encode_query", "read", "decode"])
def test_a_step_that_failed_can_be_repeated(
    model: STM, paint: Blocks, ids: Blocks, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    frames = [paint("r..", "g.b"), paint("..r", "gb."), paint(".r.", "bg."), paint("rgb", "...")]
    calm, shaken = (Segmenter(model, policy=MemoryPolicy(every=2, max_frames=3)) for _ in range(2))
    for segmenter in (calm, shaken):
        segmenter.start(frames[0], ids("100", "200"))
    for index, frame in enumerate([*frames[1:], *frames], 1):
        with monkeypatch.context() as patch:
            patch.setattr(shaken.memory if stage == "read" else shaken.model, stage, fail)
            with pytest.raises(KeyboardInterrupt):
                shaken.step(frame)
        assert shaken.frame_index == index - 1
        expected, result = calm.step(frame), shaken.step(frame)
        assert result.index == expected.index == index
        assert torch.equal(result.mask, expected.mask)
        assert torch.equal(result.probabilities, expected.probabilities)
        assert shaken.memory.frames == calm.memory.frames


@pytest.mark.parametrize("edit", ["annotate", "remove"])
def test_an_edit_between_a_failed_step_and_its_repetition(
    model: STM, paint: Blocks, ids: Blocks, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    arguments = {"annotate": ids("007", "020"), "remove": 2}
    calm, shaken = Segmenter(model), Segmenter(model)
    for segmenter in (calm, shaken):
        segmenter.start(paint("r.b", "g.."), ids("100", "200"))
        segmenter.step(paint("r.b", "g.."))
        if segmenter is shaken:
            with monkeypatch.context() as patch:
                patch.setattr(shaken.model, "decode", fail)
                with pytest.raises(KeyboardInterrupt):
                    shaken.step(paint("b..", "..r"))
        getattr(segmenter, edit)(arguments[edit])
    expected, result = (segmenter.step(paint("b..", "g.r")) for segmenter in (calm, shaken))
    assert result.objects == expected.objects
    assert torch.equal(result.probabilities, expected.probabilities)
    for ours, theirs in zip(shaken.memory.groups, calm.memory.groups, strict=True):
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)


@pytest.mark.parametrize("stage", ["encode_query", "decode", "to_mask"])
def test_a_step_that_failed_leaves_usage_where_it_was(
    model: STM, paint: Blocks, ids: Blocks, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Whether it failed before the memory was read, or after."""
    calm, shaken = (Segmenter(model, policy=presets.least_used(4, every=1)) for _ in range(2))
    owner = segmenter_module if stage == "to_mask" else shaken.model
    function, failures = getattr(owner, stage), iter([])

    def sometimes(*inputs: object) -> object:
        if next(failures, False):
            raise KeyboardInterrupt
        return function(*inputs)

    monkeypatch.setattr(owner, stage, sometimes)
    for segmenter in (calm, shaken):
        segmenter.start(paint("r.", "g."), ids("10", "20"))
    for frame in (paint("r.", ".g"), paint(".r", "g."), paint("rg", ".."), paint("..", "gr")):
        calm.step(frame)
        failures = iter([True, True, False])
        while shaken.frame_index < calm.frame_index:
            with contextlib.suppress(KeyboardInterrupt):
                shaken.step(frame)
        assert shaken.memory.table() == calm.memory.table()


def test_a_bad_start_leaves_the_video_as_it_was(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    segmenter.start(paint("r.", "g."), ids("10", "20"))
    with pytest.raises(ValueError, match="mask must hold an object, got 0"):
        segmenter.start(paint("r.", "g."), ids("00", "00"))
    with pytest.raises(ValueError, match=r"first frame's size \(32, 32\), got \(16, 32\)"):
        segmenter.step(paint("r."))
    assert segmenter.frame_index == 0
    assert blocks_of(segmenter.step(paint("g.", "r.")).mask) == ["20", "10"]


def test_a_video_continues_when_another_cannot_begin(model: STM, paint: Blocks, ids: Blocks, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    stored = Segmenter(model, policy=MemoryPolicy(every=1), store=DiskStore(tmp_path / "memory"))
    stored.start(paint("r."), ids("10"))
    stored.memory.split_bytes = 1
    for _ in range(4):
        stored.step(paint("r."))
    stored.save(path)
    segmenter = Segmenter(model, policy=MemoryPolicy(every=1))
    segmenter.start(paint("b."), ids("50"))
    segmenter.step(paint(".b"))
    with pytest.raises(RunStateError, match="saved with a store"):
        segmenter.restore(path)
    assert blocks_of(segmenter.step(paint("b.")).mask) == ["50"]
    again = Segmenter(model, policy=MemoryPolicy(every=1), store=DiskStore(tmp_path / "memory"))
    again.restore(path)
    assert again.memory.frames == stored.memory.frames
    with pytest.raises(ValueError, match="frame 0 has moved to the store"):
        again.memory.forget(0)
    segmenter.save(path)
    again.restore(path)
    assert blocks_of(again.step(paint(".b")).mask) == ["05"]


def test_a_segmenter_is_for_one_thread_at_a_time(model, paint, ids):
    """The second call raises and the first is not harmed."""
    inside, leave = threading.Event(), threading.Event()
    segmenter = Segmenter(model)
    decode = segmenter.model.decode

    def slowly(*inputs):
        inside.set()
        assert leave.wait(60)
        return decode(*inputs)

    segmenter.model.decode = slowly
    segmenter.start(paint("r.", ".."), ids("10", "00"))
    results = []
    thread = threading.Thread(target=lambda: results.append(segmenter.step(paint(".r", ".."))))
    thread.start()
    assert inside.wait(60)
    for call in (
        lambda: segmenter.step(paint("..", "r.")),
        lambda: segmenter.annotate(ids("10", "00")),
        lambda: segmenter.remove(1),
        segmenter.remember,
    ):
        with pytest.raises(RuntimeError, match="another thread used this Segmenter"):
            call()
    leave.set()
    thread.join(60)
    assert results[0].index == 1
    np.testing.assert_array_equal(results[0].mask, ids("01", "00"))
    assert segmenter.step(paint("..", "r.")).index == 2
