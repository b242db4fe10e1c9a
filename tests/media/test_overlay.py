"""Overlays: what is tinted."""

import numpy as np

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
