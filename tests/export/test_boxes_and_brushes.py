"""MOTChallenge and Label Studio."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stm_fast.export.label_studio import brush_runs
from tests.export.conftest import NAMES, masks


def test_mot_boxes(export):
    rows = [[float(each) for each in line.split(",")] for line in export("mot").read_text().splitlines()]
    expected = []
    for index, mask in enumerate(masks()):
        for object_id in np.unique(mask)[1:].tolist():
            ys, xs = np.nonzero(mask == object_id)
            left, top = xs.min() + 1, ys.min() + 1
            size = xs.max() - xs.min() + 1, ys.max() - ys.min() + 1
            expected.append([index + 1, object_id, left, top, *size, 1, -1, -1, -1])
    assert rows == expected
    assert [4, 255, 67, 1, 1, 1, 1, -1, -1, -1] in rows


def unpacked(data: bytes) -> list[int]:
    """Read the code as its description says: a reader of bits."""
    bits = "".join(f"{each:08b}" for each in data)
    place = 0

    def take(count):
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    count, width = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values = []
    while len(values) < count:
        run = take(1)
        length = take(sizes[take(2)]) + 1
        values += [take(width)] * length if run else [take(width) for _ in range(length)]
    assert len(bits) - place < 8
    return values


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=30)))
def test_brushes_come_back_bit_for_bit(mask):
    values = np.array(unpacked(brush_runs(mask))).reshape(*mask.shape, 4)
    np.testing.assert_array_equal(values, np.where(mask, 255, 0)[..., None].repeat(4, 2))


@given(st.integers(0, 3))
def test_long_runs_are_split(extra):
    mask = np.zeros((1, (1 << 15) + extra), bool)
    assert unpacked(brush_runs(mask)) == [0] * (4 * mask.size)


def test_a_task_for_each_frame(export):
    tasks = json.loads(export("labelstudio", image_root="/data/", categories={2: "dog"}).read_text())
    assert [task["data"]["image"] for task in tasks] == [f"/data/{name}.png" for name in NAMES]
    for task, mask in zip(tasks, masks(), strict=True):
        (prediction,) = task["predictions"]
        found = {int(region["id"].split("-")[1]): region for region in prediction["result"]}
        assert sorted(found) == np.unique(mask)[1:].tolist()
        for object_id, region in found.items():
            assert (region["original_height"], region["original_width"]) == mask.shape
            assert region["value"]["brushlabels"] == ["dog" if object_id == 2 else "object"]
            values = np.array(unpacked(bytes(region["value"]["rle"]))).reshape(*mask.shape, 4)
            np.testing.assert_array_equal(values[..., 3] == 255, mask == object_id)
