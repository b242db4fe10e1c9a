"""What enters the memory, what is filled, encoded, chosen and forgotten in it."""

import math
from pathlib import Path

import pytest
import torch

from stm_fast import MemoryPolicy, Segmenter
from stm_fast.memory import presets
from stm_fast.memory.policies import Certain, uncertainty
from stm_fast.memory.stores import DiskStore
from stm_fast.models.card import ModelCard
from stm_fast.models.stm import STM
from tests.colours import Blocks, blocks_of


def test_annotated_frames_stay_in_memory(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model, policy=MemoryPolicy(every=None))
    frame, mask = paint("r.", "g."), ids("10", "20")
    segmenter.start(frame, mask)
    for index in range(1, 6):
        segmenter.step(frame)
        if index == 2:
            segmenter.annotate(mask)
    assert sorted(segmenter.memory.frames) == [0, 2, 4]


def test_the_official_policy_by_default(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    frame = paint("r.", "..")
    segmenter.start(frame, ids("10", "00"))
    seen = []
    for _ in range(12):
        segmenter.step(frame)
        seen.append(sorted(segmenter.memory.frames))
    assert seen == [
        *([0], [0, 1], [0, 2], [0, 3], [0, 4], [0, 5]),
        *([0, 5, 6], [0, 5, 7], [0, 5, 8], [0, 5, 9], [0, 5, 10], [0, 5, 10, 11]),
    ]


def test_a_store_changes_nothing_but_the_place(model: STM, paint: Blocks, ids: Blocks, tmp_path: Path) -> None:
    results = []
    for store in (None, DiskStore(tmp_path)):
        segmenter = Segmenter(model, policy=MemoryPolicy(every=2), store=store)
        segmenter.start(paint("r.", ".b"), ids("10", "00"))
        if store is not None:
            segmenter.memory.split_bytes = 1
        for index in range(9):
            segmenter.step(paint("r.", "gb") if index % 2 else paint(".r", "g."))
            if index == 3:
                segmenter.annotate(ids("10", "20"))
        segmenter.remove(1)
        results.append(segmenter.step(paint("r.", "gb")))
    assert segmenter.memory.stored_bytes > 0
    assert results[0].objects == results[1].objects == (2,)
    torch.testing.assert_close(results[1].probabilities, results[0].probabilities, rtol=0, atol=1e-5)


def test_frames_that_are_not_kept_are_not_encoded(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model, policy=MemoryPolicy(every=3, keep_previous=False))
    encoded = []
    encode = segmenter.model.encode_memory
    segmenter.model.encode_memory = lambda *inputs: encoded.append(segmenter.frame_index) or encode(*inputs)
    segmenter.start(paint("r.", ".."), ids("10", "00"))
    for _ in range(8):
        segmenter.step(paint("r.", ".."))
    assert encoded == [0, 3, 6]


def test_the_memory_knows_how_sure_the_network_was(model: STM, paint: Blocks, ids: Blocks) -> None:
    """Of masks that were given nothing is known, whatever the size that the network sees them at."""
    decide = model.decoder.forward
    model.decoder.forward = lambda *what: decide(*what) / 10
    for size in (None, 48):
        segmenter = Segmenter(model, policy=MemoryPolicy(every=1, admission=Certain()), size=size)
        results = [
            segmenter.start(paint("rr..", "..gg"), ids("1100", "0022")),
            segmenter.step(paint("rr..", ".ggg")),
            segmenter.annotate(ids("1100", "0000"), [1]),
            segmenter.step(paint("rr..", "..gg")),
        ]
        known = [memorised(segmenter)]
        segmenter.step(paint("rr..", "..gg"))
        known.append(memorised(segmenter))
        assert math.isnan(known[0][0])
        assert known[0][1] > 0
        if size is None:
            expected = [uncertainty(results[which].probabilities[1:])[row] for which, row in ((2, 1), (3, 0), (3, 1))]
            assert [known[0][1], *known[1]] == pytest.approx([float(each) for each in expected], rel=1e-4)


def memorised(segmenter: Segmenter) -> list[float]:
    """Return the uncertainty of each object in the last frame in memory."""
    return [group.uncertainty for group in segmenter.memory.groups]


def test_of_masks_that_are_taken_over_nothing_is_known(model: STM, paint: Blocks, ids: Blocks) -> None:
    """At another size they are soft, and would set a standard."""
    segmenter = Segmenter(model, policy=MemoryPolicy(every=1, admission=Certain()), size=48)
    segmenter.start(paint("rr..", "..gg"), ids("1100", "0022"))
    for _ in range(3):
        segmenter.recall(paint("rr..", ".ggg"), ids("1100", "0222"))
    assert all(math.isnan(found) for found in memorised(segmenter))
    assert not any(group.notes for group in segmenter.memory.groups)
    segmenter.step(paint("rr..", "..gg"))
    segmenter.step(paint("rr..", "..gg"))
    assert not any(math.isnan(found) for found in memorised(segmenter))


def test_a_correction_of_one_object_keeps_the_frame_for_that_one(model: STM, paint: Blocks, ids: Blocks) -> None:
    """If each has a memory of its own; what it was for others is the network's word alone."""
    segmenter = Segmenter(model, policy=MemoryPolicy(every=None, admission=Certain()))
    segmenter.start(paint("rr..", "..gg"), ids("1100", "0022"))
    segmenter.step(paint("rr..", ".ggg"))
    segmenter.annotate(ids("1000", "0000"), [1])
    for _ in range(2):
        segmenter.step(paint("rr..", ".ggg"))
    assert [group.frames for group in segmenter.memory.groups] == [(0, 1, 2), (0, 2)]


def test_holes_are_filled_in_what_is_remembered_of_given_masks_alone(model: STM, paint: Blocks, ids: Blocks) -> None:
    segmenter = Segmenter(model)
    segmenter.model.card, seen = ModelCard(hole_size=16), []
    encode = segmenter.model.encode_memory
    segmenter.model.encode_memory = lambda frame, masks, others: seen.append(masks) or encode(frame, masks, others)
    frame, holed = paint("...", "rrr", "..."), ids("000", "101", "000")
    first = segmenter.start(frame, holed)
    second = segmenter.step(frame)
    segmenter.step(frame)
    assert blocks_of(first.mask) == ["000", "101", "000"]
    assert [int(masks.sum()) // 256 for masks in seen] == [3, int((second.mask > 0).sum()) // 256]
    segmenter.annotate(holed)
    segmenter.step(frame)
    assert int(seen[-1].sum()) == 3 * 256


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
