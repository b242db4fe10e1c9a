"""`stm-fast suggest`: which frames of a result to correct."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_fast.cli.console import stdout, with_sentences

if TYPE_CHECKING:
    from stm_fast.evaluation.suggest import Suggestion

ADVICE = (
    "Look at these frames in the overlay. If a mask is wrong, paint the object in that frame, save the mask under the "
    "frame's name in a folder, and run segment again with --corrections FOLDER: the frames after it are then segmented "
    "from it too. If an object is visible but not found, correct the first frame in which it is visible."
)
_STANDS_OUT = 1.5
"""A frame stands out if it is this many times as uncertain as usual."""


@with_sentences
def suggest(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the results of stm-fast segment.")],
    count: Annotated[int, typer.Option(min=1, help="Frames to list for each object.")] = 3,
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the frames to correct: those whose masks are least certain.

    For each object, prints the least certain frames, spread over the clip, and the stretches in which the object is not
    found. Compare a frame's uncertainty with what is usual for the object: thin and ragged shapes always have higher
    numbers. The glossary (docs/glossary.md) defines uncertainty.
    """
    from stm_fast.evaluation.suggest import read_sights
    from stm_fast.evaluation.suggest import suggest as suggested

    sights = read_sights(out)
    suggestions = suggested(sights, count)
    if json_:
        found = {str(each.object_id): asdict(each) for each in suggestions}
        typer.echo(json.dumps({"frames": len(sights), "objects": found}, indent=2))
        return
    for each in suggestions:
        _print(each)
    stdout.print(ADVICE if suggestions else f"No object is in the {len(sights)} frames of {out}.", markup=False)


def _print(suggestion: "Suggestion") -> None:
    from rich.table import Table

    title = f"Object {suggestion.object_id}"
    if suggestion.least_certain:
        table = Table(title=title, title_justify="left")
        for column in ("frame", "uncertainty", "times the usual", "area in pixels"):
            table.add_column(column, justify="left" if column == "frame" else "right", overflow="fold")
        for doubt in suggestion.least_certain:
            numbers = (f"{doubt.uncertainty:.3f}", f"{doubt.times_usual:.1f}", str(doubt.area))
            table.add_row(doubt.frame, *numbers)
        stdout.print(table)
        if suggestion.least_certain[0].times_usual < _STANDS_OUT:
            stdout.print(f"No frame of object {suggestion.object_id} stands out from the others.")
    else:
        stdout.print(f"{title}: no frame has a known uncertainty.")
    for absence in suggestion.absences:
        where = f"frame {absence.first}" if absence.frames == 1 else f"frames {absence.first} to {absence.last}"
        stdout.print(f"Object {suggestion.object_id} is not found in {where} ({absence.frames}).", markup=False)
