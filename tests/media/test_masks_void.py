"""Void, the id of pixels that are no object: kept in labels, background in masks."""

import numpy as np
import pytest
from PIL import Image

from stm_fast.media.masks import read_labels, read_mask, without_void
from stm_fast.media.notices import MediaNotice


@pytest.mark.parametrize("mode", ["L", "P"])
def test_white_is_void_where_it_is_said_to_be(tmp_path, mode):
    image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8))
    if mode == "P":
        image = image.convert("P")
    image.save(tmp_path / "mask.png")
    assert read_labels(tmp_path / "mask.png", {}, void=None).tolist() == [[0, 1], [1, 0]]
    labels = read_labels(tmp_path / "mask.png", {}, void=255)
    assert labels.tolist() == [[0, 255], [255, 0]]
    assert not without_void(labels, 255).any()


def test_void_of_a_colour_mask(tmp_path):
    pixels = np.array([[(0, 0, 0), (128, 0, 0), (224, 224, 192)]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "voc.png")
    assert read_labels(tmp_path / "voc.png", {}, void=255).tolist() == [[0, 1, 255]]


def test_masks_without_void_are_read_as_ever(tmp_path):
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)).save(tmp_path / "mask.png")
    assert read_labels(tmp_path / "mask.png", {}, void=7).tolist() == [[0, 1, 255]]


def test_void_does_not_change_how_other_pixels_are_read(tmp_path):
    """A palette that was made for the picture is read by its colours, whether or not it holds void."""
    image = Image.new("P", (6, 4), 1)
    image.putpalette([200, 0, 0, 0, 0, 0, 224, 224, 192])
    image.paste(0, (0, 1, 2, 3)), image.paste(2, (3, 1, 5, 3))
    image.save(tmp_path / "made.png")
    with pytest.warns(MediaNotice, match="now numbered"):
        plain = read_mask(tmp_path / "made.png")
    with pytest.warns(MediaNotice, match="now numbered"):
        labels = read_labels(tmp_path / "made.png", void=2)
    np.testing.assert_array_equal(labels, plain)
    assert set(np.unique(plain)) == {0, 1, 2}
    with pytest.warns(MediaNotice, match="now numbered"):
        assert set(np.unique(read_mask(tmp_path / "made.png", void=2))) == {0, 1}
