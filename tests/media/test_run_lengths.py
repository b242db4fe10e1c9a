"""Run lengths of COCO are those of its reference code."""

import numpy as np
import pytest

from stm_fast.errors import MediaError
from stm_fast.media.run_lengths import decode_runs, encode_runs

SIZES = [(1, 1), (48, 64), (480, 3), (300, 401)]


def masks(size):
    """No pixel, all, noise, one long run, and blobs whose columns differ in length."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    yield np.zeros(size, bool)
    yield np.ones(size, bool)
    yield np.random.default_rng(0).random(size) < 0.3
    yield rows < size[0] // 2
    yield (rows - size[0] / 2) ** 2 + (columns - size[1] / 3) ** 2 < size[1] ** 2 / 9


@pytest.mark.parametrize("size", SIZES)
def test_they_are_those_of_pycocotools(size):
    coco = pytest.importorskip("pycocotools.mask")
    for mask in masks(size):
        assert encode_runs(mask) == coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()


@pytest.mark.parametrize("size", SIZES)
def test_a_mask_comes_back(size):
    for mask in masks(size):
        decoded = decode_runs(encode_runs(mask), size)
        assert decoded.dtype == bool
        np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("text", ["", "1", "P", "O", "52203203"])
def test_what_does_not_fill_the_mask(text):
    with pytest.raises(MediaError, match="run lengths must fill 5×4 pixels"):
        decode_runs(text, (4, 5))
