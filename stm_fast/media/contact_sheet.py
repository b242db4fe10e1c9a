"""A contact sheet: one picture that shows frames of a whole clip."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stm_fast.media.files import atomic_path
from stm_fast.media.labels import draw_labels, draw_legend, text_height
from stm_fast.media.masks import object_ids
from stm_fast.media.overlay import blend

GAP = 6
BACKGROUND = (18, 18, 20)
LEGEND_TEXT, LEGEND_HEIGHT = 16, 120
"""Height of the legend's text, and maximum height of the legend, in pixels."""


class ContactSheet:
    """Collects frames of a clip of unknown length and lays out evenly spaced ones as a grid.

    Keeps thumbnails of every n-th frame. n doubles whenever there are four times as many as the sheet shows.

    Args:
        tiles: maximum number of frames shown.
        columns: frames in a row.
        tile_width: width of a thumbnail in pixels.
        opacity: of the tint over objects, 0 to 1.
    """

    def __init__(self, tiles: int = 12, columns: int = 3, tile_width: int = 360, opacity: float = 0.4) -> None:
        self.tiles, self.columns, self.tile_width, self.opacity = tiles, columns, tile_width, opacity
        self._kept: list[tuple[str, Image.Image]] = []
        self._objects: set[int] = set()
        self._every = 1
        self._seen = 0

    def add(self, label: str, image: NDArray[np.uint8], mask: NDArray[np.integer] | None = None) -> None:
        """Offer the next frame.

        Args:
            label: its name.
            image: RGB uint8 `(H, W, 3)`.
            mask: ids `(H, W)` of objects, which are drawn over the thumbnail with their ids.
        """
        if self._seen % self._every == 0:
            height = max(1, round(image.shape[0] * self.tile_width / image.shape[1]))
            thumbnail = Image.fromarray(image).resize((self.tile_width, height), Image.Resampling.LANCZOS)
            if mask is not None:
                self._objects.update(object_ids(mask))
                small = _shrunk(mask, thumbnail.size)
                drawn = blend(np.asarray(thumbnail), small, self.opacity)
                draw_labels(drawn, small, height=max(text_height(small.shape), self.tile_width // 28))
                thumbnail = Image.fromarray(drawn)
            self._kept.append((label, thumbnail))
            if len(self._kept) > 4 * self.tiles:
                self._kept = self._kept[::2]
                self._every *= 2
        self._seen += 1

    def save(self, path: str | Path) -> None:
        """Write the sheet as a PNG, atomically; write nothing if there are no frames.

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
        size = (GAP + columns * (width + GAP), GAP + rows * (height + GAP))
        legend = _legend(sorted(self._objects), size[0])
        sheet = Image.new("RGB", (size[0], size[1] + legend.height), BACKGROUND)
        sheet.paste(legend, (0, size[1]))
        for i, (label, thumbnail) in enumerate(shown):
            row, column = divmod(i, columns)
            corner = (GAP + column * (width + GAP), GAP + row * (height + GAP))
            sheet.paste(_labelled(thumbnail, label), corner)
        return sheet


def _labelled(thumbnail: Image.Image, label: str) -> Image.Image:
    """Draw the label on a dark tab in the lower left corner of a copy of the thumbnail."""
    font = ImageFont.load_default(size=max(10, thumbnail.width // 26))
    tile = thumbnail.copy()
    draw = ImageDraw.Draw(tile, "RGBA")
    pad = 5
    left, top, right, bottom = draw.textbbox((0, 0), label, font=font)
    tab = (0, tile.height - (bottom - top) - 2 * pad, right - left + 2 * pad, tile.height)
    draw.rectangle(tab, fill=(0, 0, 0, 150))
    draw.text((pad - left, tab[1] + pad - top), label, font=font, fill=(255, 255, 255, 235))
    return tile


def _shrunk(mask: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.integer]:
    """Shrink a mask to a width and height; an object that would vanish keeps one pixel."""
    width, height = size
    rows = (np.arange(height) * 2 + 1) * mask.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * mask.shape[1] // (2 * width)
    small = mask[np.ix_(rows, columns)]
    for lost in set(object_ids(mask)) - set(object_ids(small)):
        at = np.argwhere(mask == lost)
        row, column = at[len(at) // 2]
        small[row * height // mask.shape[0], column * width // mask.shape[1]] = lost
    return small


def _legend(objects: list[int], width: int) -> Image.Image:
    """Draw ids beside their colours; the picture's height is 0 if there are none."""
    strip = np.full((LEGEND_HEIGHT, width, 3), BACKGROUND, np.uint8)
    covered = draw_legend(strip, objects, LEGEND_TEXT, max_share=1.0)
    return Image.fromarray(strip[: covered.bottom])
