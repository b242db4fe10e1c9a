"""Convert pixels of any depth to 8-bit RGB, in the same way in all frames of a clip."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.notices import Notices

Pixels = NDArray[Any]


class Levels(NamedTuple):
    """The values that become 0 and 255; values outside are clipped."""

    low: float
    high: float

    def apply(self, pixels: Pixels) -> NDArray[np.uint8]:
        """Scale pixels of any dtype to uint8; NaN becomes 0."""
        dtype: type[np.floating[Any]] = np.float32 if pixels.dtype.itemsize <= 2 else np.float64
        scaled: NDArray[Any] = (pixels.astype(dtype) - self.low) * (255 / (self.high - self.low))
        finite: NDArray[Any] = np.nan_to_num(scaled, nan=0, posinf=255, neginf=0)
        return finite.clip(0, 255).round().astype(np.uint8)


class Scaler:
    """Scaling of the pixels of one clip to RGB uint8.

    Pixels of 8 bits are unchanged. Deeper ones are scaled by the whole range of the dtype if at least half of it is
    used, otherwise by the range in use, since 12-bit sensors write 16-bit files. The range is found in a sample of the
    frames and used for the whole clip. Transparent pixels are drawn over black. Both give a notice.

    Args:
        path: path of the clip, for notices.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._levels: dict[np.dtype[Any], Levels] = {}
        self._notice = Notices()

    def look(self, frames: Iterable[Pixels]) -> None:
        """Set the levels from a sample of the clip's frames. Dtypes of 8 bits or with known levels need none."""
        used: dict[np.dtype[Any], Levels] = {}
        for pixels in frames:
            if pixels.dtype == np.uint8 or pixels.dtype in self._levels:
                continue
            low, high = _in_use(_colour(pixels))
            before = used.get(pixels.dtype, Levels(low, high))
            used[pixels.dtype] = Levels(min(low, before.low), max(high, before.high))
        for dtype, levels in used.items():
            self._levels[dtype] = self._choose(dtype, levels)

    def rgb(self, pixels: Pixels) -> NDArray[np.uint8]:
        """Convert grey `(H, W)`, RGB or RGBA `(H, W, C)` of any dtype to RGB uint8 `(H, W, 3)`."""
        self.look([pixels])
        colour = _colour(pixels)
        if colour.dtype != np.uint8:
            colour = self._levels[pixels.dtype].apply(colour)
        if colour.ndim == 2:
            colour = np.repeat(colour[..., None], 3, axis=2)
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            colour = self._over_black(colour, pixels[..., 3])
        return np.ascontiguousarray(colour)

    def _choose(self, dtype: np.dtype[Any], used: Levels) -> Levels:
        whole = _whole(dtype, used)
        if whole and (used.high - used.low) * 2 >= whole.high - whole.low:
            return whole
        if used.high == used.low:
            return whole or Levels(used.low, used.low + 1)
        of = f" of {whole.low:g} to {whole.high:g}" if whole else f" ({dtype})"
        self._notice(
            f"{self._path} has values from {used.low:g} to {used.high:g}{of}: they are scaled to 8 bits, in the same "
            "way in all frames"
        )
        return used

    def _over_black(self, colour: NDArray[np.uint8], alpha: Pixels) -> NDArray[np.uint8]:
        opaque = np.iinfo(alpha.dtype).max
        if (alpha == opaque).all():
            return colour
        self._notice(f"{self._path} has transparent pixels: they are drawn over black")
        return np.rint(colour * (alpha.astype(np.float32) / opaque)[..., None]).astype(np.uint8)


def _colour(pixels: Pixels) -> Pixels:
    return pixels[..., :3] if pixels.ndim == 3 else pixels


def _in_use(pixels: Pixels) -> Levels:
    """Return the lowest and highest values that fill a patch of 2×2 pixels; single pixels may be dead."""
    if np.issubdtype(pixels.dtype, np.floating):
        pixels = np.where(np.isfinite(pixels), pixels, np.nan)
    rows, columns = (slice(size > 1, None) for size in pixels.shape[:2])
    patch = (pixels, pixels[rows], pixels[:, columns], pixels[rows, columns])
    height, width = patch[3].shape[:2]
    inner = [corner[:height, :width] for corner in patch]
    low = np.fmin.reduce(np.fmax.reduce(inner), axis=None)
    high = np.fmax.reduce(np.fmin.reduce(inner), axis=None)
    return Levels(float(low), max(float(high), float(low))) if np.isfinite(low) else Levels(0, 0)


def _whole(dtype: np.dtype[Any], used: Levels) -> Levels | None:
    """Return the whole range of a dtype; None if files may use any part of it."""
    if dtype == np.uint16:
        return Levels(0, 65535)
    if np.issubdtype(dtype, np.floating) and used.low >= 0 and used.high <= 1:
        return Levels(0, 1)
    return None
