"""The display matrix, held against FFmpeg's own filters and pictures."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stm_fast.media.display import upright
from stm_fast.media.sources import open_frames

DATA = Path(__file__).parent / "data"
ONE = 1 << 16

# What the ffmpeg program puts before its output for (a, b, c, d) of the matrix.
FILTERS = {
    (ONE, 0, 0, ONE): [],
    (-ONE, 0, 0, ONE): [("hflip", None)],
    (ONE, 0, 0, -ONE): [("vflip", None)],
    (-ONE, 0, 0, -ONE): [("hflip", None), ("vflip", None)],
    (0, ONE, ONE, 0): [("transpose", "cclock_flip")],
    (0, ONE, -ONE, 0): [("transpose", "clock")],
    (0, -ONE, ONE, 0): [("transpose", "cclock")],
    (0, -ONE, -ONE, 0): [("transpose", "clock_flip")],
}


def matrix(a, b, c, d):
    return (a, b, 0, c, d, 0, 0, 0, 1 << 30)


def filtered(image, filters):
    graph = av.filter.Graph()
    height, width = image.shape[:2]
    kind = av.VideoFormat("rgb24")
    nodes = [graph.add_buffer(width=width, height=height, format=kind, time_base=Fraction(1))]
    nodes += [graph.add(*each) for each in filters]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    graph.vpush(av.VideoFrame.from_ndarray(image, format="rgb24"))
    return graph.vpull().to_ndarray(format="rgb24")


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 255, (10, 14, 3)).astype(np.uint8)


@pytest.mark.parametrize("numbers", FILTERS)
@pytest.mark.parametrize("scale", [1, 3])
def test_quarter_turns_and_mirrors(picture, numbers, scale):
    scaled = matrix(*(number * scale for number in numbers))
    np.testing.assert_array_equal(upright(picture, scaled), filtered(picture, FILTERS[numbers]))


def test_other_angles_keep_the_size(picture):
    tilted = upright(picture, matrix(ONE * 3, ONE * 4, -ONE * 4, ONE * 3))
    np.testing.assert_array_equal(tilted, filtered(picture, [("rotate", "53*PI/180"), ("format", "rgb24")]))
    assert (tilted[0, 0] == 0).all()


def test_matrix_of_zeros_turns_nothing(picture):
    np.testing.assert_array_equal(upright(picture, matrix(0, 0, 0, 0)), picture)


@pytest.mark.parametrize("name", ["mirrored", "rot180", "rot90", "transposed"])
def test_videos_of_phones_and_front_cameras(name):
    expected = np.asarray(Image.open(DATA / f"first_{name}.png").convert("RGB"))  # by the ffmpeg program
    source = open_frames(DATA / f"{name}.mp4")
    assert source.size == expected.shape[:2]
    np.testing.assert_array_equal(next(iter(source)).image, expected)
