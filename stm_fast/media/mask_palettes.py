"""Read masks by palette index: indices are ids unless the palette was made for the picture."""

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.areas import compact, is_scattered
from stm_fast.media.mask_colours import border_colour
from stm_fast.media.mask_values import ids_of_values, is_soft
from stm_fast.media.notices import notice
from stm_fast.media.palette import BLACK, DAVIS_IDS, DAVIS_PALETTE, Colour, as_colours
from stm_fast.media.soft_edges import harden


def ids_of_palette(
    indices: NDArray[np.uint8], palette: NDArray[np.uint8], path: object, known: dict[Colour, int], void: int | None
) -> NDArray[np.uint8] | None:
    """Return the ids of a palette picture if they can be read without its colours.

    Indices are ids in the DAVIS (and PASCAL VOC) palette, and in any other whose index 0 is background: black, or what
    surrounds everything.

    Args:
        indices: uint8 `(H, W)`.
        palette: RGBA `(K, 4)`; indices may be beyond its end.
        path: of the file, for messages.
        known: ids of the colours of earlier masks; extended.
        void: see `ids_of_values`.

    Returns:
        uint8 `(H, W)`; None if the picture must be read by its colours.
    """
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    whole = np.zeros((256, 4), np.uint8)
    whole[:, 3] = 255
    whole[: len(palette)] = palette
    table, alpha = whole[used, :3], whole[used, 3]
    colours = as_colours(table)
    if np.array_equal(table, DAVIS_PALETTE[used]):
        known.update({colour: int(i) for colour, i in zip(colours, used, strict=True) if colour not in known})
        return _without_transparent(indices, used[(alpha == 0) & (used > 0)], path)
    if (table == table[:, :1]).all():
        return _ids_of_greys(indices, whole, used, path, known, void)
    if used[-1] >= len(palette):
        return indices
    if (alpha[used > 0] < 255).any() or _is_picture(indices, table):
        return None
    if set(colours) <= DAVIS_IDS.keys():
        return None
    return indices if _holds_ids(indices, whole, used, path, known) else None


def _holds_ids(
    indices: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    used: NDArray[np.intp],
    path: object,
    known: dict[Colour, int],
) -> bool:
    """Return whether indices are ids; those of a palette made for one picture need not be."""
    colours = {int(i): as_colours(palette[i : i + 1, :3])[0] for i in used}
    objects = {i: colour for i, colour in colours.items() if i > 0}
    ground = colours.get(0)
    repeated = len(set(colours.values())) < len(colours)  # a palette made for a picture has each colour once
    if ground not in {None, BLACK} and palette[0, 3] > 0:
        if BLACK in objects.values() and not repeated:
            return False
        around, share = border_colour(indices)
        if around != 0 and share > 0.5 and not repeated:
            return False
        notice(f"index 0 of {path}, {ground}, is used as background")
    elif BLACK in objects.values():
        if not repeated and as_colours(palette[:1, :3])[0] != BLACK:
            return False
        black = ", ".join(str(i) for i, colour in objects.items() if colour == BLACK)
        notice(f"id {black} of {path} is black in its palette, but still followed as an object")
    if repeated:
        return True
    owners = {i: colour for colour, i in known.items()}
    if any(known.get(colour, i) != i or owners.get(i, colour) != colour for i, colour in objects.items()):
        notice(f"the palette of {path} is not in the order of an earlier mask: objects are matched by colour")
        return False
    known.update({colour: i for i, colour in objects.items()})
    return True


def _ids_of_greys(
    indices: NDArray[np.uint8],
    palette: NDArray[np.uint8],
    used: NDArray[np.intp],
    path: object,
    known: dict[Colour, int],
    void: int | None,
) -> NDArray[np.uint8]:
    """Return the ids of a picture whose palette holds only greys."""
    greys = palette[:, 0]
    shown, alpha = greys[used], palette[used, 3]
    if not shown.any() and (alpha == 255).all():  # a palette that was never filled
        return ids_of_values(indices, path, known, void=void)
    values = np.where(palette[indices, 3] > 127, greys[indices], 0).astype(np.uint8)
    if set(shown.tolist()) <= {0, 255} or np.array_equal(shown, used) or is_soft(values):
        return ids_of_values(values, path, known, void=void)
    if palette[0, 0] == 0 and (np.diff(shown.astype(int)) > 0).all():
        notice(f"{path} has a palette of greys: indices are ids, {', '.join(str(i) for i in used if i)}")
        return _without_transparent(indices, used[(alpha == 0) & (used > 0)], path)
    notice(f"{path} has a palette of greys that are not in order: levels of grey are ids")
    return ids_of_values(values, path, known, void=void)


def _is_picture(indices: NDArray[np.uint8], table: NDArray[np.uint8]) -> bool:
    """Return whether a palette was made for a picture: of soft edges, or of many colours without flat areas."""
    labels, used = compact(indices)
    if harden(labels, table, np.flatnonzero(~table.any(1)).tolist()) is not None:
        return True
    return is_scattered(labels, len(used))


def _without_transparent(indices: NDArray[np.uint8], clear: NDArray[np.intp], path: object) -> NDArray[np.uint8]:
    if not len(clear):
        return indices
    notice(f"ids {', '.join(map(str, clear))} of {path} are transparent in its palette, and used as background")
    return np.where(np.isin(indices, clear), 0, indices).astype(np.uint8)
