"""Read masks of one channel: ids, black and white, or levels of grey."""

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.areas import MAX_REGIONS, compact, filled
from stm_fast.media.mask_colours import notice_surrounding
from stm_fast.media.noise import flatten
from stm_fast.media.notices import notice
from stm_fast.media.palette import MAX_INDEX, WHITE, Colour
from stm_fast.media.soft_edges import harden

MIN_BLENDS = 4
"""Minimum number of levels between ids in soft edges; thin objects have fewer."""
_NEAR_BLACK, _NEAR_WHITE = 24, 231


def ids_of_values(
    values: NDArray[np.generic],
    path: object,
    known: dict[Colour, int],
    *,
    void: int | None = None,
    lossy: bool = False,
) -> NDArray[np.uint8]:
    """Return the ids of a one-channel picture.

    Args:
        values: `(H, W)` of any number type.
        path: of the file, for messages.
        known: ids of the colours of earlier masks; white is added.
        void: pixels of this value keep it, and do not count in finding out what the others mean.
        lossy: whether the format changes values.

    Returns:
        uint8 `(H, W)`.

    Raises:
        MediaError: the values are not ids.
    """
    if values.dtype == np.bool_:
        return _black_and_white(values, path, known)
    values = _whole(values, path)
    if values.size and values.min() < 0:
        raise MediaError(f"{path} has the value {int(values.min())}: masks hold ids 0 to {MAX_INDEX}")
    if void is None:
        return _ids_of_bytes(_as_bytes(values, path), path, known, lossy=lossy)
    ids = _ids_of_bytes(_as_bytes(np.where(values == void, 0, values), path), path, known, lossy=lossy)
    return np.where(values == void, void, ids).astype(np.uint8)


def is_soft(values: NDArray[np.uint8]) -> bool:
    """Return whether values are black and white with soft edges."""
    found = _hardened(values)
    return found is not None and _levels(found) == [0, MAX_INDEX]


def _ids_of_bytes(
    values: NDArray[np.uint8], path: object, known: dict[Colour, int], *, lossy: bool
) -> NDArray[np.uint8]:
    levels = _levels(values)
    if set(levels) <= {0, MAX_INDEX}:
        return _black_and_white(values == MAX_INDEX, path, known)
    if lossy:
        return _without_noise(values, path, known)
    if not _counted(levels) and (hard := _hardened(values)) is not None:
        regions = _levels(hard)
        if regions == [0, MAX_INDEX]:
            notice(f"{path} has soft edges and was cut at one half: white is object 1")
            return _black_and_white(values > 127, path, known)
        if len(levels) - len(regions) >= MIN_BLENDS:
            kept = ", ".join(str(level) for level in regions if level)
            notice(f"{path} has soft edges: pixels between its ids {kept} were given to the nearest")
            return hard
    if len(levels) > MAX_REGIONS and (values[filled(values)] > 0).sum() < (values > 0).sum() / 2:
        raise MediaError(
            f"{path} has {len(levels)} levels of grey and few flat areas: it is a picture, not a mask, which holds one "
            f"value per object, 0 to {MAX_INDEX}"
        )
    if levels[-1] == MAX_INDEX and known.setdefault(WHITE, MAX_INDEX) != MAX_INDEX:
        notice(f"{path} has id {MAX_INDEX} beside others, but white was object {known[WHITE]} in an earlier mask")
    if levels[0] > 0 and len(levels) > 1:
        notice(f"{path} has no background (value 0): its {len(levels)} ids fill the picture")
    return values


def _hardened(values: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Remove the soft edges of values; return None if there are none."""
    labels, used = compact(values)
    levels = used.astype(np.uint8)
    always = np.flatnonzero((levels == 0) | (levels == MAX_INDEX)).tolist()
    found = harden(labels, levels[:, None].repeat(3, 1), always)
    if found is not None:
        return np.asarray(levels[found])
    ends = (values == 0) | (values == MAX_INDEX)
    soft = len(levels) > MAX_REGIONS and levels[-1] == MAX_INDEX and ends.mean() > 0.8
    drawn_softly = soft and filled(values)[~ends].mean() < 0.25
    return np.where(values > 127, MAX_INDEX, 0).astype(np.uint8) if drawn_softly else None


def _without_noise(values: NDArray[np.uint8], path: object, known: dict[Colour, int]) -> NDArray[np.uint8]:
    found = flatten(values[..., None].repeat(3, 2))
    advice = "its values are noisy, as JPEG leaves them: save masks as PNG"
    if found is None or values.max() < 2 * _NEAR_BLACK:
        raise MediaError(f"{path} cannot be read as a mask, {advice}")
    labels, table = found
    regions = [0 if i <= _NEAR_BLACK else MAX_INDEX if i >= _NEAR_WHITE else int(i) for i in table[:, 0]]
    if set(regions) <= {0, MAX_INDEX}:
        notice(f"{path} has soft or noisy edges and was cut at one half: white is object 1")
        return _black_and_white(values > 127, path, known)
    notice(f"{path} was read as ids {', '.join(str(i) for i in sorted(set(regions)) if i)}, {advice}")
    return np.asarray(np.array(regions, np.uint8)[labels])


def _black_and_white(white: NDArray[np.generic], path: object, known: dict[Colour, int]) -> NDArray[np.uint8]:
    """Return one object where the mask is white: object 1, unless white was another object before."""
    ids = np.where(white, known.setdefault(WHITE, 1) or 1, 0).astype(np.uint8)
    notice_surrounding(ids, path)
    return ids


def _whole(values: NDArray[np.generic], path: object) -> NDArray[np.generic]:
    """Convert floating values to integers: ids if they are whole, otherwise fractions cut at one half."""
    if values.dtype.kind != "f":
        return values
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise MediaError(f"{path} has values that are not finite: masks hold ids 0 to {MAX_INDEX}")
    if np.array_equal(numbers, np.rint(numbers)):
        return numbers.astype(np.int64)
    if numbers.min() < 0 or numbers.max() > 1:
        raise MediaError(f"{path} has the value {numbers.max():g} and fractions: masks hold ids 0 to {MAX_INDEX}")
    notice(f"{path} has fractions from 0 to 1, and was cut at one half")
    return (numbers > 0.5).astype(np.uint8)


def _as_bytes(values: NDArray[np.generic], path: object) -> NDArray[np.uint8]:
    """Convert values of more than 8 bits to bytes: ids, one object, or widened bytes."""
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    wide = values.astype(np.int64)
    levels = np.unique(wide)
    top = int(levels[-1])
    if top <= MAX_INDEX:
        return wide.astype(np.uint8)
    if set(levels.tolist()) <= {0, top}:
        if top != 65535:
            notice(f"{path} has only the values 0 and {top}: {top} is object 1")
        return np.asarray(np.where(wide == top, MAX_INDEX, 0), np.uint8)
    for factor in (257, 256):
        if not (levels % factor).any() and top // factor <= MAX_INDEX:
            notice(f"{path} holds bytes widened to 16 bits: its values were divided by {factor}")
            return np.asarray(wide // factor, np.uint8)
    narrow: NDArray[np.uint8] = np.rint(wide * (MAX_INDEX / top)).astype(np.uint8)
    if is_soft(narrow):
        return narrow
    raise MediaError(f"{path} has object id {top} among its {len(levels)} values: masks hold ids 0 to {MAX_INDEX}")


def _levels(values: NDArray[np.uint8]) -> list[int]:
    return np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()


def _counted(levels: list[int]) -> bool:
    """Return whether levels are ids from 1 without a gap, except for white (void)."""
    between = [level for level in levels if 0 < level < MAX_INDEX]
    return between == list(range(1, len(between) + 1)) and len(between) <= MAX_REGIONS
