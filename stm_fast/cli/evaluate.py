"""`stm-fast evaluate`: segment a dataset and score the masks."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from stm_fast.cli import options
from stm_fast.cli.console import Interrupted, stdout, with_sentences
from stm_fast.cli.datasets import DEFAULT_LAYOUT, DatasetLayout, DatasetSet, DatasetVoid, void_of
from stm_fast.cli.logs import log_to
from stm_fast.cli.score_table import print_scores
from stm_fast.errors import ArgumentError, OutputError, StmFastError
from stm_fast.media.files import discard
from stm_fast.media.notices import notice
from stm_fast.tracking.claims import claim
from stm_fast.tracking.options import TrackOptions

if TYPE_CHECKING:
    from stm_fast.data.clips import Dataset
    from stm_fast.evaluation.jobs import Outcomes, Work
    from stm_fast.evaluation.protocol import Protocol
    from stm_fast.evaluation.report import Report
    from stm_fast.models.stm import STM


@with_sentences
@options.takes_track_options(*options.FOR_DATASETS)
def evaluate(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the dataset.")],
    tracking: TrackOptions,
    subset: DatasetSet = None,
    dataset: DatasetLayout = DEFAULT_LAYOUT,
    void: DatasetVoid = None,
    out: Annotated[Path, typer.Option(help="Folder for masks and scores.")] = Path("evaluation"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results in OUT.")] = False,
    archive: Annotated[
        bool,
        typer.Option(
            "--zip",
            help="Also write the masks to OUT/SET.zip, in the layout of the server that scores the set; of BURST, to "
            "OUT/SET.json.",
        ),
    ] = False,
    flip: Annotated[
        bool,
        typer.Option(
            "--flip",
            help="Segment each clip mirrored too, and average the probabilities of both.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = False,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS,PIXELS",
            help="Segment each clip at several sizes, such as 480,600 (shorter side; frames may be enlarged), and "
            "average the probabilities.",
            show_default=False,
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Number of clips that are segmented at once, each in a process of its own.")
    ] = 1,
    threads: options.Threads = None,
) -> None:
    """Segment the clips of a dataset and score J and F by its protocol.

    Writes masks to OUT in the dataset's layout, OUT/scores.csv and OUT/scores.json. Which frames are scored depends on
    the dataset: DAVIS leaves out the first and the last annotated frame of a clip. If a set has only the masks in which
    objects appear, writes masks and no scores. Frames/s is measured over decoding, segmenting and writing masks; memory
    is the peak of the process, or of what is allocated on the GPU.
    """
    from stm_fast.data.faults import check_clips
    from stm_fast.data.layouts import open_videos
    from stm_fast.evaluation.jobs import Work
    from stm_fast.evaluation.protocol import protocol_of
    from stm_fast.evaluation.submission import wanted, write_submission
    from stm_fast.evaluation.test_time import Views

    views = Views(_sizes(sizes, tracking), flip)
    clips, protocol = open_videos(dataset, root, subset), protocol_of(dataset)
    tracking = replace(tracking, void=void_of(clips, void))
    masks = out / clips.masks_folder
    _check_out(out, root, masks, clips)
    if archive:
        wanted(clips)
    check_clips(clips, tracking.void)
    unscored = _unscored(clips, protocol, tracking.void)
    settings = {"root": str(root), "set": subset, "dataset": dataset} | tracking.settings()
    settings |= {"flip": flip or None, "sizes": list(views.sizes) or None}
    network = tracking.load()
    views.check(network)
    claim(
        out / "settings.json",
        (masks,),
        settings,
        resume=resume,
        overwrite=overwrite,
        clear=lambda: _clear(out, masks),
    )
    log_to(out, append=resume)
    done = _run(Work(clips, out, tracking, views), clips, network, jobs)
    unscored |= dict.fromkeys(done.failed, "could not be segmented")
    faults: dict[str, str] = {}
    scored = _report(clips, done, unscored, protocol, masks, settings | {"jobs": jobs}, faults)
    print_scores(clips.name, scored)
    known = done.failed | faults
    if scored.scores:
        scored.write(out)
        _notice_unscored({name: why for name, why in scored.unscored.items() if name not in known}, clips)
    for name, why in faults.items():
        notice(f"clip {name} cannot be scored: {why}")
    if done.failed:
        raise StmFastError(
            f"{len(done.failed)} of {len(clips)} clips could not be segmented ({', '.join(done.failed)}): the same "
            "command with --resume tries them again"
        )
    if faults:
        raise StmFastError(
            f"{len(faults)} of {len(clips)} clips could not be scored ({', '.join(faults)}): correct the masks and "
            f"give the same command with --resume, which redoes clips whose files in {out / 'runs'} you delete"
        )
    written = f"masks are in {masks}, scores in {out}/scores.csv and scores.json"
    if not scored.scores:
        written = f"there is nothing to score; masks are in {masks}"
    if archive:
        written += f"; to the server, send {write_submission(out, _name(root, subset), clips, masks)}"
    elif clips.submission and not scored.scores:
        written += f"; to a server that has the truth, send {clips.submission.text.format(masks=masks)}"
    stdout.print(written, markup=False, soft_wrap=True)


def _unscored(clips: "Dataset", protocol: "Protocol", void: int | None) -> dict[str, str]:
    """Return why clips cannot be scored; raise an error if the others cannot be either, before hours of segmenting."""
    from stm_fast.evaluation.clip_score import check_scoring
    from stm_fast.evaluation.report import reasons

    unscored = protocol.unscored(clips, void)
    if len(unscored) < len(clips):
        check_scoring()
    else:
        notice(f"{clips.name} has nothing to score ({reasons(unscored)}): only masks are written")
    return unscored


def _report(
    clips: "Dataset",
    done: "Outcomes",
    unscored: dict[str, str],
    protocol: "Protocol",
    masks: Path,
    settings: dict[str, object],
    faults: dict[str, str],
) -> "Report":
    """Score what was segmented; `faults` takes why clips could not be scored after all."""
    from stm_fast.evaluation.report import Report
    from stm_fast.evaluation.score import score_set

    void = cast("int | None", settings["void"])
    folders = {clip.name: masks / clip.name for clip in clips}
    scores, unscored = score_set(clips, folders, unscored, void, protocol, faults)
    return Report(clips, scores, done.runs, unscored, protocol, void, settings)


def _notice_unscored(unscored: dict[str, str], clips: "Dataset") -> None:
    from stm_fast.evaluation.report import reasons

    if unscored:
        notice(f"{len(unscored)} of {len(clips)} clips were segmented but not scored: {reasons(unscored)}")


def _name(root: Path, subset: str | None) -> str:
    """Return the name of the set for a file."""
    return (subset or root.resolve().name).replace("/", "-")


def _check_out(out: Path, root: Path, masks: Path, clips: "Dataset") -> None:
    given = [mask.resolve() for clip in clips for mask in list(clip.prompts.values())[:1] if isinstance(mask, Path)]
    if out.resolve() == root.resolve() or any(path.is_relative_to(masks.resolve()) for path in given):
        raise OutputError(f"{out} is the dataset itself: choose another --out")
    # A folder beside those of clips would be taken for a clip.
    clip_folders = {each.resolve() for clip in clips for each in (clip.frames, *(path.parent for path in given[:1]))}
    inside = any(out.resolve().is_relative_to(folder) for folder in clip_folders)
    if inside or any(out.resolve() == folder.parent for folder in clip_folders):
        raise OutputError(f"{out} is a part of the dataset: choose another --out")


def _sizes(text: str | None, tracking: TrackOptions) -> tuple[int, ...]:
    """Return the sizes of a text such as "480,600"."""
    if text is None:
        return ()
    if tracking.size != "auto":
        raise ArgumentError("sizes", "and --size exclude each other")
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts) or len(set(map(int, parts))) < len(parts):
        raise ArgumentError("sizes", f"must be different numbers of pixels with commas between them, got {text!r}")
    return tuple(map(int, parts))


def _run(work: "Work", clips: "Dataset", network: "STM", jobs: int) -> "Outcomes":
    from stm_fast.evaluation.jobs import run_in_processes, run_in_turn
    from stm_fast.evaluation.run import recorded
    from stm_fast.progress import progress_bar

    try:
        if jobs == 1:
            return run_in_turn(work, clips.clips, network, progress_bar)
        return run_in_processes(work, clips.clips, jobs, progress_bar)
    except KeyboardInterrupt as error:
        done = sum(recorded(clip, work.out) is not None for clip in clips)
        raise Interrupted(
            f"Interrupted after {done} of {len(clips)} clips; the same command with --resume continues."
        ) from error


def _clear(out: Path, masks: Path) -> None:
    """Remove the results of an earlier run, which may have been of other clips."""
    from stm_fast.evaluation.report import clear_reports
    from stm_fast.evaluation.run import RUNS

    for result in (*masks.glob("*/*.png"), *(out / RUNS).glob("*.json")):
        discard(result)
    clear_reports(out)
    for clip in masks.glob("*"):
        if clip.is_dir() and not any(clip.iterdir()):
            clip.rmdir()
