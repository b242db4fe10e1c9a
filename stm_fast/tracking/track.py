"""A video that is tracked frame by frame, and saved."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from stm_fast.errors import MediaError
from stm_fast.inference.objects import Mask
from stm_fast.inference.segmenter import Segmenter
from stm_fast.media.frames import FrameSource
from stm_fast.media.notices import notice
from stm_fast.media.sources import open_frames
from stm_fast.tracking import claims, inputs
from stm_fast.tracking.options import TrackOptions, memory_limit_by_its_name
from stm_fast.tracking.output import OutputFolder
from stm_fast.tracking.overlay import Overlay
from stm_fast.tracking.prompts import Prompt, Prompter, prompts_of
from stm_fast.tracking.propagation import (
    Corrected,
    Correction,
    Earlier,
    TrackedFrame,
    check_correction,
    propagate,
)
from stm_fast.tracking.results import Results
from stm_fast.tracking.sequence import FrameSequence

if TYPE_CHECKING:
    from stm_fast.media.summary import RunSummary
    from stm_fast.models.stm import STM

Corrections = Callable[[TrackedFrame], "Correction | Mask | None"]


class Track(Generator[TrackedFrame, "Correction | Mask | None", None]):
    """A video that is tracked as one iterates; see `stm_fast.track`.

    Attributes:
        frames: the video.
        segmenter: that tracks it; between frames, objects can be removed and the memory inspected.
        frames_saved: number of frames that `save` has written.
    """

    def __init__(
        self,
        frames: FrameSource,
        prompts: Mapping[str, Prompt],
        segmenter: Segmenter,
        options: TrackOptions,
        *,
        corrections: Corrections | None = None,
        progress: bool = False,
    ) -> None:
        self.frames = frames
        self.segmenter = segmenter
        self.frames_saved = 0
        self._prompts = prompts
        self._options = options
        self._corrections = corrections
        self._progress = progress
        self._steps = self._run()
        self._begun = self._noticed_full = False

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
        """Open a video and load a model; see `stm_fast.track`. A `network` replaces the model of the options."""
        options = options or TrackOptions()
        frames = _frames(video)
        prompts = prompts_of(masks, frames, void=options.void)
        model = options.load() if network is None else network
        segmenter = options.segmenter(model, frames.size, None if offload_to is None else Path(offload_to))
        return cls(frames, prompts, segmenter, options, corrections=corrections, progress=progress)

    def send(self, value: "Correction | Mask | None") -> TrackedFrame:
        """Correct the last frame by a mask and return it again, or return the next frame for None.

        Args:
            value: ids `(H, W)`, where each object in the mask is corrected or added; or a `Correction`, which names the
                objects. None goes to the next frame, as `next` does.

        Raises:
            StopIteration: there are no more frames.
            RuntimeError: no frame was read yet.
            TypeError, ValueError: the mask cannot be used; the frame stays as it is, and tracking can continue.
        """
        if value is not None:
            if not self._begun:
                raise RuntimeError("send must follow the first frame: read that with next, then correct it")
            check_correction(value, self.frames.size)
        self._begun = True
        return self._steps.send(value)

    def throw(
        self,
        typ: Any,
        val: "BaseException | object" = None,
        tb: TracebackType | None = None,
    ) -> TrackedFrame:
        """Raise an exception inside the generator."""
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
        overlay: Overlay | None = Overlay(),  # noqa: B008 - it is immutable
        checkpoint_every: float = 120.0,
        settings: Mapping[str, object] | None = None,
        each: Callable[[TrackedFrame], None] | None = None,
    ) -> "RunSummary":
        """Track the video to its end and write everything into a folder, as `stm-fast segment` does.

        Writes `masks/` (palette PNGs, index = object id), `overlay.mp4`, `contact_sheet.png`, `summary.json` and
        `frames.jsonl`; with the option `soft` also `soft/<id>/` (grey PNGs of probabilities). Masks are written as they
        are made. To resume a run that was interrupted or killed, call
        `track(...)` with the same arguments and `save(..., resume=True)`.

        Args:
            folder: of the results.
            resume: continue an interrupted run.
            overwrite: replace the results of an earlier run.
            overlay: how `overlay.mp4` is drawn, and how strong the tint over objects is; None for no video.
            checkpoint_every: seconds between two run states on disk, from which a killed run resumes to the same
                masks; 0 for none.
            settings: further settings for the summary.
            each: called with each frame after its mask is written.

        Raises:
            RuntimeError: frames were read before.
            ArgumentError: both `resume` and `overwrite` are given, or `memory_limit` is too small.
            OutputError: a result would replace an input.
            StmFastError: the folder holds results, or results of other inputs or settings.
            MediaError: the video breaks off; results up to there are written.
            OSError: a file cannot be written.
        """
        if self._begun:
            raise RuntimeError("save must be called before the first frame is read: a video is tracked once")
        if resume and not self.frames.seekable:
            raise MediaError(
                f"{self.frames.path} can be read only once, but a resumed run reads earlier frames again: save them "
                "to a file first"
            )
        out = OutputFolder(Path(folder))
        out.check_inputs(self.frames.path, (prompt for prompt in self._prompts.values() if isinstance(prompt, Path)))
        made_from = inputs.identity(self.frames, self._prompts)
        noted = {**(settings or {}), **self._options.settings()}
        claims.claim(
            out.summary,
            (*out.pictures, out.journal),
            noted,
            resume=resume,
            overwrite=overwrite,
            clear=out.clear,
            inputs=made_from,
            check=lambda before: inputs.check_unchanged(before, made_from, self._prompts, out.frames_done()),
        )
        try:
            results = Results(
                out,
                self.segmenter,
                self.frames,
                settings=noted,
                inputs=made_from,
                resume=resume,
                soft=self._options.soft is not None,
                overlay=overlay,
                checkpoint_every=checkpoint_every,
            )
            with memory_limit_by_its_name(), results:
                self._begun, self._steps = True, self._run(results)
                for frame in self._steps:
                    results.write(frame)
                    self.frames_saved = results.frames
                    if each:
                        each(frame)
        finally:
            claims.release(out.root)
        assert results.summary is not None
        return results.summary

    def _run(self, earlier: Earlier | None = None) -> Corrected:
        """Yield the frames, corrected by the callback."""
        prompter = Prompter(self._prompts, self.frames.size, void=self._options.void)
        steps = propagate(self.segmenter, self.frames, prompter, earlier=earlier, soft=self._options.soft)
        found_any = False
        with closing(steps), self._progress_bar() as advance:
            for frame in steps:
                done = earlier is not None and earlier.restored is not None and frame.index <= earlier.restored
                if self._corrections and not done and (found := self._corrections(frame)) is not None:
                    frame = steps.send(found)
                while (correction := (yield frame)) is not None:
                    frame = steps.send(correction)
                self._notice_when_full(frame)
                found_any = found_any or bool(frame.objects)
                advance()
            prompter.finish()
        if not found_any:
            notice("no mask and no correction showed an object: nothing was segmented")

    def _progress_bar(self) -> AbstractContextManager[Callable[[], None]]:
        if not self._progress:
            return nullcontext(lambda: None)
        from stm_fast.progress import progress_bar

        return progress_bar("Tracking", self.frames.count)

    def _notice_when_full(self, frame: TrackedFrame) -> None:
        """Give a notice, once, that the default memory is no longer that of the paper."""
        if self._noticed_full or self._options.memory != "auto" or not self.segmenter.memory.is_full:
            return
        self._noticed_full = True
        notice(
            f"the memory is full after frame {frame.name}: from here on old frames become prototypes, so that memory "
            'and speed stay constant (memory "official" keeps all frames instead)'
        )


def _frames(video: "str | Path | FrameSource | Iterable[Any]") -> FrameSource:
    if isinstance(video, FrameSource):
        return video
    return open_frames(video) if isinstance(video, str | Path) else FrameSequence(video)
