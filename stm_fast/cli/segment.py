"""`stm-fast segment`: a video and its first mask in; masks, overlay, contact sheet and summary out."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stm_fast.cli import options
from stm_fast.cli.console import Interrupted, say, stdout, with_sentences
from stm_fast.cli.logs import log_to
from stm_fast.errors import MediaError
from stm_fast.progress import progress_bar
from stm_fast.tracking.options import TrackOptions

if TYPE_CHECKING:
    from stm_fast.media.summary import RunSummary
    from stm_fast.tracking.hinted import Hinted
    from stm_fast.tracking.propagation import TrackedFrame
    from stm_fast.tracking.track import Track

FRAMES_PANEL = "Frames and corrections"
HINTS_PANEL = "In place of a mask"
RESUME = "The same command with --resume continues."


class Direction(str, Enum):
    """Where objects are followed to from the start frame."""

    forward = "forward"
    backward = "backward"
    both = "both"


@with_sentences
@options.takes_track_options(*options.ALL)
def segment(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="A video, a folder of images, a URL, or - for standard input.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for masks, overlay, contact sheet and summary.")],
    tracking: TrackOptions,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Mask of the first frame, or of --from-frame; or a folder of masks named like their frames, "
            "for objects that appear later.",
            show_default=False,
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID:X0,Y0,X1,Y1",
            help="A box around an object in the first frame, or that of --from-frame, in pixels from the top left; any "
            "number of them.",
            show_default=False,
            rich_help_panel=HINTS_PANEL,
        ),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID:X,Y,+",
            help="A point on an object in that frame, or beside it with - in place of +; any number of them.",
            show_default=False,
            rich_help_panel=HINTS_PANEL,
        ),
    ] = None,
    prompter: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What turns boxes and points into masks: grabcut, sam2, or one that a package registers.",
            rich_help_panel=HINTS_PANEL,
        ),
    ] = "grabcut",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results in OUT.")] = False,
    corrections: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Masks of frames in which objects are wrong, named like their frames; objects that a mask does not "
            "show stay as they are. With results in OUT, only the frames that a new correction reaches are segmented "
            "again.",
            show_default=False,
            rich_help_panel=FRAMES_PANEL,
        ),
    ] = None,
    from_frame: Annotated[
        str | None,
        typer.Option(
            metavar="FRAME",
            help="Frame to begin at, by its name or its number from 0. Defaults to the first one; backward to the last "
            "one with a mask.",
            show_default=False,
            rich_help_panel=FRAMES_PANEL,
        ),
    ] = None,
    direction: Annotated[
        Direction,
        typer.Option(
            help="Follow objects forward, backward, or both, from --from-frame.", rich_help_panel=FRAMES_PANEL
        ),
    ] = Direction.forward,
    frames: Annotated[
        str | None,
        typer.Option(
            metavar="A:B:S",
            help="Only the frames from A to the one before B, every S-th; each may be left out. Other frames get no "
            "mask.",
            show_default=False,
            rich_help_panel=FRAMES_PANEL,
        ),
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Write overlay.mp4.", rich_help_panel=options.OUTPUT_PANEL)] = True,
    opacity: Annotated[
        float,
        typer.Option(min=0, max=1, help="Opacity of the tint over objects.", rich_help_panel=options.OUTPUT_PANEL),
    ] = 0.4,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1000,
            help="Frames per second of the overlay. Defaults to those of the video, or 24 for images.",
            show_default=False,
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    threads: options.Threads = None,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How often to write the state, from which --resume continues to the same masks; 0 for never.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = 120.0,
    keep_states: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Keep N states after the end, from which a run with other corrections continues exactly.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = 0,
) -> None:
    """Segment a video from the mask of its first frame, or of any other, or from boxes and points in it.

    Writes OUT/masks (palette PNGs, index = object id), OUT/overlay.mp4, OUT/contact_sheet.png, OUT/summary.json
    and OUT/frames.jsonl (area and uncertainty of each object in each frame); with --soft also OUT/soft. stm-fast export
    writes the results in other formats.
    Masks are written as they are made, and the state of the run every few minutes: if a run is interrupted or killed,
    its files are valid and --resume continues it.
    """
    from stm_fast.tracking.overlay import Overlay
    from stm_fast.tracking.route import Route
    from stm_fast.tracking.track import Track

    drawn = Overlay(opacity, fps)
    route = Route(direction.value, from_frame, frames)
    prompts = _prompts(mask, box or [], point or [], prompter)
    tracker = Track.open(source, prompts, tracking, route=route, offload_to=out, corrections=corrections)
    summary = save(
        tracker,
        out,
        resume=resume,
        overwrite=overwrite,
        overlay=drawn if overlay else None,
        checkpoint_every=checkpoint_every,
        keep_states=keep_states,
        settings={"input": str(source), "mask": _text(mask), **_hint_settings(box, point, prompter)},
    )
    counts = f"{_count(summary.frames, 'frame')}, {_count(len(summary.objects), 'object')}"
    if summary.resumed_frames < summary.frames:
        pace = f"{summary.frames_per_second:.1f} frames/s"
    else:
        pace = "all segmented before"
    stdout.print(f"{counts}, {pace}; results are in {out}", markup=False, soft_wrap=True)


def _prompts(mask: Path | None, boxes: list[str], points: list[str], prompter: str) -> "Path | Hinted":
    """Return what shows the objects, as `Track.open` takes it."""
    from stm_fast.prompters.hints import parse_hints
    from stm_fast.tracking.hinted import Hinted

    if hints := parse_hints(boxes, points):
        return Hinted(hints, prompter, mask)
    if mask is None:
        raise typer.BadParameter("a mask is needed, or --box or --point in its place", param_hint="--mask")
    return mask


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _hint_settings(boxes: list[str] | None, points: list[str] | None, prompter: str) -> dict[str, object]:
    """Return the settings of hints for the summary; none if there are no hints."""
    return {"box": boxes or [], "point": points or [], "prompter": prompter} if boxes or points else {}


def save(tracker: "Track", out: Path, *, remedy: str = RESUME, **how: Any) -> "RunSummary":
    """Save a video with a progress bar; see `stm_fast.tracking.track.Track.save`.

    Args:
        tracker: the video.
        out: folder of the results.
        remedy: how to resume, for a user who interrupts it.
        how: further arguments of `Track.save`.

    Raises:
        Interrupted: the user pressed Ctrl-C; all files are complete and hold the frames so far.
        MediaError: the clip breaks off; all files are complete and hold the frames before.
        OSError: a file cannot be written.
    """

    def each(frame: "TrackedFrame") -> None:
        if tracker.frames_saved == 1:
            log_to(out, append=tracker.resumed)
        advance(f"memory {_bytes(_held(tracker))}")

    try:
        with progress_bar("Segmenting", tracker.count) as advance:
            return tracker.save(out, **how, each=each)
    except KeyboardInterrupt as error:
        done = f"Interrupted after {tracker.frames_saved} frames"
        raise Interrupted(f"{done}; their masks are in {out / 'masks'}. {remedy}") from error
    except MediaError:
        if tracker.frames_saved:
            say(f"{tracker.frames_saved} frames were segmented before the input broke off; results are in {out}")
        raise


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _held(tracker: "Track") -> int:
    memory = tracker.segmenter.memory
    return memory.nbytes + memory.stored_bytes


def _bytes(number: int) -> str:
    if number >= 1e9:
        return f"{number / 1e9:.1f} GB"
    return f"{number / 1e6:.0f} MB" if number >= 1e7 else f"{number / 1e6:.1f} MB"
