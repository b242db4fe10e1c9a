"""Options that name a dataset on disk: its layout and its set, in the words of `stm_fast.data.layouts`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from stm_fast.data.layouts import VIDEO_LAYOUTS, VideoLayout

if TYPE_CHECKING:
    from stm_fast.data.clips import Dataset

DEFAULT_LAYOUT = "davis2016"
NO_VOID = "none"
_MAX_ID = 255


def _grouped(words: Callable[[VideoLayout], str]) -> str:
    """Say something of every layout, each thing once."""
    layouts: dict[str, list[str]] = {}
    for layout in VIDEO_LAYOUTS.values():
        layouts.setdefault(words(layout), []).append(layout.name)
    return "; ".join(f"{', '.join(names)}: {said}" for said, names in layouts.items())


def known_layout(layout: str | None) -> str | None:
    """Return the argument; raise a usage error if it is the name of no layout."""
    if layout is not None and layout not in VIDEO_LAYOUTS:
        raise typer.BadParameter(f"{layout!r} is not one of {', '.join(VIDEO_LAYOUTS)}.")
    return layout


def known_void(void: str | None) -> str | None:
    """Return the argument; raise a usage error if it is neither an id nor "none"."""
    if void is None or void == NO_VOID or (void.isdecimal() and 1 <= int(void) <= _MAX_ID):
        return void
    raise typer.BadParameter(f"{void!r} is neither an id from 1 to {_MAX_ID} nor {NO_VOID}.")


def void_of(dataset: "Dataset", option: str | None) -> int | None:
    """Return the id of void: what `--void` says, else what the dataset says; None if there is no void."""
    if option is None:
        return dataset.void
    return None if option == NO_VOID else int(option)


DatasetLayout = Annotated[
    str,
    typer.Option(
        "--dataset",
        callback=known_layout,
        autocompletion=lambda: list(VIDEO_LAYOUTS),
        metavar="LAYOUT",
        help=f"Layout of ROOT, and what it holds. {_grouped(lambda layout: layout.holds)}.",
    ),
]
DatasetSet = Annotated[
    str | None,
    typer.Option(
        "--set",
        metavar="SET",
        help=f"Set of the dataset; the sets are listed if none is named. {_grouped(lambda layout: layout.sets_are)}.",
        show_default=False,
    ),
]
DatasetVoid = Annotated[
    str | None,
    typer.Option(
        "--void",
        callback=known_void,
        metavar="ID",
        help="Id of the pixels in masks that belong to no object, which are not followed; none if every id is an "
        "object. Defaults to what the dataset says.",
        show_default=False,
    ),
]
