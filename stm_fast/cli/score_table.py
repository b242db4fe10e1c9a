"""The table of scores that commands print."""

from typing import TYPE_CHECKING

from stm_fast.cli.console import stdout

if TYPE_CHECKING:
    from stm_fast.evaluation.object_score import MeanScore
    from stm_fast.evaluation.report import Report
    from stm_fast.evaluation.run import ClipRun


def print_scores(title: str, report: "Report") -> None:
    """Print speed and memory, if clips were segmented, and mean scores, if there are any.

    One line per clip, then the means over all objects, and those of seen and unseen ones where a set tells them apart.
    """
    from rich.table import Table

    from stm_fast.evaluation.object_score import KINDS, MeanScore, means

    table = Table(title=title)
    table.add_column("clip", overflow="fold")
    scored, last = bool(report.scores), report.protocol.last_quarter
    scores = ["objects", "J&F", "J", "F", *(["J_tr"] if last else [])] if scored else []
    for column in [*scores, *(["frames", "frames/s", "peak GB"] if report.runs else [])]:
        table.add_column(column, justify="right", no_wrap=True)

    def cells(count: int, mean: "MeanScore | None", run: "ClipRun | None") -> list[str]:
        numbers = (mean.jf, mean.j, mean.f, *([mean.j_last] if last else [])) if mean else [None] * (len(scores) - 1)
        row = [str(count) if count else "–", *map(_decimal, numbers)] if scored else []
        return row + (_figures(run) if report.runs else [])

    for clip in report.dataset:
        own = report.of(clip.name)
        table.add_row(clip.name, *cells(len(own), MeanScore.of(own) if own else None, report.run(clip.name)))
    if len(report.dataset) > 1 or any(score.unseen is not None for score in report.scores):
        table.add_section()
        if not scored:
            table.add_row("all", *cells(0, None, report.in_all()), style="bold")
        for name, mean in (means(report.scores) if scored else {}).items():
            kind = KINDS.get(name)
            count = sum(kind is None or score.unseen is kind for score in report.scores)
            table.add_row(name, *cells(count, mean, report.in_all() if name == "mean" else None), style="bold")
    stdout.print(table)


def _decimal(number: float | None) -> str:
    return "–" if number is None else f"{number:.3f}"


def _figures(run: "ClipRun | None") -> list[str]:
    if run is None:
        return [""] * 3
    peak = "–" if run.peak_bytes is None else f"{run.peak_bytes / 1e9:.2f}"
    return [str(run.frames), f"{run.frames_per_second:.1f}", peak]
