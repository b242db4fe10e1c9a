"""What is known of objects before the first frame: references, and the memory of another video."""

import math
from pathlib import Path

import pytest

from stm_fast import MemoryPolicy, Segmenter
from stm_fast.memory import presets
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.stores import DiskStore
from stm_fast.models.stm import STM
from tests.colours import Blocks, blocks_of


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


def test_what_is_usual_is_known_in_another_video(model: STM, paint: Blocks, ids: Blocks, tmp_path: Path) -> None:
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
