"""Masks: everything people save as one is read as ids, or refused in a sentence."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.media.masks import DAVIS_PALETTE, fit_mask, object_ids, read_mask, write_mask
from stm_fast.media.notices import MediaNotice

IDS = np.array([[0, 1, 1], [2, 2, 7]], np.uint8)


@pytest.fixture(autouse=True)
def notices_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", MediaNotice)
        yield


@pytest.fixture
def saved(tmp_path):
    def save(pixels, mode=None, name="mask.png"):
        image = Image.fromarray(np.asarray(pixels))
        (image if mode is None else image.convert(mode)).save(tmp_path / name)
        return tmp_path / name

    return save


def test_davis_palette_begins_as_published():
    assert DAVIS_PALETTE[:9].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
        [0, 128, 128],
        [128, 128, 128],
        [64, 0, 0],
    ]
    assert len(np.unique(DAVIS_PALETTE, axis=0)) == 256


@given(mask=arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_any_mask_survives_being_written(tmp_path_factory, mask):
    path = tmp_path_factory.mktemp("masks") / "deeper" / "mask.png"
    write_mask(path, mask)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert image.getpalette()[: 3 * 8] == DAVIS_PALETTE[:8].flatten().tolist()
        np.testing.assert_array_equal(np.asarray(image), mask)
    np.testing.assert_array_equal(read_mask(path), mask)


def test_written_colours_read_as_rgb_give_the_ids_back(tmp_path):
    write_mask(tmp_path / "ids.png", IDS)
    Image.open(tmp_path / "ids.png").convert("RGB").save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "rgb.png"), IDS)


def test_grey_values_are_ids(saved):
    np.testing.assert_array_equal(read_mask(saved(IDS)), IDS)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "P"])
def test_black_and_white_is_one_object(saved, mode):
    path = saved(np.array([[0, 255], [255, 0]], np.uint8), mode)
    assert read_mask(path).tolist() == [[0, 1], [1, 0]]


def test_deep_black_and_white_is_one_object(saved):
    assert read_mask(saved(np.array([[0, 65535]], np.uint16))).tolist() == [[0, 1]]


def test_soft_edges_are_cut_at_one_half_with_a_notice(saved):
    ramp = np.full((40, 60), 255, np.uint8)
    ramp[:, :10] = 0
    ramp[:, 10:30] = np.linspace(2, 250, 20).astype(np.uint8) * (np.arange(40)[:, None] < 8)
    with pytest.warns(MediaNotice, match="soft edges"):
        mask = read_mask(saved(ramp))
    np.testing.assert_array_equal(mask, ramp > 127)


def test_a_few_grey_levels_between_black_and_white_are_soft_edges(saved):
    """As a black-and-white mask has after it was resized with interpolation."""
    mask = np.kron([[0, 255]], np.ones((20, 20))).astype(np.uint8)
    mask[:, 19], mask[:, 20] = 64, 191
    with pytest.warns(MediaNotice, match="soft edges"):
        assert np.array_equal(read_mask(saved(mask)), mask > 127)


def test_ids_and_void_are_not_soft_edges(saved):
    mask = np.kron([[0, 255]], np.ones((20, 20))).astype(np.uint8)
    mask[:2, :2] = [[1, 2], [3, 1]]
    np.testing.assert_array_equal(read_mask(saved(mask)), mask)


@pytest.mark.parametrize("palette", [[0, 0, 0, 255, 255, 255], [255, 255, 255, 0, 0, 0]])
def test_a_palette_of_black_and_white_is_read_by_its_colours(tmp_path, palette):
    image = Image.fromarray(np.array([[0, 1, 1]], np.uint8), "P")
    image.putpalette(palette)
    image.save(tmp_path / "mask.png")
    white = [[int(palette[3 * i] == 255) for i in (0, 1, 1)]]
    assert read_mask(tmp_path / "mask.png").tolist() == white


def test_negative_values_are_no_ids(tmp_path):
    Image.fromarray(np.array([[0, -1]], np.int32)).save(tmp_path / "mask.tif")
    with pytest.raises(MediaError, match="has the value -1"):
        read_mask(tmp_path / "mask.tif")


def test_transparent_pixels_are_background(saved):
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0] = [(128, 0, 0, 255), (128, 0, 0, 0), (0, 128, 0, 255)]
    assert read_mask(saved(pixels)).tolist() == [[1, 0, 2]]


def test_free_colours_are_numbered_and_stay_numbered(saved):
    red, blue, green = (250, 10, 10), (10, 10, 250), (10, 250, 10)
    first, second = np.array([[(0, 0, 0), red, blue]], np.uint8), np.array([[green, red, blue]], np.uint8)
    colours = {}
    with pytest.warns(MediaNotice, match=r"\(10, 10, 250\) is object 1, \(250, 10, 10\) is object 2"):
        assert read_mask(saved(first), colours).tolist() == [[0, 2, 1]]
    with pytest.warns(MediaNotice, match=r"\(10, 250, 10\) is object 3"):
        assert read_mask(saved(second), colours).tolist() == [[3, 2, 1]]


def test_a_photograph_is_not_a_mask(saved):
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    with pytest.raises(MediaError, match=r"has 256 colours: .* at most 32"):
        read_mask(saved(noise))


def test_ids_above_255(saved, tmp_path):
    with pytest.raises(MediaError, match="has object id 300 among its 3 values: masks hold ids 0 to 255"):
        read_mask(saved(np.array([[0, 5, 300]], np.uint16)))
    with pytest.raises(MediaError, match="object ids 0 to 256 do not fit"):
        write_mask(tmp_path / "out.png", np.array([[0, 256]]))
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_unreadable_mask(tmp_path, content):
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(MediaError, match=r"mask.png cannot be read as a mask"):
        read_mask(tmp_path / "mask.png")


def test_mask_of_another_size_is_resized_with_a_notice():
    with pytest.warns(MediaNotice, match="m.png is 3×2 and was resized to the frames' 6×4"):
        assert fit_mask(IDS, (4, 6), "m.png").tolist() == IDS.repeat(2, 0).repeat(2, 1).tolist()
    assert fit_mask(IDS, (2, 3), "m.png") is IDS


def test_mask_of_another_aspect():
    with pytest.raises(MediaError, match=r"m.png is 3×2 but the frames are 5×2: a mask must have the frames' aspect"):
        fit_mask(IDS, (2, 5), "m.png")


def test_object_ids():
    assert object_ids(IDS) == (1, 2, 7)
    assert object_ids(np.zeros((2, 2), np.uint8)) == ()
