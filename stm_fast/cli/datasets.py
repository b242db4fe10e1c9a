"""Options that name a dataset on disk: its layout and its set, in the words of `stm_fast.data.layouts`."""

from typing import Annotated

import typer

from stm_fast.data.layouts import VIDEO_LAYOUTS

DEFAULT_LAYOUT = "davis2016"


def _sets() -> str:
    """Say what the sets of each layout are, each thing once."""
    layouts: dict[str, list[str]] = {}
    for layout in VIDEO_LAYOUTS.values():
        layouts.setdefault(layout.sets_are, []).append(layout.name)
    return "; ".join(f"{', '.join(names)}: {sets}" for sets, names in layouts.items())


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
        metavar=f"[{'|'.join(VIDEO_LAYOUTS)}]",
        help="Layout of ROOT. " + " ".join(f"{each.name}: {each.holds}." for each in VIDEO_LAYOUTS.values()),
    ),
]
DatasetSet = Annotated[
    str | None,
    typer.Option("--set", help=f"{_sets()}. If it is missing, the sets are listed.", show_default=False),
]
