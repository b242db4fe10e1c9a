"""`stm_fast.track`: a video and its first mask in, the masks of all frames out."""

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from stm_fast.errors import ArgumentError, MediaError
from stm_fast.inference.objects import Mask
from stm_fast.inference.segmenter import Segmenter
from stm_fast.media.frames import FrameSource
from stm_fast.media.notices import notice
from stm_fast.media.sources import open_frames
from stm_fast.tracking import claims, inputs
from stm_fast.tracking.options import TrackOptions
from stm_fast.tracking.prompts import Given, Prompter, given_masks
from stm_fast.tracking.propagation import (
    Corrected,
    Correction,
    Earlier,
    TrackedFrame,
    check_correction,
    propagate,
)
from stm_fast.tracking.results import OutputFolder, Results
from stm_fast.tracking.sequence import FrameSequence

if TYPE_CHECKING:
    import torch

    from stm_fast.media.summary import RunSummary
    from stm_fast.models.stm import STM

IMAGES_FPS = Fraction(24)
Corrections = Callable[[TrackedFrame], "Correction | Mask | None"]


class Track(Generator[TrackedFrame, "Correction | Mask | None", None]):
    """A video that is tracked as one iterates; see `stm_fast.track`.

    Attributes:
        frames: the video.
        segmenter: that tracks it; its objects can be removed and its memory looked at between frames.
        frames_saved: number of frames that `save` has written.
    """

    def __init__(
        self,
        frames: FrameSource,
        masks: Mapping[str, Given],
        segmenter: Segmenter,
        options: TrackOptions,
        *,
        corrections: Corrections | None = None,
        progress: bool = False,
    ) -> None:
        self.frames = frames
        self.segmenter = segmenter
        self.frames_saved = 0
        self._masks = masks
        self._options = options
        self._corrections = corrections
        self._progress = progress
        self._steps = self._run()
        self._begun = self._told = False

    @classmethod
    def open(
        cls,
        video: "str | Path | FrameSource | Iterable[Any]",
        masks: Any = None,
        options: TrackOptions | None = None,
        *,
        network: "STM | None" = None,
        offload_to: str | Path | None = None,
        corrections: Corrections | None = None,
        progress: bool = False,
    ) -> "Track":
        """Open a video and load a model; arguments as those of `stm_fast.track`, and a `network` in place of one."""
        options = options or TrackOptions()
        frames = _frames(video)
        given = given_masks(masks, frames, void=options.void)
        model = options.load() if network is None else network
        segmenter = options.segmenter(model, frames.size, None if offload_to is None else Path(offload_to))
        return cls(frames, given, segmenter, options, corrections=corrections, progress=progress)

    def send(self, value: "Correction | Mask | None") -> TrackedFrame:
        """Correct the last frame by a mask, and return it anew; None for the next frame.

        Args:
            value: ids `(H, W)`, of which those that are in the mask are corrected or join; or a `Correction`, which
                names them. None goes to the next frame, as `next` does.

        Raises:
            StopIteration: there is no further frame.
            RuntimeError: no frame was taken yet.
            TypeError, ValueError: the mask cannot be used; the frame stays as it is, and the video continues.
        """
        if value is not None:
            if not self._begun:
                raise RuntimeError("send must follow the first frame: take that with next, then correct it")
            check_correction(value, self.frames.size)
        self._begun = True
        return self._steps.send(value)

    def throw(
        self,
        typ: Any,
        val: "BaseException | object" = None,
        tb: TracebackType | None = None,
    ) -> TrackedFrame:
        """Raise an exception where the generator is."""
        return self._steps.throw(typ) if val is None else self._steps.throw(typ, val, tb)

    def close(self) -> None:
        """Stop, and close the video."""
        self._steps.close()

    def save(
        self,
        folder: str | Path,
        *,
        resume: bool = False,
        overwrite: bool = False,
        overlay: bool = True,
        opacity: float = 0.4,
        fps: float | None = None,
        checkpoint_every: float = 120.0,
        settings: Mapping[str, object] | None = None,
        each: Callable[[TrackedFrame], None] | None = None,
    ) -> "RunSummary":
        """Track the video to its end and write everything into a folder, as `stm-fast segment` does.

        Writes `masks/` (palette PNGs, index = object id), `overlay.mp4`, `contact_sheet.png`, `summary.json` and
        `frames.jsonl`. Masks are written as they are made. What was interrupted, also by a kill, is resumed by a new
        `track(...)` of the same arguments with `save(..., resume=True)`.

        Args:
            folder: where results go.
            resume: continue an interrupted run.
            overwrite: replace the results of an earlier run.
            overlay: write `overlay.mp4`.
            opacity: of the tint over objects, 0 to 1.
            fps: frames per second of the overlay; None for the video's own times, or 24 for images.
            checkpoint_every: seconds between two states on disk, from which a killed run resumes to the same masks; 0
                for none.
            settings: more of them for the summary.
            each: called with each frame once its mask is written.

        Raises:
            RuntimeError: frames were taken before.
            ValueError: `opacity` or `fps` is out of range, or a result would lie where an input does.
            StmFastError: the folder holds results, or those of other inputs or settings.
            MediaError: the video breaks off; everything is written, up to there.
            OSError: a file cannot be written.
        """
        if self._begun:
            raise RuntimeError("save must be called before the first frame is taken: a video is tracked once")
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity must be from 0 to 1, got {opacity}")
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"fps must be above 0 or None, got {fps}")
        if resume and not self.frames.seekable:
            raise MediaError(
                f"{self.frames.path} can be read once only, and a run that resumes reads the frames before once more: "
                "save them to a file first"
            )
        out = OutputFolder(Path(folder))
        files = {name: given for name, given in self._masks.items() if isinstance(given, Path)}
        self._check_inputs(out, files)
        made_from = inputs.identity(self.frames, self._masks)
        noted = {**(settings or {}), **self._options.settings()}
        claims.claim(
            out.summary,
            (*out.pictures, out.journal),
            noted,
            resume=resume,
            overwrite=overwrite,
            clear=out.clear,
            inputs=made_from,
            check=lambda before: inputs.check_unchanged(before, made_from, self._masks, out.frames_done()),
        )
        try:
            rate = Fraction(fps) if fps else self.frames.fps or IMAGES_FPS
            results = Results(
                out,
                self.segmenter,
                self.frames.size,
                noted,
                resume=resume,
                fps=rate if overlay else None,
                timed=not fps,
                pixel_aspect=self.frames.pixel_aspect,
                opacity=opacity,
                checkpoint_every=checkpoint_every,
                inputs=made_from,
            )
            with results:
                self._begun, self._steps = True, self._run(results)
                for frame in self._steps:
                    results.write(frame)
                    self.frames_saved = results.frames
                    if each:
                        each(frame)
        except ArgumentError as error:
            if error.argument != "max_bytes":
                raise
            raise ArgumentError("memory_limit", f"{error.problem}; resume continues with more") from error
        finally:
            claims.release(out.root)
        assert results.summary is not None
        return results.summary

    def _check_inputs(self, out: OutputFolder, files: Mapping[str, Path]) -> None:
        """Make sure that no result would be written over an input."""
        source = Path(self.frames.path).resolve()
        given = {source, *(path.resolve().parent for path in files.values())}
        for result in out.pictures:
            if result.resolve() in given:
                raise ValueError(f"{result} is or holds what is given as video or mask: choose another folder")
        if out.root.resolve() == source:
            raise ValueError(f"{out.root} is the folder of frames that is given as video: choose another folder")

    def _run(self, earlier: Earlier | None = None) -> Corrected:
        """The frames, with the corrections of the callback."""
        masks = Prompter(self._masks, self.frames.size, void=self._options.void)
        steps = propagate(self.segmenter, self.frames, masks, earlier=earlier)
        found_any = False
        with closing(steps), self._progress_bar() as advance:
            for frame in steps:
                done = earlier is not None and earlier.restored is not None and frame.index <= earlier.restored
                if self._corrections and not done and (found := self._corrections(frame)) is not None:
                    frame = steps.send(found)
                while (correction := (yield frame)) is not None:
                    frame = steps.send(correction)
                self._tell_when_full(frame)
                found_any = found_any or bool(frame.objects)
                advance()
            masks.finish()
        if not found_any:
            notice("no mask and no correction showed an object: nothing was segmented")

    def _progress_bar(self) -> AbstractContextManager[Callable[[], None]]:
        if not self._progress:
            return nullcontext(lambda: None)
        from stm_fast.progress import progress_bar

        return progress_bar("Tracking", self.frames.count)

    def _tell_when_full(self, frame: TrackedFrame) -> None:
        """Say once that a memory without options is no longer that of the paper."""
        if self._told or self._options.memory != "auto" or not self.segmenter.memory.is_full:
            return
        self._told = True
        notice(
            f"the memory is full after frame {frame.name}: from here on old frames become prototypes, so that memory "
            'and speed stay as they are (memory "official" keeps all frames instead)'
        )


def track(
    video: "str | Path | FrameSource | Iterable[Any]",
    masks: "str | Path | Mask | Mapping[Any, str | Path | Mask] | None" = None,
    *,
    model: "str | Path | STM" = "compact",
    weights: str | Path | None = None,
    size: int | str | None = "auto",
    dtype: "str | torch.dtype" = "auto",
    device: "str | torch.device" = "auto",
    memory: str = "auto",
    memory_every: int = 5,
    memory_limit: int | str | None = None,
    top_k: int | None = None,
    backend: str = "auto",
    offload: str = "none",
    offload_to: str | Path | None = None,
    void: int | None = None,
    corrections: Corrections | None = None,
    progress: bool = False,
) -> Track:
    """Track objects through a video from their masks.

    ```python
    for frame in stm_fast.track("video.mp4", "mask.png"):
        print(frame.name, frame.objects, frame.mask.shape)

    stm_fast.track("video.mp4", "mask.png", progress=True).save("result")
    ```

    The result is an iterator over `TrackedFrame`: index, name, image, mask, objects, uncertainty. Its `send` corrects
    the frame that came last and returns it anew; `save` writes what `stm-fast segment` writes. Options are those of the
    command line, and so are their defaults.

    Args:
        video: a path that `stm_fast.media.sources.open_frames` takes; or RGB frames, numpy `(H, W, 3)` or torch
            `(3, H, W)`, uint8 or floating in [0, 1]: a list, or an iterator such as a live source.
        masks: the mask of the first frame, or masks of several by frame: a file, a folder of files named like their
            frames, an integer array `(H, W)` of ids, or a mapping from the numbers or names of frames to files or
            arrays. None where the first correction shows the objects.
        model: "compact", "resnet50" with `weights`, a file of weights, or a network from `load_model`.
        weights: see `TrackOptions`, as all of the following but the last four.
        size: shorter side, in pixels, that the network works at; "auto" for the model's best.
        dtype: "auto", "float32", "bfloat16" or "float16"; a network that is given keeps its own.
        device: "auto", "cpu", "cuda" ...; a network that is given stays where it is.
        memory: "auto", "official", "window:N", "least-used:N", "long-term" or "diverse".
        memory_every: distance between remembered frames.
        memory_limit: the most bytes that are remembered.
        top_k: read only the k best memory tokens.
        backend: of the memory read.
        offload: where remembered frames move to: "none", "host" or "disk".
        offload_to: folder for "disk".
        void: an id in the masks that is no object, such as 255.
        corrections: called with each frame; a mask that it returns corrects the frame before it is yielded. Where a run
            is resumed from its state, frames up to there are as they were corrected, and it is not called with them.
        progress: show a progress bar, or lines where there is no terminal, on stderr.

    Raises:
        MediaError: the video or a mask cannot be used.
        WeightsError: the weights cannot be used.
        TypeError: a frame or a mask is of another type.
        ValueError: an option is out of range, or a mask has another size than the frames.
    """
    options = TrackOptions(
        model=str(model) if isinstance(model, str | Path) else type(model).__name__,
        weights=None if weights is None else str(weights),
        size=size,
        memory_every=memory_every,
        memory=memory,
        memory_limit=memory_limit,
        top_k=top_k,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        backend=backend,
        offload=offload,
        void=void,
    )
    return Track.open(
        video,
        masks,
        options,
        network=None if isinstance(model, str | Path) else model,
        offload_to=offload_to,
        corrections=corrections,
        progress=progress,
    )


def _frames(video: "str | Path | FrameSource | Iterable[Any]") -> FrameSource:
    if isinstance(video, FrameSource):
        return video
    return open_frames(video) if isinstance(video, str | Path) else FrameSequence(video)
