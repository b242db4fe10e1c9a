"""Options that name a dataset on disk: its layout and its set, in the words of `stm_fast.data.layouts`."""

from collections.abc import Callable
from typing import Annotated

import typer

from stm_fast.data.layouts import VIDEO_LAYOUTS, VideoLayout

DEFAULT_LAYOUT = "davis2016"


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
