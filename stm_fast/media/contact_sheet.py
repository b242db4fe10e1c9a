"""A contact sheet: a clip at a glance, as one picture."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stm_fast.media.files import atomic_path

GAP = 6
BACKGROUND = (18, 18, 20)


class ContactSheet:
    """Collects frames of a clip of unknown length and lays evenly spaced ones out as a grid.

    Thumbnails of every n-th frame are kept; n doubles whenever there are four times as many as the sheet shows.

    Args:
        tiles: most frames shown.
        columns: frames in a row.
        tile_width: width of a thumbnail in pixels.
    """

    def __init__(self, tiles: int = 12, columns: int = 3, tile_width: int = 360) -> None:
        self.tiles, self.columns, self.tile_width = tiles, columns, tile_width
        self._kept: list[tuple[str, Image.Image]] = []
        self._every = 1
        self._seen = 0

    def add(self, label: str, image: NDArray[np.uint8]) -> None:
        """Offer the next frame, RGB uint8 `(H, W, 3)`."""
        if self._seen % self._every == 0:
            height = max(1, round(image.shape[0] * self.tile_width / image.shape[1]))
            thumbnail = Image.fromarray(image).resize((self.tile_width, height), Image.Resampling.LANCZOS)
            self._kept.append((label, thumbnail))
            if len(self._kept) > 4 * self.tiles:
                self._kept = self._kept[::2]
                self._every *= 2
        self._seen += 1

    def save(self, path: str | Path) -> None:
        """Write the sheet as a PNG, atomically. Without a frame nothing is written.

        Raises:
            OSError: the file cannot be written.
        """
        if not self._kept:
            return
        with atomic_path(path) as partial:
            self._draw().save(partial, format="PNG")

    def _draw(self) -> Image.Image:
        last = len(self._kept) - 1
        shown = [self._kept[round(i)] for i in np.linspace(0, last, min(self.tiles, last + 1))]
        columns = min(self.columns, len(shown))
        width, height = shown[0][1].size
        rows = math.ceil(len(shown) / columns)
        sheet = Image.new("RGB", (GAP + columns * (width + GAP), GAP + rows * (height + GAP)), BACKGROUND)
        for i, (label, thumbnail) in enumerate(shown):
            row, column = divmod(i, columns)
            corner = (GAP + column * (width + GAP), GAP + row * (height + GAP))
            sheet.paste(_labelled(thumbnail, label), corner)
        return sheet


def _labelled(thumbnail: Image.Image, label: str) -> Image.Image:
    """The thumbnail with its label on a dark tab in the lower left corner."""
    font = ImageFont.load_default(size=max(10, thumbnail.width // 26))
    tile = thumbnail.copy()
    draw = ImageDraw.Draw(tile, "RGBA")
    pad = 5
    left, top, right, bottom = draw.textbbox((0, 0), label, font=font)
    tab = (0, tile.height - (bottom - top) - 2 * pad, right - left + 2 * pad, tile.height)
    draw.rectangle(tab, fill=(0, 0, 0, 150))
    draw.text((pad - left, tab[1] + pad - top), label, font=font, fill=(255, 255, 255, 235))
    return tile
