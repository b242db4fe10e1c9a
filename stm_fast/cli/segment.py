"""`stm-fast segment`: one clip, from its first mask to masks, pictures and a summary."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stm_fast.cli import options
from stm_fast.cli.console import Interrupted, say, stdout, with_sentences
from stm_fast.cli.outputs import OutputFolder, claim
from stm_fast.errors import MediaError
from stm_fast.progress import progress_bar

if TYPE_CHECKING:
    from stm_fast.inference.checkpoint import Checkpoint
    from stm_fast.inference.resumable import ResumableSegmenter
    from stm_fast.media.summary import RunSummary
    from stm_fast.media.video import FrameSource

OUTPUT_PANEL = "Output"
IMAGES_FPS = Fraction(24)


@with_sentences
def segment(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A video, or a folder of images.")],
    mask: Annotated[
        Path,
        typer.Option(help="Mask of the first frame, or a folder of masks by frame name for objects that appear later."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for masks, overlay, contact sheet and summary.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in OUT.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over the results in OUT.")] = False,
    overlay: Annotated[bool, typer.Option(help="Write overlay.mp4.", rich_help_panel=OUTPUT_PANEL)] = True,
    opacity: Annotated[
        float, typer.Option(min=0, max=1, help="Of the tint over objects.", rich_help_panel=OUTPUT_PANEL)
    ] = 0.4,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1000,
            help="Frames a second of the overlay; the video's own, or 24 for images, if left out.",
            show_default=False,
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = None,
    model: options.Model = "compact",
    weights: options.Weights = None,
    size: options.Size = None,
    memory_every: options.MemoryEvery = 5,
    memory: options.MemoryName = "official",
    memory_limit: options.MemoryLimit = None,
    top_k: options.TopK = None,
    device: options.Device = "auto",
    dtype: options.DtypeOption = options.Dtype.auto,
    backend: options.Backend = "auto",
    offload: options.OffloadOption = options.Offload.none,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How often the state is written, from which --resume goes on to the same masks; 0 for never.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = 120.0,
) -> None:
    """Segment a video from the mask of its first frame.

    Writes OUT/masks (palette PNGs, index = object id), OUT/overlay.mp4, OUT/contact_sheet.png and OUT/summary.json.
    Masks are written as they are made, and the state every few minutes: a run that was interrupted or killed leaves
    valid files and goes on with --resume.
    """
    from stm_fast.inference.checkpoint import Checkpoint
    from stm_fast.inference.prompts import find_prompts
    from stm_fast.media.video import open_frames

    chosen = options.SegmenterOptions(
        model, weights, size, memory_every, memory, memory_limit, top_k, device, dtype, backend, offload
    )
    frames = open_frames(source)
    prompts = find_prompts(mask, frames)
    folder = OutputFolder(out)
    settings = {"input": str(source), "mask": str(mask)} | chosen.settings()
    given = {source.resolve(), *(path.resolve().parent for path in prompts.values())}
    for result in (folder.masks, folder.overlay, folder.contact_sheet):
        if result.resolve() in given:
            raise ValueError(f"{result} is or holds what is given as INPUT or --mask: choose another --out")
    if folder.root.resolve() == source.resolve():
        raise ValueError(f"--out {out} is the folder of frames given as INPUT: choose another --out")
    segmenter = chosen.segmenter(chosen.load(), frames.size, folder.root)
    claim(
        folder.summary,
        (folder.masks, folder.overlay, folder.contact_sheet),
        settings,
        resume=resume,
        overwrite=overwrite,
        clear=folder.clear,
    )
    rate = Fraction(fps) if fps else frames.fps or IMAGES_FPS
    summary = follow(
        segmenter,
        frames,
        prompts,
        folder,
        settings,
        resume=resume,
        checkpoint=Checkpoint(folder.checkpoint, checkpoint_every),
        fps=rate if overlay else None,
        opacity=opacity,
    )
    stdout.print(
        f"{summary.frames} frames, {len(summary.objects)} objects, {summary.frames_per_second:.1f} frames/s; "
        f"results are in {out}",
        markup=False,
        soft_wrap=True,
    )


def follow(
    segmenter: "ResumableSegmenter",
    frames: "FrameSource",
    prompts: Mapping[str, Path],
    folder: OutputFolder,
    settings: dict[str, object],
    *,
    resume: bool = False,
    checkpoint: "Checkpoint | None" = None,
    fps: Fraction | None = IMAGES_FPS,
    opacity: float = 0.4,
    remedy: str = "The same command with --resume goes on.",
) -> "RunSummary":
    """Segment a clip into a folder, with pictures and summary, behind a progress bar.

    Args:
        segmenter: started here.
        frames: the clip.
        prompts: mask files by frame name.
        folder: where results go.
        settings: for the summary.
        resume: go on with the masks in the folder.
        checkpoint: where the state goes from time to time.
        fps: of the overlay; None for no overlay.
        opacity: of the overlay's tint.
        remedy: what to tell a user who stopped it.

    Raises:
        Interrupted: by Ctrl-C; all files are whole and hold the frames so far.
        MediaError: the clip breaks off; all files are whole and hold the frames before.
        OSError: a file cannot be written.
    """
    from stm_fast.inference.propagation import propagate
    from stm_fast.media.contact_sheet import ContactSheet
    from stm_fast.media.encode import video_writer
    from stm_fast.media.masks import object_ids
    from stm_fast.media.overlay import blend

    begin = time.perf_counter()
    sheet = ContactSheet(opacity=opacity)
    objects: set[int] = set()
    done = resumed = 0
    stopped: BaseException | None = None
    try:
        with ExitStack() as stack:
            encoder = stack.enter_context(video_writer(folder.overlay, fps)) if fps else None
            advance = stack.enter_context(progress_bar("Segmenting", frames.count))
            for frame in propagate(segmenter, frames, prompts, folder.masks, resume=resume, checkpoint=checkpoint):
                objects.update(object_ids(frame.mask))
                if encoder:
                    encoder.write(blend(frame.image, frame.mask, opacity, labels=True, legend=sorted(objects)))
                sheet.add(frame.name, frame.image, frame.mask)
                done += 1
                resumed += frame.resumed
                advance(f"memory {_bytes(segmenter.memory.nbytes + segmenter.memory.stored_bytes)}")
    except ValueError as error:
        if not str(error).startswith("max_bytes "):
            raise
        told = str(error).replace("max_bytes", "--memory-limit", 1)
        raise ValueError(f"{told}; --resume goes on with more") from error
    except (KeyboardInterrupt, MediaError) as error:
        stopped = error
        if checkpoint:
            checkpoint.keep(segmenter)
    sheet.save(folder.contact_sheet)
    summary = _summary(segmenter, done, resumed, objects, time.perf_counter() - begin, settings, complete=not stopped)
    summary.write(folder.summary)
    if isinstance(stopped, KeyboardInterrupt):
        raise Interrupted(f"Interrupted after {done} frames; their masks are in {folder.masks}. {remedy}") from stopped
    if stopped:
        say(f"{done} frames were segmented before the input broke off; results are in {folder.root}")
        raise stopped
    return summary


def _summary(
    segmenter: "ResumableSegmenter",
    done: int,
    resumed: int,
    objects: set[int],
    seconds: float,
    settings: dict[str, object],
    *,
    complete: bool,
) -> "RunSummary":
    from stm_fast.media.summary import RunSummary

    stages = dict(segmenter.timings)
    return RunSummary(
        frames=done,
        objects=sorted(objects),
        complete=complete,
        resumed_frames=resumed,
        seconds=stages | {"media": seconds - sum(stages.values()), "total": seconds},
        frames_per_second=(done - resumed) / seconds,
        memory_tokens=segmenter.memory.tokens,
        backend=_serving(segmenter),
        settings=settings,
    )


def _bytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _serving(segmenter: "ResumableSegmenter") -> str:
    """The backend that reads: the one that was named, or what "auto" takes."""
    if segmenter.backend != "auto":
        return segmenter.backend
    from stm_fast.ops.backends.registry import Call
    from stm_fast.ops.dispatch import choose
    from stm_fast.ops.similarity import dot

    key = next(segmenter.model.parameters()).new_zeros(1, 1, 1)
    operation, chosen = ("read", ()) if segmenter.top_k is None else ("top_k_read", (segmenter.top_k,))
    return choose("auto", Call(operation, dot(key, key, 1.0), (key[None], *chosen)))
