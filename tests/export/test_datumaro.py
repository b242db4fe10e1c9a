"""Datumaro reads COCO and CVAT back.

It needs an older Pillow and another build of OpenCV, and so an environment of its own: `make test-datumaro` makes one.
`STM_FAST_DATUMARO` names its Python.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.export.conftest import NAMES, SIZE, masks
from tests.rasters import overlap

READER = Path(__file__).with_name("read_with_datumaro.py")
PYTHON = os.environ.get("STM_FAST_DATUMARO")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="needs STM_FAST_DATUMARO: run make test-datumaro")


def read(format_, path):
    command = [PYTHON, READER, format_, path, *SIZE]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False, env=clean)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.partition("FOUND ")[2])
    for each in found:
        bits = np.unpackbits(np.array(each["mask"], np.uint8), count=SIZE[0] * SIZE[1])
        each["mask"] = bits.reshape(SIZE).astype(bool)
    return found


def box(mask):
    rows, columns = np.nonzero(mask)
    left, top = columns.min(), rows.min()
    return [left, top, columns.max() - left + 1, rows.max() - top + 1]


def test_coco(export):
    found = read("coco", export("coco", categories={2: "dog"}, images=True))
    assert len(found) == sum(len(np.unique(mask)) - 1 for mask in masks())
    rebuilt = np.zeros((len(NAMES), *SIZE), np.uint8)
    for each in found:
        object_id = each["attributes"]["track_id"]
        assert each["label"] == ("dog" if object_id == 2 else "object")
        assert each["box"] == box(each["mask"])
        rebuilt[NAMES.index(each["item"])][each["mask"]] = object_id
    np.testing.assert_array_equal(rebuilt, masks())


def test_cvat(export):
    found = read("cvat", export("cvat-video", categories={2: "dog"}))
    seen = {}
    for each in found:
        object_id = each["attributes"]["track_id"]
        assert each["label"] == ("dog" if object_id == 2 else "object")
        if not each["attributes"]["outside"]:
            seen[object_id, each["frame"]] = each
    truth = {(i, index): mask == i for index, mask in enumerate(masks()) for i in np.unique(mask)[1:].tolist()}
    assert seen.keys() == truth.keys()
    for (object_id, frame), mask in truth.items():
        got = seen[object_id, frame]
        np.testing.assert_allclose(got["box"], box(mask), atol=0.5)
        if object_id != 255:
            assert overlap(got["mask"], mask) > 0.95, (object_id, frame)
