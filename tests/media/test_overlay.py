"""Overlays: what is tinted and outlined, and that it stands out."""

import itertools

import numpy as np
import pytest

from stm_fast.media.colours import COLOURS
from stm_fast.media.masks import DAVIS_PALETTE
from stm_fast.media.overlay import blend


def test_only_objects_are_tinted():
    frame = np.full((40, 40, 3), 100, np.uint8)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 1
    picture = blend(frame, mask, opacity=0.5)
    np.testing.assert_array_equal(picture[mask == 0], 100)
    inside, edge = picture[20, 20].astype(int), picture[10, 20].astype(int)
    assert inside[0] > 100 > inside[1] == inside[2]
    assert edge[0] > inside[0]
    np.testing.assert_array_equal(frame, 100)


def test_opacity_zero_leaves_only_outlines():
    frame = np.full((40, 40, 3), 100, np.uint8)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 3
    changed = (blend(frame, mask, opacity=0) != frame).any(-1)
    assert changed[10, 10:30].all()
    assert not changed[12:28, 12:28].any()


def disc(size=(60, 80), object_id=1, dtype=np.uint8):
    rows, columns = np.mgrid[: size[0], : size[1]]
    inside = (rows - size[0] / 2) ** 2 + (columns - size[1] / 2) ** 2 < (min(size) / 3) ** 2
    return (inside * object_id).astype(dtype)


def flat(colour, size=(60, 80)):
    return np.broadcast_to(np.array(colour, np.uint8), (*size, 3))


@pytest.mark.parametrize("object_id", [1, 2, 4, 7, 8, 9, 56, 63, 100, 255])
@pytest.mark.parametrize("background", ["white", "black", "red", "grey", "own"])
def test_outline_stands_out_from_any_frame(object_id, background):
    """A line all the way round differs from the frame by far, also where the frame has the object's own colour."""
    named = {"white": (255,) * 3, "black": (0,) * 3, "red": (230, 20, 20), "grey": (128,) * 3}
    frame = flat(named.get(background, COLOURS[object_id]))
    mask = disc(object_id=object_id)
    far = np.abs(blend(frame, mask).astype(int) - frame).sum(-1) > 220
    middle = mask.shape[0] // 2, mask.shape[1] // 2
    for ray in (far[: middle[0], middle[1]], far[middle[0] :, middle[1]], far[middle[0], : middle[1]]):
        assert ray.any()
    assert not far[mask == 0].any()


def test_objects_without_a_hue_are_told_apart_by_stripes():
    pictures = [blend(flat((128, 128, 128)), disc(object_id=object_id)) for object_id in (7, 56, 63)]
    for picture in pictures:
        assert np.ptp(picture[25:35, 30:50].astype(int)) > 60
    for first, second in itertools.combinations(pictures, 2):
        assert (first != second).any(-1)[25:35, 30:50].mean() > 0.2


def test_stripes_lie_still_when_other_objects_move():
    mask = disc(object_id=7)
    before = blend(flat((128, 128, 128)), mask)
    mask[2, 3] = 1
    np.testing.assert_array_equal(blend(flat((128, 128, 128)), mask)[10:], before[10:])


def test_first_ids_have_colours_of_their_own_and_keep_their_hue():
    first = COLOURS[1:16].astype(int)
    for one, other in itertools.combinations(first, 2):
        assert np.abs(one - other).sum() > 60
    for object_id in range(1, 256):
        davis, own = DAVIS_PALETTE[object_id].astype(int), COLOURS[object_id].astype(int)
        order = np.argsort(davis, kind="stable")
        assert (np.diff(own[order]) >= 0).all()


def test_ids_above_255_are_drawn():
    frame = flat((90, 90, 90))
    large, small = disc(object_id=300, dtype=np.int32), disc(object_id=45)
    np.testing.assert_array_equal(blend(frame, large), blend(frame, small))
    assert (blend(frame, large, labels=True) != blend(frame, large)).any()


def test_a_mask_without_objects_leaves_the_frame():
    frame = flat((90, 20, 90))
    np.testing.assert_array_equal(blend(frame, np.zeros((60, 80), np.uint8), labels=True), frame)
