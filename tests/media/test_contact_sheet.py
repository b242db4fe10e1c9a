"""Contact sheets: any number of frames gives a readable grid."""

import numpy as np
import pytest
from PIL import Image

from stm_fast.media.colours import COLOURS
from stm_fast.media.contact_sheet import ContactSheet


def shades(sheet: ContactSheet, path, count: int) -> list[int]:
    """Red values of the tiles of a sheet of `count` frames, frame i having the shade i."""
    for index in range(count):
        sheet.add(str(index), np.full((20, 40, 3), (index, 0, 0), np.uint8))
    sheet.save(path)
    pixels = np.asarray(Image.open(path))
    reds = pixels[6 + 4 :: 20 + 6, 6 + 38 :: 40 + 6, 0].flatten()
    return reds.tolist()


@pytest.mark.parametrize("count", [12, 13, 49, 100, 250])
def test_tiles_span_the_clip_evenly(tmp_path, count):
    tiles = shades(ContactSheet(tiles=12, columns=4, tile_width=40), tmp_path / "sheet.png", count)
    assert len(tiles) == 12
    assert tiles[0] == 0
    assert tiles[-1] > 0.9 * (count - 1) - 1
    steps = np.diff(tiles)
    assert steps.min() > 0
    assert steps.max() <= 2 * max(steps.min(), 1)


def test_short_clip_has_a_short_sheet(tmp_path):
    shades(ContactSheet(tiles=12, columns=4, tile_width=40), tmp_path / "sheet.png", 2)
    assert Image.open(tmp_path / "sheet.png").size == (6 + 2 * 46, 6 + 26)


def test_no_frame_no_sheet(tmp_path):
    ContactSheet().save(tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_labels_are_drawn(tmp_path):
    sheet = ContactSheet(tile_width=80)
    sheet.add("00042", np.zeros((60, 80, 3), np.uint8))
    sheet.save(tmp_path / "sheet.png")
    tile = np.asarray(Image.open(tmp_path / "sheet.png"))[6:66, 6:86]
    assert tile[-15:, :40].max() > 150
    assert tile[:30].max() == 0


def test_masks_are_drawn_at_the_size_of_the_tiles_with_a_legend(tmp_path):
    mask = np.zeros((2160, 3840), np.uint8)
    mask[400:1500, 500:2500] = 2
    mask[1900, 3001] = 5
    image = np.full((2160, 3840, 3), 90, np.uint8)
    sheet = ContactSheet()
    for name in "abcd":
        sheet.add(name, image, mask)
    sheet.save(tmp_path / "sheet.png")
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    plain = ContactSheet()
    for name in "abcd":
        plain.add(name, image)
    plain.save(tmp_path / "plain.png")
    height = Image.open(tmp_path / "plain.png").size[1]
    assert picture.shape[0] > height
    for object_id, least in ((2, 300), (5, 1)):
        shown = (picture == COLOURS[object_id]).all(-1)
        assert shown[: height // 2, :360].sum() >= least
        assert shown[height:].sum() > 80
    text = (picture[: height // 2, :360] > 180).all(-1)
    assert text.sum() > 10
