"""How far long work has come, shown on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    description: str, total: int | None, unit: str = "frames", *, done: int = 0
) -> Iterator[Callable[..., None]]:
    """A progress bar with rate and remaining time; yields a function to call after each unit, with a note beside it.

    Args:
        description: what is under way.
        total: number of units, if it is known.
        unit: what is counted, for the rate.
        done: units done before.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True, highlight=False)) as progress:
        task = progress.add_task(description, total=total, completed=done, rate="", note="")

        def advance(note: str = "") -> None:
            progress.advance(task)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            progress.update(task, rate=f"{speed:.1f} {unit}/s" if speed else "", note=note)

        yield advance
