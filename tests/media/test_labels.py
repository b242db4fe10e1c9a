"""Ids at their objects, and legends."""

import numpy as np
import pytest

from stm_fast.media.colours import COLOURS
from stm_fast.media.labels import NOWHERE, draw_labels, draw_legend, text_height

SIZE = (480, 854)


def drawn(mask, ground=128, legend=NOWHERE):
    """Where labels changed a flat picture, and that picture."""
    picture = np.full((*mask.shape, 3), ground, np.uint8)
    draw_labels(picture, mask, legend)
    return (picture != ground).any(-1), picture


def rectangle(top, left, bottom, right, object_id=1, size=SIZE, dtype=np.uint8):
    mask = np.zeros(size, dtype)
    mask[top:bottom, left:right] = object_id
    return mask


def box_of(changed):
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


@pytest.mark.parametrize("ground", [0, 128, 255])
@pytest.mark.parametrize("object_id", [1, 7, 4, 56, 255])
def test_text_is_readable_on_any_ground(ground, object_id):
    changed, picture = drawn(rectangle(100, 100, 300, 300, object_id), ground)
    shown = picture[changed].astype(int).mean(-1)
    assert max(shown.max(), ground) > 150
    assert min(shown.min(), ground) < 40


def test_a_large_object_carries_its_id_inside():
    mask = rectangle(100, 200, 300, 500)
    changed, _ = drawn(mask)
    assert changed.any()
    assert not changed[mask == 0].any()


def test_an_object_with_a_hole_carries_its_id_beside_the_hole():
    mask = rectangle(100, 100, 400, 500)
    mask[180:320, 200:400] = 0
    changed, _ = drawn(mask)
    assert changed.any()
    assert not changed[mask == 0].any()


@pytest.mark.parametrize("at", [(200, 400), (0, 0), (0, 848), (474, 0), (474, 848), (3, 400), (470, 400)])
def test_a_small_object_has_its_id_beside_it_and_whole(at):
    top, left = at
    mask = rectangle(top, left, top + 6, left + 6)
    whole, _ = drawn(rectangle(200, 400, 206, 406))
    changed, _ = drawn(mask)
    assert changed.sum() == whole.sum()
    assert not changed[mask > 0].any()
    box, near = box_of(changed), text_height(SIZE) * 2
    assert box[0] < top + 6 + near
    assert box[2] > top - near
    assert box[1] < left + 6 + near
    assert box[3] > left - near


def test_labels_of_neighbours_do_not_cover_one_another():
    separate = [rectangle(200, left, 206, left + 6, number) for number, left in enumerate((400, 409, 418), 1)]
    alone = sum(int(drawn(mask)[0].sum()) for mask in separate)
    together = int(drawn(sum(separate))[0].sum())
    assert together == alone


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_objects_smaller_than_the_grid_are_found(dtype):
    mask = rectangle(1000, 2001, 1200, 2203, 9, (1080, 3840), dtype)
    mask[701, 1003] = 3
    changed, _ = drawn(mask)
    assert changed[660:720, 980:1030].any()


def test_labels_keep_off_the_legend():
    picture = np.full((*SIZE, 3), 128, np.uint8)
    legend = draw_legend(picture, (1, 2))
    mask = rectangle(2, 4, 12, 20)
    mask[0:8, 60:66] = 2
    changed, _ = drawn(mask, legend=legend)
    assert changed.any()
    assert not changed[: legend.bottom, : legend.right].any()


def test_legend_shows_ids_beside_their_colours():
    picture = np.full((*SIZE, 3), 128, np.uint8)
    box = draw_legend(picture, (1, 2, 12))
    assert (box.top, box.left) == (0, 0)
    part = picture[: box.bottom, : box.right].reshape(-1, 3)
    for object_id in (1, 2, 12):
        assert (part == COLOURS[object_id]).all(1).sum() > 80
    assert not (part == COLOURS[3]).all(1).any()
    outside = np.ones(SIZE, bool)
    outside[: box.bottom, : box.right] = False
    assert (picture[outside] == 128).all()


@pytest.mark.parametrize("size", [(48, 64), (480, 854), (240, 426), (1920, 1080), (100, 2000), (2000, 100)])
@pytest.mark.parametrize("count", [1, 9, 200])
def test_legend_covers_no_more_than_it_may(size, count):
    picture = np.full((*size, 3), 128, np.uint8)
    box = draw_legend(picture, range(1, count + 1))
    assert box.bottom <= 0.12 * size[0]
    assert box.right <= size[1]
    assert (box == NOWHERE) == (picture == 128).all()


def test_legend_counts_what_it_has_no_room_for():
    whole, cut = np.zeros((480, 854, 3), np.uint8), np.zeros((480, 854, 3), np.uint8)
    draw_legend(cut, range(1, 101))
    count = next(n for n in range(1, 101) if (cut == COLOURS[n]).all(-1).sum() < 80) - 1
    assert count > 20
    draw_legend(whole, range(1, count + 1))
    added = (cut > 200).all(-1) & ~(whole > 200).all(-1)
    assert added.sum() > 20
    np.testing.assert_array_equal(cut[: text_height(SIZE) + 5], whole[: text_height(SIZE) + 5])


def test_no_objects_no_legend():
    assert draw_legend(np.zeros((480, 854, 3), np.uint8), ()) == NOWHERE
