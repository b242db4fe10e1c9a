"""`stm-fast evaluate`: segment a dataset and score the masks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_fast.cli import options
from stm_fast.cli.console import Interrupted, stdout, with_sentences
from stm_fast.cli.datasets import DEFAULT_LAYOUT, DatasetLayout, DatasetSet
from stm_fast.cli.logs import log_to
from stm_fast.errors import OutputError
from stm_fast.media.files import discard
from stm_fast.media.notices import notice
from stm_fast.progress import progress_bar
from stm_fast.tracking.claims import claim
from stm_fast.tracking.options import TrackOptions

if TYPE_CHECKING:
    from stm_fast.data.clips import Dataset
    from stm_fast.evaluation.run import ClipRun
    from stm_fast.evaluation.score import ObjectScore
    from stm_fast.models.stm import STM


@with_sentences
@options.takes_track_options(*options.ON_DEVICE)
def evaluate(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the dataset.")],
    tracking: TrackOptions,
    subset: DatasetSet = None,
    dataset: DatasetLayout = DEFAULT_LAYOUT,
    out: Annotated[Path, typer.Option(help="Folder for masks and scores.")] = Path("evaluation"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results in OUT.")] = False,
    threads: options.Threads = None,
) -> None:
    """Segment the clips of a dataset and score J and F as DAVIS does.

    Writes masks to OUT in the dataset's layout, OUT/scores.csv and OUT/scores.json. Does not score the first and the
    last annotated frame of a clip. If a set has only the masks in which objects appear, writes masks and no scores.
    Frames/s is measured over decoding, segmenting and writing masks.
    """
    from stm_fast.data.faults import check_clips
    from stm_fast.data.layouts import open_videos
    from stm_fast.data.truth import unscored_because
    from stm_fast.evaluation.report import write_report
    from stm_fast.evaluation.score import check_scoring, score_dataset

    clips = open_videos(dataset, root, subset)
    if tracking.void is None:
        tracking = replace(tracking, void=clips.void)
    masks = out / clips.masks_folder
    given = [mask.resolve() for clip in clips for mask in list(clip.prompts.values())[:1] if isinstance(mask, Path)]
    if out.resolve() == root.resolve() or any(path.is_relative_to(masks.resolve()) for path in given):
        raise OutputError(f"{out} is the dataset itself: choose another --out")
    check_clips(clips, tracking.void)
    unscored = {clip.name: reason for clip in clips if (reason := unscored_because(clip, tracking.void))}
    if len(unscored) < len(clips):
        check_scoring()
    else:
        notice(f"{clips.name} has nothing to score ({_reasons(unscored)}): only masks are written")
    settings = {"root": str(root), "set": subset, "dataset": dataset} | tracking.settings()
    network = tracking.load()
    claim(
        out / "settings.json",
        (masks,),
        settings,
        resume=resume,
        overwrite=overwrite,
        clear=lambda: _clear(out, masks),
    )
    log_to(out, append=resume)
    runs = _run(tracking, network, clips, out)
    scores = score_dataset([clip for clip in clips if clip.name not in unscored], masks, tracking.void)
    scored = {score.clip for score in scores}
    for clip in clips:
        if clip.name not in scored:
            unscored.setdefault(clip.name, "no object in the masks that are scored")
    print_scores(clips.name, scores, runs)
    if scores:
        write_report(out, clips, scores, runs, settings, unscored)
        if unscored:
            notice(f"{len(unscored)} of {len(clips)} clips were segmented but not scored: {_reasons(unscored)}")
        written = f"masks are in {masks}, scores in {out}/scores.csv and scores.json"
    else:
        written = f"there is nothing to score; masks are in {masks}"
        if clips.submission:
            written += f"; to a server that has the truth, send {clips.submission.text.format(masks=masks)}"
    stdout.print(written, markup=False, soft_wrap=True)


def print_scores(title: str, scores: "Sequence[ObjectScore]", runs: "Sequence[ClipRun]") -> None:
    """Print a table of speed and, if there are any, mean scores: one line per clip, and one over all objects."""
    from rich.table import Table

    table = Table(title=title)
    table.add_column("clip")
    for column in ("objects", "frames", "J&F", "J", "F", "frames/s") if scores else ("frames", "frames/s"):
        table.add_column(column, justify="right")
    for run in runs:
        own = [score for score in scores if score.clip == run.clip]
        table.add_row(run.clip, *_numbers(own, run.frames, run.frames_per_second, scored=bool(scores)))
    if len(runs) > 1:
        frames, seconds = sum(run.frames for run in runs), sum(run.seconds for run in runs)
        table.add_section()
        numbers = _numbers(scores, frames, frames / seconds, scored=bool(scores))
        table.add_row("mean" if scores else "all", *numbers, style="bold")
    stdout.print(table)


def _numbers(scores: "Sequence[ObjectScore]", frames: int, frames_per_second: float, *, scored: bool) -> list[str]:
    """Return the cells of a line of the table; dashes for a clip without scores if others have some."""
    from stm_fast.evaluation.score import MeanScore

    speed = f"{frames_per_second:.1f}"
    if not scored:
        return [str(frames), speed]
    if not scores:
        return ["–", str(frames), "–", "–", "–", speed]
    mean = MeanScore.of(scores)
    return [str(len(scores)), str(frames), *(f"{value:.3f}" for value in (mean.jf, mean.j, mean.f)), speed]


def _reasons(unscored: Mapping[str, str]) -> str:
    """Say why clips have no score: each reason once, with the clips that it applies to."""
    from stm_fast.data.faults import name_some

    clips: dict[str, list[str]] = {}
    for clip, reason in unscored.items():
        clips.setdefault(reason, []).append(clip)
    return "; ".join(f"{reason} in {name_some(names)}" for reason, names in clips.items())


def _run(tracking: TrackOptions, network: "STM", clips: "Dataset", out: Path) -> "list[ClipRun]":
    from stm_fast.evaluation.run import run_clip
    from stm_fast.tracking.options import memory_limit_by_its_name

    runs: list[ClipRun] = []
    try:
        for number, clip in enumerate(clips, 1):
            frames = clip.open()
            segmenter = tracking.segmenter(network, frames.size)
            progress = progress_bar(f"{clip.name} ({number}/{len(clips)})", frames.count)
            with memory_limit_by_its_name(), progress as advance:
                runs.append(run_clip(segmenter, clip, clips, out, advance, tracking.void))
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"Interrupted after {len(runs)} of {len(clips)} clips; the same command with --resume continues."
        ) from error
    return runs


def _clear(out: Path, masks: Path) -> None:
    """Remove the results of an earlier run, which may have been of other clips."""
    for result in (*masks.glob("*/*.png"), *(out / "runs").glob("*.json"), out / "scores.csv", out / "scores.json"):
        discard(result)
    for clip in masks.glob("*"):
        if clip.is_dir() and not any(clip.iterdir()):
            clip.rmdir()
