"""Draw ids on objects, and a legend of ids on a picture."""

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stm_fast.media.colours import BRIGHT, COLOURS, CONTRAST, DARK, GREY, TEXT, place

_GRID = 120
"""Approximate number of places along the shorter side at which objects are looked for."""
_ROOM = 1.6
"""An object has its label inside if it is this many times as wide and high as the label."""
_MIN_TEXT_HEIGHT = 9
"""In pixels."""
_PANEL_OPACITY = 0.62


class Sprite(NamedTuple):
    """A small picture to lay over another.

    Attributes:
        paint: colour times opacity, uint16 `(h, w, 3)`, 0 to 255 · 255.
        through: how much of the picture below shows through, uint16 `(h, w, 1)`, 0 to 255.
    """

    paint: NDArray[np.uint16]
    through: NDArray[np.uint16]

    @classmethod
    def of(cls, image: Image.Image) -> "Sprite":
        """Make the sprite of an RGBA image."""
        pixels = np.asarray(image, np.uint16)
        return cls(pixels[..., :3] * pixels[..., 3:], 255 - pixels[..., 3:])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        height, width = self.paint.shape[:2]
        return height, width

    def lay(self, picture: NDArray[np.uint8], top: int, left: int) -> None:
        """Draw the sprite over a picture, uint8 `(H, W, 3)`; parts beyond its edges are cut off."""
        height, width = self.size
        rows = slice(max(top, 0), max(0, min(top + height, picture.shape[0])))
        columns = slice(max(left, 0), max(0, min(left + width, picture.shape[1])))
        own = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        below = picture[rows, columns]
        below[:] = (self.paint[own] + self.through[own] * below + 127) // 255


class Box(NamedTuple):
    """A rectangle of pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    def meets(self, other: "Box") -> bool:
        """Return whether the boxes share a pixel."""
        rows = self.top < other.bottom and other.top < self.bottom
        return rows and self.left < other.right and other.left < self.right


class Site(NamedTuple):
    """Where an object is: the box around it, and a pixel inside it."""

    box: Box
    row: int
    column: int


def text_height(size: tuple[int, int]) -> int:
    """Return the height of text, in pixels, for a picture of a height and width."""
    return max(_MIN_TEXT_HEIGHT, round(min(size) / 28))


NOWHERE = Box(0, 0, 0, 0)


def draw_labels(
    picture: NDArray[np.uint8], mask: NDArray[np.integer], legend: Box = NOWHERE, height: int | None = None
) -> None:
    """Write the id of each object inside it, or beside it if it is small. Labels do not overlap if there is room.

    Args:
        picture: RGB uint8 `(H, W, 3)`, changed in place.
        mask: ids `(H, W)`.
        legend: the box of a legend in the upper left corner, which labels avoid.
        height: of the text, in pixels; by default from the picture's size.
    """
    height = height or text_height(mask.shape)
    boxes: list[Box] = []
    for object_id, site in sorted(_sites(mask).items(), key=lambda item: (_area(item[1].box), item[0])):
        sprite = _text(str(object_id), height, tuple(TEXT[place(object_id)].tolist()))
        box = _free(_candidates(site, sprite.size, height), boxes, legend, mask.shape)
        sprite.lay(picture, box.top, box.left)
        boxes.append(box)


def draw_legend(
    picture: NDArray[np.uint8], objects: Sequence[int], height: int | None = None, *, max_share: float = 0.12
) -> Box:
    """Draw ids beside their colours in the upper left corner, as many as there is room for.

    Args:
        picture: RGB uint8 `(H, W, 3)`, changed in place.
        objects: ids, in order.
        height: of the text, in pixels; by default from the picture's size.
        max_share: maximum part of the picture's height that the legend covers. If that is not enough for one line,
            there is no legend.

    Returns:
        The box that it covers.
    """
    size = picture.shape[:2]
    height = height or text_height(size)
    sprite = _legend(tuple(objects), height, size[1], int(max_share * size[0]))
    if sprite is None:
        return NOWHERE
    sprite.lay(picture, 0, 0)
    return Box(0, 0, *sprite.size)


def _sites(mask: NDArray[np.integer]) -> dict[int, Site]:
    """Find each object on a coarse grid; search all pixels for those that the grid misses."""
    step = max(1, min(mask.shape) // _GRID)
    offset = step // 2
    coarse = mask[offset::step, offset::step]
    rows, columns = np.nonzero(coarse)
    found = _sites_of(rows, columns, coarse[rows, columns], step, offset)
    if step > 1:
        ids = mask[mask > 0]
        present = np.flatnonzero(np.bincount(ids)) if ids.size and ids.max() < 1 << 16 else np.unique(ids)
        if lost := [int(i) for i in present if int(i) not in found]:
            rows, columns = np.nonzero(np.isin(mask, lost))
            found |= _sites_of(rows, columns, mask[rows, columns], 1, 0)
    return found


def _sites_of(
    rows: NDArray[np.intp], columns: NDArray[np.intp], ids: NDArray[np.integer], step: int, offset: int
) -> dict[int, Site]:
    """Return the site of each id; pixels come in the order of rows, then columns."""
    order = np.argsort(ids, kind="stable")
    rows, columns, ids = rows[order], columns[order], ids[order]
    starts = np.flatnonzero(np.diff(ids, prepend=0)).tolist()
    found = {}
    for start, end in itertools.pairwise([*starts, len(ids)]):
        own_rows, own_columns = rows[start:end], columns[start:end]
        row = own_rows[np.abs(own_rows - own_rows.mean()).argmin()]
        along = own_columns[own_rows == row]
        run = max(np.split(along, np.flatnonzero(np.diff(along) > 1) + 1), key=len)
        edges = (own_rows[0], own_columns.min(), own_rows[-1] + 1, own_columns.max() + 1)
        middle = (run[0] + run[-1]) // 2
        found[int(ids[start])] = Site(
            Box(*(int(edge) * step for edge in edges)), int(row) * step + offset, int(middle) * step + offset
        )
    return found


def _area(box: Box) -> int:
    return (box.bottom - box.top) * (box.right - box.left)


def _candidates(site: Site, size: tuple[int, int], height: int) -> list[Box]:
    """Return places for a label, the best one first: inside a large object, then above, below, right and left."""
    high, wide = size
    box, gap = site.box, max(1, height // 6)
    inside = (site.row - high // 2, site.column - wide // 2)
    beside = [
        (box.top - gap - high, site.column - wide // 2),
        (box.bottom + gap, site.column - wide // 2),
        (site.row - high // 2, box.right + gap),
        (site.row - high // 2, box.left - gap - wide),
    ]
    large = box.bottom - box.top >= _ROOM * high and box.right - box.left >= _ROOM * wide
    corners = [inside, *beside] if large else [*beside, inside]
    return [Box(top, left, top + high, left + wide) for top, left in corners]


def _free(candidates: Sequence[Box], taken: Sequence[Box], legend: Box, size: tuple[int, ...]) -> Box:
    """Return the first place that overlaps neither the legend nor another label; if there is none, one on other labels.

    Places that reach beyond the left or right edge are moved inside. The last resort is below the legend.
    """
    height, width = size
    within = []
    for box in candidates:
        shift = max(0, -box.left) - max(0, box.right - width)
        box = box._replace(left=box.left + shift, right=box.right + shift)
        if box.top >= 0 and box.bottom <= height and not box.meets(legend):
            within.append(box)
    if not within:
        box = candidates[-1]
        top = legend.bottom if box.meets(legend) else max(0, min(box.top, height - (box.bottom - box.top)))
        return box._replace(top=top, bottom=top + box.bottom - box.top)
    return next((box for box in within if not any(map(box.meets, taken))), within[0])


@lru_cache(64)
def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=height)


@lru_cache(1024)
def _text(text: str, height: int, colour: tuple[int, int, int]) -> Sprite:
    """Draw text with a dark halo."""
    font, halo = _font(height), max(1, round(height / 8))
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), text, font, stroke_width=halo)
    image = Image.new("RGBA", (round(right - left), round(bottom - top)), (*DARK, 0))
    ImageDraw.Draw(image).text((-left, -top), text, colour, font, stroke_width=halo, stroke_fill=DARK)
    return Sprite.of(image)


@lru_cache(8)
def _legend(objects: tuple[int, ...], height: int, width: int, max_height: int) -> Sprite | None:
    """Draw swatches and ids in lines on a dark panel; the last entry is the number of ids without room."""
    font, gap = _font(height), max(2, height // 3)
    line = height + gap
    texts = [str(object_id) for object_id in objects]
    widths = [height + gap // 2 + round(font.getlength(text)) + 2 * gap for text in texts]
    rest_width = round(font.getlength(f"+{len(texts)}")) + gap
    max_lines = (max_height - gap) // line
    corners: list[tuple[int, int]] = []
    x, y = gap, 0
    for index, needed in enumerate(widths):
        last = index == len(widths) - 1
        if x + needed > width and x > gap:
            x, y = gap, y + 1
        kept = rest_width if y == max_lines - 1 and not last else 0
        if y >= max_lines or x + needed + kept > width:
            break
        corners.append((x, y))
        x += needed
    if not corners:
        return None
    image = Image.new("RGBA", (width, gap + line * (corners[-1][1] + 1)), (*DARK, 0))
    draw = ImageDraw.Draw(image)
    end = max(x + needed for (x, _), needed in zip(corners, widths, strict=False))
    left_out = len(texts) - len(corners)
    if left_out:
        end = max(end, corners[-1][0] + widths[len(corners) - 1] + rest_width)
    draw.rectangle((0, 0, end - gap, image.height), fill=(*DARK, round(255 * _PANEL_OPACITY)))
    for object_id, text, (x, y) in zip(objects, texts, corners, strict=False):
        _swatch(draw, (x, gap + y * line, x + height - 1, gap + y * line + height - 1), place(object_id))
        draw.text((x + height + gap // 2, gap + y * line + height // 2), text, BRIGHT, font, anchor="lm")
    if left_out:
        x, y = corners[-1][0] + widths[len(corners) - 1], corners[-1][1]
        draw.text((x, gap + y * line + height // 2), f"+{left_out}", BRIGHT, font, anchor="lm")
    return Sprite.of(image.crop((0, 0, end - gap + 1, image.height)))


def _swatch(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], index: int) -> None:
    colour, contrast = tuple(COLOURS[index].tolist()), tuple(CONTRAST[index].tolist())
    draw.rectangle(box, fill=colour, outline=contrast)
    if GREY[index]:
        draw.polygon([box[:2], (box[2], box[1]), (box[0], box[3])], fill=contrast, outline=contrast)
