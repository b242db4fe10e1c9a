"""Read masks by colour: ids of a palette, or objects that are numbered in the order they appear."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.areas import MAX_REGIONS, compact, index_colours, is_picture
from stm_fast.media.noise import flatten
from stm_fast.media.notices import notice
from stm_fast.media.palette import BLACK, DAVIS_IDS, DAVIS_PALETTE, MAX_INDEX, WHITE, Colour, as_colours
from stm_fast.media.soft_edges import harden

SNAP = 24
"""How far JPEG changes black, white or a colour of an earlier mask, in one channel."""
BORDER_SHARE = 2 / 3
"""Part of a picture's border that the background fills, if its colour does not say that it is background."""


def ids_of_colours(
    picture: NDArray[np.uint8],
    opaque: NDArray[np.bool_],
    path: object,
    known: dict[Colour, int],
    *,
    lossy: bool = False,
) -> NDArray[np.uint8]:
    """Return the ids of a colour picture.

    Args:
        picture: RGB `(H, W, 3)`, black if transparent.
        opaque: `(H, W)`; False is background.
        path: of the file, for messages.
        known: ids of the colours of earlier masks, 0 for a background that is not black; extended.
        lossy: whether the format changes colours.

    Returns:
        uint8 `(H, W)`.

    Raises:
        MediaError: there are too many colours for a mask.
    """
    clear = not opaque.all()
    if clear and opaque.any() and not picture.any():
        return opaque_object(opaque, path)
    labels: NDArray[np.integer]
    labels, table = index_colours(picture)
    if lossy:
        labels, table = _without_noise(picture, path, known)
    elif not _are_davis_ids_from_1(table):
        found = harden(labels, table, np.flatnonzero(~table.any(1)).tolist())
        if found is not None:
            labels, table = _without_blends(found, table, path)
        elif is_picture(labels, len(table)) and not _is_davis(as_colours(table)):
            if clear:
                notice(f"{path} is a picture on a transparent background: what is not transparent is object 1")
                return opaque.astype(np.uint8)
            labels, table = _without_noise(picture, path, known)
    colours = as_colours(table)
    ids = _davis_ids(colours, known)
    if ids is None:
        background = {BLACK} if clear else set()
        ids = number_colours(colours, path, known, background | _background(labels, colours, path, known))
    else:
        known.update(zip(colours, ids, strict=True))
    mask = np.array(ids, np.uint8)[labels]
    notice_surrounding(mask, path)
    return mask


def opaque_object(opaque: NDArray[np.bool_], path: object) -> NDArray[np.uint8]:
    """Return object 1 wherever a black picture is not transparent."""
    notice(f"{path} is black on a transparent background: what is not transparent is object 1")
    return opaque.astype(np.uint8)


def number_colours(
    colours: Iterable[Colour], path: object, known: dict[Colour, int], background: Iterable[Colour]
) -> list[int]:
    """Return the ids of colours; new colours take free ids, red before green before blue as in the DAVIS palette.

    Raises:
        MediaError: there are too many colours for a mask.
    """
    colours = list(colours)
    known.update(dict.fromkeys(background, 0))
    new = sorted({colour for colour in colours if colour not in known}, key=_order)
    free = [i for i in range(1, MAX_INDEX + 1) if i not in set(known.values())]
    if len(new) > min(MAX_REGIONS, len(free)):
        raise _no_mask(path, len(colours))
    known.update(zip(new, free, strict=False))
    if new:
        named = ", ".join(f"{colour} is object {known[colour]}" for colour in new)
        notice(f"{path} has colours outside the DAVIS palette, now numbered: {named}")
    return [known[colour] for colour in colours]


def _order(colour: Colour) -> tuple[int, ...]:
    red, green, blue = colour
    return (blue >> 7, green >> 7, red >> 7, blue, green, red)


def notice_surrounding(mask: NDArray[np.uint8], path: object) -> None:
    """Give a notice if an object surrounds the background: the two may be swapped."""
    label, share = border_colour(mask)
    covered = float((mask == label).mean())
    if label and share > 0.9 and covered > 0.5 and not mask.all():
        notice(
            f"object {label} covers {covered:.0%} of {path} and its border, and the background lies inside: invert the "
            "mask if it should be the other way round"
        )


def border_colour(labels: NDArray[np.integer]) -> tuple[int, float]:
    """Return the label that fills most of the outermost pixels, and the part of them that it fills."""
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    counts = np.bincount(border)
    return int(counts.argmax()), float(counts.max() / counts.sum())


def _background(
    labels: NDArray[np.integer], colours: list[Colour], path: object, known: dict[Colour, int]
) -> set[Colour]:
    """Return new colours of the background: black, or what surrounds everything; none if earlier masks had one."""
    if 0 in known.values():
        return set()
    if BLACK in colours:
        return {BLACK}
    label, share = border_colour(labels)
    if known or len(colours) == 1 or share < BORDER_SHARE:
        return set()
    notice(
        f"{path} has no black: {colours[label]}, which fills {share:.0%} of the picture's border, is used as background"
    )
    return {colours[label]}


def _is_davis(colours: Iterable[Colour]) -> bool:
    """Return whether colours are in the DAVIS palette and not all greys, which are values rather than colours."""
    return all(colour in DAVIS_IDS for colour in colours) and any(len(set(colour)) > 1 for colour in colours)


def _are_davis_ids_from_1(table: NDArray[np.uint8]) -> bool:
    colours = as_colours(table) if len(table) <= len(DAVIS_PALETTE) else []
    ids = sorted(DAVIS_IDS[colour] for colour in colours) if colours and _is_davis(colours) else []
    return bool(ids) and ids == list(range(ids[0], len(ids) + ids[0])) and ids[0] <= 1


def _davis_ids(colours: list[Colour], known: dict[Colour, int]) -> list[int] | None:
    """Return ids by the DAVIS palette; None if colours are not in it or earlier masks contradict them."""
    if not _is_davis(colours):
        return [0] * len(colours) if set(colours) == {BLACK} else None
    owners = {i: colour for colour, i in known.items() if colour != WHITE}
    for colour in colours:
        i = DAVIS_IDS[colour]
        if known.get(colour, i) != i or owners.get(i, colour) != colour:
            return None
    return [DAVIS_IDS[colour] for colour in colours]


def _without_blends(
    hard: NDArray[np.integer], table: NDArray[np.uint8], path: object
) -> tuple[NDArray[np.integer], NDArray[np.uint8]]:
    """Drop the colours of soft edges that no pixel has any longer, with a notice."""
    labels, used = compact(hard)
    notice(
        f"{path} has soft edges: pixels of {len(table) - len(used)} blended colours were given to the nearest of "
        f"{len(used)} flat ones"
    )
    return labels, table[used]


def _without_noise(
    picture: NDArray[np.uint8], path: object, known: dict[Colour, int]
) -> tuple[NDArray[np.integer], NDArray[np.uint8]]:
    found = flatten(picture)
    if found is None:
        raise _no_mask(path, len(index_colours(picture)[1]))
    labels, table = found
    colours = [_snapped(colour, known) for colour in as_colours(table)]
    davis = [_near_davis(colour) for colour in colours]
    colours = colours if None in davis else [near for near in davis if near is not None]
    if set(as_colours(index_colours(picture)[1])) != set(colours):
        named = ", ".join(map(str, colours))
        notice(f"{path} has noisy colours, as JPEG leaves them: each pixel was given the nearest of {named}")
    return labels, np.array(colours, np.uint8)


def _no_mask(path: object, colours: int) -> MediaError:
    return MediaError(
        f"{path} has {colours} colours: a colour mask has those of the DAVIS palette, or at most {MAX_REGIONS} of its "
        "own, in flat areas; switch soft edges (anti-aliasing) off, and save as PNG (JPEG changes colours)"
    )


def _snapped(colour: Colour, known: dict[Colour, int]) -> Colour:
    for other in (BLACK, WHITE, *known):
        if max(abs(a - b) for a, b in zip(colour, other, strict=True)) <= SNAP:
            return other
    red, green, blue = (0 if level <= SNAP else 255 if level >= 255 - SNAP else level for level in colour)
    return red, green, blue


def _near_davis(colour: Colour) -> Colour | None:
    """Return the colour at most 10 away among the first 64 of DAVIS, which are 64 apart."""
    for other in as_colours(DAVIS_PALETTE[:64]):
        if max(abs(a - b) for a, b in zip(colour, other, strict=True)) <= 10:
            return other
    return None
