"""Outlines: exact, simple, and close to the mask if they are simplified."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stm_fast.media.outlines import area, outlines, simplified
from tests.rasters import filled, overlap


def rings(found):
    return [ring for outline in found for ring in (outline.exterior, *outline.holes)]


@settings(max_examples=150)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_outlines_are_exact(mask):
    found = outlines(mask)
    np.testing.assert_array_equal(filled(rings(found), mask.shape), mask)
    for outline in found:
        inside = filled([outline.exterior], mask.shape)
        assert area(outline.exterior) == inside.sum()
        for hole in outline.holes:
            gap = filled([hole], mask.shape)
            assert area(hole) == -gap.sum()
            assert (inside | ~gap).all()
    for ring in rings(found):
        assert len({tuple(corner) for corner in ring.tolist()}) == len(ring)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)), st.floats(0.05, 0.3))
@settings(max_examples=50)
def test_what_is_small_keeps_its_area(mask, tolerance):
    for exact, short in zip(rings(outlines(mask)), rings(outlines(mask, tolerance)), strict=True):
        assert abs(area(short) / area(exact) - 1) <= 0.02


def test_holes_belong_to_the_part_around_them():
    mask = np.zeros((9, 14), bool)
    mask[:, :9], mask[1:8, 1:8], mask[2:7, 2:7], mask[4, 4], mask[1:4, 10:13], mask[2, 11] = 1, 0, 1, 0, 1, 0
    found = outlines(mask)
    assert [area(each.exterior) for each in found] == [81, 25, 9]
    assert [[area(hole) for hole in each.holes] for each in found] == [[-49], [-1], [-1]]


def test_pixels_that_touch_at_a_corner_are_parts():
    assert len(outlines(np.eye(3, dtype=bool))) == 3
    ring = ~np.eye(3, dtype=bool)
    ring[0, 0] = ring[2, 2] = True
    assert len(outlines(ring)) == 1


def test_corners_of_one_pixel():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    ((exterior, holes),) = outlines(mask, tolerance=5)
    assert sorted(exterior.tolist()) == [[2, 1], [2, 2], [3, 1], [3, 2]]
    assert holes == ()
    assert outlines(np.zeros((3, 4), bool)) == []


@pytest.mark.parametrize("radius", [4, 9, 20, 60])
@pytest.mark.parametrize("tolerance", [0.3, 0.4])
def test_simplified_outlines_are_close_and_short(radius, tolerance):
    rows, columns = np.mgrid[:130, :140]
    mask = (rows - 64.3) ** 2 + (columns - 70.8) ** 2 < radius**2
    short = rings(outlines(mask, tolerance))
    assert overlap(filled(short, mask.shape), mask) > 0.98
    assert len(short[0]) < (0.8 if radius > 10 else 1) * len(outlines(mask)[0].exterior)


def test_straight_lines_stay():
    mask = np.zeros((40, 50), bool)
    mask[5:30, 6:44] = True
    (exterior,) = rings(outlines(mask, 0.4))
    assert overlap(filled([exterior], mask.shape), mask) == 1
    assert len(exterior) <= 8
    assert len(simplified(outlines(mask)[0].exterior, 0)) == 4
