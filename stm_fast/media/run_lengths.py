"""Compressed run lengths of COCO, in which masks are written into JSON.

A mask is read down its columns, from the left. Its runs of equal pixels are counted, that of the background first. Each
count from the fourth on is stored as its difference from the count of two runs earlier. A number is written in base 32,
lowest digits first and as two's complement; a character is a digit, plus 32 if others follow, plus 48.
"""

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError

_BITS, _DIGIT, _MORE, _ZERO = 5, 31, 32, 48
_SIGN = 16


def decode_runs(text: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask `(H, W)` of compressed run lengths.

    Args:
        text: the run lengths, "counts" in COCO.
        size: height and width.

    Raises:
        MediaError: they do not fill a mask of this size.
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        digit = ord(character) - _ZERO
        number |= (digit & _DIGIT) << shift
        shift += _BITS
        if digit & _MORE:
            continue
        if digit & _SIGN:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number = shift = 0
    height, width = size
    if shift or sum(counts) != height * width or min(counts, default=0) < 0:
        raise MediaError(f"run lengths must fill {width}×{height} pixels, got {sum(counts)} of {height * width}")
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def encode_runs(mask: NDArray[np.bool_]) -> str:
    """Return the compressed run lengths of a mask `(H, W)`; see `decode_runs`."""
    pixels = mask.T.ravel()
    changes = np.flatnonzero(np.diff(pixels, prepend=False))
    counts = np.diff(changes, prepend=0, append=pixels.size).tolist()
    numbers = [count - counts[index - 2] if index > 2 else count for index, count in enumerate(counts)]
    return "".join(map(_digits, numbers))


def _digits(number: int) -> str:
    characters = []
    while True:
        digit = number & _DIGIT
        number >>= _BITS
        last = number == (-1 if digit & _SIGN else 0)
        characters.append(chr(_ZERO + digit + (0 if last else _MORE)))
        if last:
            return "".join(characters)
