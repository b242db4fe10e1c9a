"""What a user does with a memory: shows references, chooses frames, freezes it, and resumes another day."""

import contextlib
import errno
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stm_fast import MemoryPolicy, Segmenter
from stm_fast.errors import RunStateError
from stm_fast.inference import run_state
from stm_fast.inference import segmenter as segmenter_module
from stm_fast.media.notices import MediaNotice
from stm_fast.memory import presets
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.stores import DiskStore
from stm_fast.models.stm import STM
from stm_fast.ops import compiled, cpu_engines
from stm_fast.ops.backends import cpu

Blocks = Callable[..., np.ndarray]


def blocks_of(mask: torch.Tensor) -> list[str]:
    """A mask of whole 16×16 blocks as the rows that drew it."""
    return ["".join(map(str, row)) for row in mask[::16, ::16].tolist()]


def test_references_show_what_to_follow(model: STM, paint: Blocks, ids: Blocks) -> None:
    """Pictures of any size, each with some of the objects; they stay however long the video is."""
    segmenter = Segmenter(model, policy=MemoryPolicy(every=1, max_frames=4))
    large = paint("bb..", "bb..", "....", "...."), ids("3300", "3300", "0000", "0000")
    references = [(paint("r.", "g."), ids("10", "20")), large]
    first = segmenter.start(paint(".b", "rg"), references=references)
    assert first.index == 0
    assert first.objects == (1, 2, 3)
    assert blocks_of(first.mask) == ["03", "12"]
    for _ in range(6):
        result = segmenter.step(paint("gr", "b."))
    assert blocks_of(result.mask) == ["21", "30"]
    assert segmenter.memory.frames == (-2, -1, 4, 5)


def test_references_beside_a_mask(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    result = segmenter.start(paint("rb", ".."), ids("50", "00"), references=[(paint("b.", ".."), ids("70", "00"))])
    assert result.objects == (7, 5)
    assert blocks_of(result.mask) == ["57", "00"]
    assert blocks_of(segmenter.step(paint(".r", "b.")).mask) == ["05", "70"]


def test_neither_mask_nor_references(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    segmenter.start(paint("r."), ids("10"))
    with pytest.raises(ValueError, match="mask must be given, or references or a memory that show the objects"):
        segmenter.start(paint("r."))
    with pytest.raises(ValueError, match="mask must hold an object"):
        segmenter.start(paint("r."), references=[(paint("r."), ids("00"))])
    assert segmenter.objects == (1,)


def test_a_video_begins_with_the_memory_of_another(
    model: STM, paint: Blocks, ids: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frames count as frames before the first; of a memory on disk as well."""
    monkeypatch.setitem(MemoryBank.__init__.__kwdefaults__, "split_bytes", 1)
    path = tmp_path / "state.safetensors"
    for store in (None, DiskStore(tmp_path / "memory")):
        before, after = (Segmenter(model, policy=MemoryPolicy(every=2), store=store) for _ in range(2))
        before.start(paint("rg", ".."), ids("30", "00"))
        for _ in range(4):
            before.step(paint(".r", "g."))
        before.save(path)
        result = after.start(paint("gr", ".b"), memory=path)
        assert (result.index, result.objects) == (0, (3,))
        assert blocks_of(result.mask) == ["03", "00"]
        result = after.start(paint("gr", ".b"), ids("00", "05"), memory=path)
        assert result.objects == (3, 5)
        assert blocks_of(result.mask) == ["03", "05"]
        for _ in range(3):
            result = after.step(paint(".b", "r."))
        assert blocks_of(result.mask) == ["05", "30"]
        assert after.memory.frames == (-5, -3, 0, 2)
        for segmenter in (before, after):
            assert (segmenter.memory.stored_bytes > 0) == (store is not None)


def test_what_is_usual_goes_on_in_another_video(model: STM, paint: Blocks, ids: Blocks, tmp_path: Path) -> None:
    """Not what was unsure of the frame that was annotated last: its masks were placed."""
    before, after = (Segmenter(model, policy=presets.diverse(8, every=1)) for _ in range(2))
    before.start(paint("rg", ".."), ids("30", "00"))
    for _ in range(4):
        before.step(paint(".r", "g."))
    before.annotate(ids("03", "00"))
    before.save(tmp_path / "state.safetensors")
    before.step(paint(".r", "g."))
    after.start(paint("gr", ".b"), memory=tmp_path / "state.safetensors")
    for segmenter in (before, after):
        (group,) = segmenter.memory.groups
        assert group.notes == before.memory.groups[0].notes
        assert group.notes["frames near it"] == 3
        assert math.isnan(group.uncertainty)


def test_a_memory_that_does_not_fit_leaves_the_video_as_it_was(
    model: STM, paint: Blocks, ids: Blocks, tmp_path: Path
) -> None:
    path = tmp_path / "state.safetensors"
    segmenter = Segmenter(model)
    segmenter.start(paint("rg"), ids("30"))
    segmenter.save(path)
    with pytest.raises(ValueError, match=r"memory must be of frames that are \(32, 16\) .*got \(16, 32\)"):
        segmenter.start(paint("r", "g"), memory=path)
    with pytest.raises(ValueError, match="references must be none with a memory, got 1"):
        segmenter.start(paint("rg"), memory=path, references=[(paint("rg"), ids("10"))])
    assert blocks_of(segmenter.step(paint("gr")).mask) == ["03"]


def test_chosen_frames_stay_and_frozen_memories_do_not_change(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model, policy=MemoryPolicy(every=1, max_frames=4))
    segmenter.start(paint("r."), ids("10"))
    for index in range(1, 9):
        segmenter.step(paint(".r"))
        if index == 3:
            segmenter.remember()
    assert segmenter.memory.frames == (0, 3, 6, 7)
    segmenter.memory.frozen = True
    for _ in range(3):
        segmenter.step(paint("r."))
    assert segmenter.memory.frames == (0, 3, 6, 7)
    segmenter.annotate(ids("10"))
    segmenter.step(paint("r."))
    assert segmenter.memory.frames == (0, 3, 7, 11)


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("policy", [presets.least_used(4, every=1), presets.diverse(4, every=1)])
def test_a_saved_segmenter_goes_on_to_the_same_bits(
    model: STM, paint: Blocks, ids: Blocks, tmp_path: Path, policy: MemoryPolicy, size: int | None
) -> None:
    frames = [paint("r..", "g.b"), paint("..r", "gb."), paint(".r.", "bg."), paint("rgb", "...")]
    whole, resumed = (Segmenter(model, policy=policy, size=size) for _ in range(2))
    whole.start(frames[0], ids("100", "200"))
    for frame in frames[1:]:
        whole.step(frame)
    whole.annotate(ids("003", "000"))
    whole.save(tmp_path / "state.safetensors", {"note": [1, 2]})
    assert resumed.restore(tmp_path / "state.safetensors") == {"note": [1, 2]}
    assert (resumed.objects, resumed.frame_index) == (whole.objects, whole.frame_index)
    for frame in frames:
        expected, result = whole.step(frame), resumed.step(frame)
        assert torch.equal(result.probabilities, expected.probabilities)
        for one, other in zip(whole.memory.groups, resumed.memory.groups, strict=True):
            assert (one.frames, one.notes) == (other.frames, other.notes)
            assert one.uncertainty == pytest.approx(other.uncertainty, abs=0, rel=0, nan_ok=True)
        assert resumed.memory.table() == whole.memory.table()


@pytest.fixture
def read_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the engines that read, one a call."""
    names: list[str] = []
    engine_of = cpu.engine_of

    def asked(*arguments: Any, **options: Any) -> int:
        index = engine_of(*arguments, **options)
        names.append(compiled.instruction_sets()[index])
        return index

    monkeypatch.setattr(cpu, "engine_of", asked)
    return names


@pytest.mark.skipif(len(compiled.instruction_sets()) < 2, reason="this machine executes one instruction set only")
def test_a_saved_segmenter_keeps_the_engine_that_read(
    model: STM, paint: Blocks, ids: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_by: list[str]
) -> None:
    """Whatever another process chose meanwhile; a new video takes that choice."""
    monkeypatch.delenv("STM_FAST_CPU_ISA", raising=False)
    path = tmp_path / "state.safetensors"
    best, least = compiled.instruction_sets()[0], compiled.instruction_sets()[-1]
    monkeypatch.setattr(cpu_engines, "_chosen", {"small": least})
    whole, resumed = Segmenter(model), Segmenter(model)
    whole.start(paint("r."), ids("10"))
    whole.step(paint(".r"))
    whole.save(path)
    monkeypatch.setattr(cpu_engines, "_chosen", {"small": best})
    resumed.restore(path)
    for segmenter in (whole, resumed):
        segmenter.step(paint("r."))
    resumed.save(path)
    resumed.start(paint("r."), ids("10"), memory=None)
    resumed.step(paint(".r"))
    resumed.restore(path)
    resumed.step(paint(".r"))
    assert read_by == [least, least, least, best, least]


@pytest.mark.skipif(len(compiled.instruction_sets()) < 2, reason="this machine executes one instruction set only")
def test_a_state_of_a_machine_with_another_engine_is_told_of(
    model: STM, paint: Blocks, ids: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_by: list[str]
) -> None:
    monkeypatch.delenv("STM_FAST_CPU_ISA", raising=False)
    path = tmp_path / "state.safetensors"
    best, *others = compiled.instruction_sets()
    monkeypatch.setattr(cpu_engines, "_chosen", {"small": best})
    segmenter = Segmenter(model)
    segmenter.start(paint("r."), ids("10"))
    segmenter.step(paint(".r"))
    segmenter.save(path)
    monkeypatch.setattr(cpu_engines, "_chosen", {})
    monkeypatch.setattr(compiled, "instruction_sets", lambda: others)
    with pytest.warns(MediaNotice, match=f"state.safetensors was saved where the memory was read by {best}, which"):
        segmenter.restore(path)
    assert blocks_of(segmenter.step(paint("r.")).mask) == ["10"]
    assert read_by == [best, others[0]]


def test_a_state_goes_with_its_model_and_settings(model: STM, paint: Blocks, ids: Blocks, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    segmenter = Segmenter(model)
    with pytest.raises(RuntimeError, match="call start"):
        segmenter.save(path)
    with pytest.raises(RunStateError, match="does not exist"):
        segmenter.restore(path)
    segmenter.start(paint("r."), ids("10"))
    segmenter.save(path)
    with pytest.raises(RunStateError, match=r"saved with policy MemoryPolicy\(every=5.*this segmenter has .*every=2"):
        Segmenter(model, policy=MemoryPolicy(every=2)).restore(path)
    with pytest.raises(RunStateError, match="saved with size None, this segmenter has 16"):
        Segmenter(model, size=16).restore(path)
    with pytest.raises(RunStateError, match="saved with top_k None, this segmenter has 3"):
        Segmenter(model, top_k=3).restore(path)
    with torch.no_grad():
        model.query_head.gain += 1
    with pytest.raises(RunStateError, match="saved with model"):
        Segmenter(model).restore(path)
    assert segmenter.objects == (1,)


def test_a_full_disk_leaves_the_state_before(
    model: STM, paint: Blocks, ids: Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.safetensors"
    segmenter = Segmenter(model)
    segmenter.start(paint("r."), ids("10"))
    segmenter.save(path)
    before = path.read_bytes()

    def full(partial: Path, *_: object) -> None:
        partial.write_bytes(b"the beginning")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_state, "write_tensors", full)
    segmenter.step(paint(".r"))
    with pytest.raises(OSError, match="No space left"):
        segmenter.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_frames_are_forgotten_and_looked_at_in_the_middle_of_a_video(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model, policy=MemoryPolicy(every=1))
    segmenter.start(paint("r.", "g."), ids("30", "70"))
    for _ in range(4):
        segmenter.step(paint("r.", "g."))
    segmenter.memory.forget(2)
    assert segmenter.memory.frames == (0, 1, 3)
    segmenter.remove(3)
    assert segmenter.step(paint("g.", "..")).objects == (7,)
    assert "7" in str(segmenter.memory.table(segmenter.objects)).splitlines()[1]
    with pytest.raises(ValueError, match="names must be one for each of 1 objects, got 0"):
        segmenter.memory.table([])


def test_the_table_is_there_at_any_time(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model, policy=presets.diverse(4))
    segmenter.start(paint("r."), ids("10"))
    assert not segmenter.memory.table(segmenter.objects).rows
    segmenter.step(paint("r."))
    segmenter.annotate(ids("02"))
    assert [row.objects for row in segmenter.memory.table(segmenter.objects).rows] == [(1,)]


def test_a_state_with_any_other_character_in_its_header_is_refused(
    model: STM, paint: Blocks, ids: Blocks, tmp_path: Path
) -> None:
    """Whatever it was: a number of a frame, a role, a name."""
    path = tmp_path / "state.safetensors"
    segmenter = Segmenter(model, policy=presets.long_term(4, every=1))
    segmenter.start(paint("r.", ".b"), ids("10", "02"))
    for _ in range(6):
        segmenter.step(paint("r.", ".b"))
    segmenter.save(path, {"index": 6})
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    other = Segmenter(model, policy=presets.long_term(4, every=1))
    for place in range(8, 8 + len(whole[8 : 8 + header].rstrip()), 7):
        damaged = bytearray(whole)
        damaged[place] = ord("7") if damaged[place] != ord("7") else ord("8")
        path.write_bytes(damaged)
        with pytest.raises(RunStateError):
            other.restore(path)
    path.write_bytes(whole)
    assert other.restore(path) == {"index": 6}


@pytest.mark.parametrize("damage", ["all", "one"])
def test_a_state_whose_numbers_became_zeros_is_refused(
    model: STM, paint: Blocks, ids: Blocks, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "state.safetensors"
    segmenter = Segmenter(model)
    segmenter.start(paint("r."), ids("10"))
    for _ in range(2):
        segmenter.step(paint(".r"))
    segmenter.save(path)
    whole = path.read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    last = len(whole.rstrip(b"\0"))
    assert last > begin
    first = begin if damage == "all" else last - 1
    path.write_bytes(whole[:first] + bytes(len(whole) - first))
    with pytest.raises(RunStateError, match=r"is damaged \(its checksum is not that of its content\) and cannot be"):
        segmenter.restore(path)
    assert segmenter.frame_index == 2


def test_a_state_of_an_earlier_version_is_refused(model: STM, paint: Blocks, ids: Blocks, tmp_path: Path) -> None:
    """Also one without a checksum."""
    path = tmp_path / "state.safetensors"
    save_file({"frame.inner": torch.ones(1)}, path, {"format": '"stm-fast segmenter 4"', "digest": "0"})
    with pytest.raises(RunStateError, match=r"was not written by Segmenter\.save of this version"):
        Segmenter(model).restore(path)


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


def test_a_video_goes_on_when_another_cannot_begin(model: STM, paint: Blocks, ids: Blocks, tmp_path: Path) -> None:
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


def test_ids_of_any_integer_type_are_saved(model: STM, paint: Blocks, ids: Blocks, tmp_path: Path) -> None:
    segmenter = Segmenter(model)
    mask = ids("12").astype(np.uint8)
    segmenter.start(paint("rg"), mask)
    segmenter.annotate(mask, objects=[found for found in np.unique(mask) if found])
    segmenter.save(tmp_path / "state.safetensors")
    assert all(type(found) is int for found in segmenter.objects)


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


def test_the_uncertainty_of_a_frame(model, paint, ids):
    segmenter = Segmenter(model)
    given = segmenter.start(paint("rg", ".."), ids("12", "00"))
    assert given.uncertainty.isnan().all()
    found = segmenter.step(paint("gr", ".."))
    inside = found.probabilities[1:]
    expected = (inside * (1 - inside)).sum((1, 2)) / inside.sum((1, 2)).sqrt()
    torch.testing.assert_close(found.uncertainty, expected)
    corrected = segmenter.annotate(ids("20", "00"), [2])
    assert corrected.uncertainty.isnan().tolist() == [False, True]
