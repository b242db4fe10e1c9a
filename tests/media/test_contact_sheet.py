"""Contact sheets: any number of frames gives a readable grid."""

import numpy as np
import pytest
from PIL import Image

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
