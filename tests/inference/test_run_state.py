"""Run states: a saved segmenter resumes to the same bits, and what is damaged or of something else is refused."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stm_fast import MemoryPolicy, Segmenter
from stm_fast.errors import RunStateError
from stm_fast.inference import run_state
from stm_fast.media.notices import MediaNotice
from stm_fast.memory import presets
from stm_fast.models.compact import compact_stm
from stm_fast.models.stm import STM
from stm_fast.ops import compiled, cpu_engines
from stm_fast.ops.backends import cpu
from tests.colours import Blocks, blocks_of


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("policy", [presets.least_used(4, every=1), presets.diverse(4, every=1)])
def test_a_saved_segmenter_resumes_to_the_same_bits(
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
def test_reads_inside_a_network_keep_their_engine_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_by: list[str]
) -> None:
    monkeypatch.delenv("STM_FAST_CPU_ISA", raising=False)
    path, frame = tmp_path / "state.safetensors", np.zeros((32, 32, 3), np.uint8)
    best, least = compiled.instruction_sets()[0], compiled.instruction_sets()[-1]
    whole, resumed = (Segmenter(compact_stm(), top_k=None) for _ in range(2))
    resumed.model.load_state_dict(whole.model.state_dict())
    monkeypatch.setattr(cpu_engines, "_chosen", {"small": least})
    whole.start(frame, np.ones((32, 32), np.uint8))
    whole.step(frame)
    whole.save(path)
    monkeypatch.setattr(cpu_engines, "_chosen", {"small": best})
    read_by.clear()
    resumed.restore(path)
    resumed.step(frame)
    assert read_by == [least] * 3


@pytest.mark.skipif(len(compiled.instruction_sets()) < 2, reason="this machine executes one instruction set only")
def test_a_notice_tells_of_a_state_whose_engine_is_missing(
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
    with pytest.raises(RunStateError, match="saved with other weights"):
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


def test_ids_of_any_integer_type_are_saved(model: STM, paint: Blocks, ids: Blocks, tmp_path: Path) -> None:
    segmenter = Segmenter(model)
    mask = ids("12").astype(np.uint8)
    segmenter.start(paint("rg"), mask)
    segmenter.annotate(mask, objects=[found for found in np.unique(mask) if found])
    segmenter.save(tmp_path / "state.safetensors")
    assert all(type(found) is int for found in segmenter.objects)
