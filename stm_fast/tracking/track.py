"""A video that is tracked frame by frame, and saved."""

import sys
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from stm_fast.errors import ArgumentError, MediaError
from stm_fast.inference.objects import Mask
from stm_fast.inference.segmenter import Segmenter
from stm_fast.media.frames import Frame, FrameSource
from stm_fast.media.masks import Colour
from stm_fast.media.notices import notice
from stm_fast.media.sources import open_frames
from stm_fast.tracking import claims, inputs
from stm_fast.tracking.correction import Correction, check_correction
from stm_fast.tracking.given import Given, given_of
from stm_fast.tracking.options import TrackOptions, memory_limit_by_its_name
from stm_fast.tracking.output import OutputFolder
from stm_fast.tracking.overlay import Overlay
from stm_fast.tracking.prompts import PromptReader
from stm_fast.tracking.propagation import Corrected, TrackedFrame, check_followed, propagate, revisit
from stm_fast.tracking.redo import prepare
from stm_fast.tracking.results import Results
from stm_fast.tracking.route import Route
from stm_fast.tracking.sequence import FrameSequence

if TYPE_CHECKING:
    from stm_fast.media.summary import RunSummary
    from stm_fast.models.stm import STM


class Track(Generator[TrackedFrame, "Correction | Mask | None", None]):
    """A video that is tracked as one iterates; see `stm_fast.track`.

    Attributes:
        frames: the video.
        segmenter: that tracks it; between frames, objects can be removed and the memory inspected.
        frames_saved: number of frames that `save` has written.
        resumed: whether `save` continues an earlier run.
    """

    def __init__(
        self,
        frames: FrameSource,
        given: Given,
        segmenter: Segmenter,
        options: TrackOptions,
        *,
        route: Route = Route(),  # noqa: B008 - it is immutable
        progress: bool = False,
    ) -> None:
        self.frames = frames
        self.segmenter = segmenter
        self.frames_saved = 0
        self.resumed = False
        self._given = given
        self._options = options
        self._route = route
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
        route: Route = Route(),  # noqa: B008 - it is immutable
        network: "STM | None" = None,
        offload_to: str | Path | None = None,
        corrections: Any = None,
        progress: bool = False,
    ) -> "Track":
        """Open a video and load a model; see `stm_fast.track`. A `network` replaces the model of the options."""
        options = options or TrackOptions()
        frames = _frames(video)
        given = given_of(frames, masks, corrections, route, options.void)
        model = options.load() if network is None else network
        segmenter = options.segmenter(model, frames.size, None if offload_to is None else Path(offload_to))
        return cls(frames, given, segmenter, options, route=route, progress=progress)

    @property
    def count(self) -> int | None:
        """Number of frames that are tracked, as far as the video says; None if it does not."""
        if self.frames.count is None and any(numbers.stop == sys.maxsize for numbers in self._given.passes):
            return None
        last = self.frames.count or sys.maxsize
        ahead = [range(numbers.start, min(numbers.stop, last), numbers.step) for numbers in self._given.passes]
        return sum(map(len, ahead)) - (len(self._given.passes) - 1)

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
        sheet: bool = True,
        checkpoint_every: float = 120.0,
        keep_states: int = 0,
        settings: Mapping[str, object] | None = None,
        each: Callable[[TrackedFrame], None] | None = None,
        turns: Collection[int] | None = None,
    ) -> "RunSummary":
        """Track the video to its end and write everything into a folder, as `stm-fast segment` does.

        Writes `masks/` (palette PNGs, index = object id), `overlay.mp4`, `contact_sheet.png`, `summary.json` and
        `frames.jsonl`; with the option `soft` also `soft/<id>/` (grey PNGs of probabilities). Masks are written as they
        are made. To resume a run that was interrupted or killed, call
        `track(...)` with the same arguments and `save(..., resume=True)`.

        With corrections from a folder or a mapping, results that are there are continued as well: the frames that
        corrections reach which have been added, changed or taken away are segmented anew, and all others stay.

        Args:
            folder: of the results.
            resume: continue an interrupted run.
            overwrite: replace the results of an earlier run.
            overlay: how `overlay.mp4` is drawn, and how strong the tint over objects is; None for no video.
            sheet: whether to draw `contact_sheet.png`. A run that draws neither picture resumes from its state without
                reading earlier frames.
            checkpoint_every: seconds between two run states on disk, from which a killed run resumes to the same
                masks; 0 for none.
            keep_states: number of run states that stay on disk, spread over the video, so that a run with other
                corrections resumes to the masks of one run. Without them its memory is filled from the masks on disk,
                and masks can differ by some pixels at outlines.
            settings: further settings for the summary.
            each: called with each frame after its mask is written.
            turns: numbers of the passes to track now, from 0; None for all. Results are complete once all passes were
                tracked in one call, which keeps what earlier calls made.

        Raises:
            RuntimeError: frames were read before.
            ArgumentError: both `resume` and `overwrite` are given, `keep_states` is negative, or `memory_limit` is too
                small.
            OutputError: a result would replace an input.
            StmFastError: the folder holds results, or results of other inputs or settings.
            MediaError: the video breaks off; results up to there are written.
            OSError: a file cannot be written.
        """
        if self._begun:
            raise RuntimeError("save must be called before the first frame is read: a video is tracked once")
        if keep_states < 0:
            raise ArgumentError("keep_states", f"must be 0 or more, got {keep_states}")
        out = OutputFolder(Path(folder))
        resume = resume or (bool(self._given.corrections) and not overwrite and out.summary.exists())
        if resume and not self.frames.seekable:
            raise MediaError(
                f"{self.frames.path} can be read only once, but a resumed run reads earlier frames again: save them "
                "to a file first"
            )
        self.resumed = resume
        out.check_inputs(self.frames.path, self._given.files())
        made_from = inputs.identity(self.frames, self._given.prompts, self._given.corrections)
        noted = {**(settings or {}), **self._options.settings(), **self._route.settings()}
        claims.claim(
            out.summary,
            (*out.pictures, out.journal),
            noted,
            resume=resume,
            overwrite=overwrite,
            clear=out.clear,
            inputs=made_from,
            check=lambda before: prepare(before, made_from, self._given, self.frames, out),
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
                sheet=sheet,
                checkpoint_every=checkpoint_every,
                keep_states=keep_states,
                passes=self._given.passes,
                done=made_from.get("passes_done", ()),
                turns=turns,
            )
            with memory_limit_by_its_name(), results:
                self._begun, self._steps = True, self._run(results)
                for frame in self._steps:
                    results.write(frame)
                    self.frames_saved = results.frames
                    if each:
                        each(frame)
                if results.is_full:
                    results.finish()
        finally:
            claims.release(out.root)
        assert results.summary is not None
        return results.summary

    def _run(self, results: Results | None = None) -> Corrected:
        """Yield the frames of all passes, corrected by the callback."""
        colours: dict[Colour, int] = {}
        at_start: list[Correction | Mask] = []
        found_any = False
        with self._progress_bar() as advance:
            for turn, numbers in enumerate(self._given.passes):
                if results and turn not in results.turns:
                    continue
                if results and turn != results.turns[0]:
                    results.begin_pass(turn)
                reader = self._given.reader(turn, self.frames, colours)
                begin = results.unread if results else 0
                if results:
                    self._keep(numbers[:begin], reader, results, advance)
                    found_any = found_any or bool(results.objects)
                steps = self._steps_of(numbers, begin, reader, results)
                place = begin - 1
                with closing(steps):
                    for place, frame in enumerate(steps, begin):
                        if (found := self._called_back(frame, place, results)) is not None:
                            frame = steps.send(found)
                        if turn and not place:
                            for correction in at_start:
                                frame = steps.send(correction)
                            if results is None:
                                continue
                            if results.has_mask(frame.name):
                                results.skip(frame)
                                continue
                        while (sent := (yield frame)) is not None:
                            frame = steps.send(sent)
                            at_start += [] if place else [sent]
                        self._notice_when_full(frame)
                        found_any = found_any or bool(frame.objects)
                        advance()
                if place < 0:
                    raise MediaError(f"{self.frames.path} has no frame {numbers.start}, from which it is to be tracked")
                reader.finish()
                if results:
                    results.end_pass(turn)
        if not found_any:
            notice("no mask and no correction showed an object: nothing was segmented")

    def _keep(self, numbers: range, reader: PromptReader, results: Results, advance: Callable[[], object]) -> None:
        """Take the frames at the beginning of a pass that need not be read."""
        for number in numbers:
            frame = Frame(self.frames.name_of(number) or "", np.zeros((0, 0, 3), np.uint8))
            new = reader.new_objects(frame)
            if new is not None and not results.whole:
                check_followed(new, self.segmenter.objects, frame.name)
            reader.correction(frame, ())
            results.keep(frame.name, number)
            self.frames_saved = results.frames
            advance()

    def _steps_of(self, numbers: range, begin: int, reader: PromptReader, results: Results | None) -> Corrected:
        """Yield the frames of a pass from a position on."""
        if results is not None and results.whole and begin:
            return
        numbers = numbers[begin:]
        frames = self.frames.select(numbers)
        if results is None or not results.whole:
            yield from propagate(
                self.segmenter, frames, reader, numbers=numbers, earlier=results, begin=begin, soft=self._options.soft
            )
            return
        for frame in revisit(frames, numbers, results.mask):
            as_read = Frame(frame.name, frame.image, frame.time)
            reader.new_objects(as_read)
            reader.correction(as_read, ())
            yield frame

    def _called_back(self, frame: TrackedFrame, place: int, results: Results | None) -> "Correction | Mask | None":
        """Return how the callback corrects a frame; None if it was done by an earlier run."""
        done = results is not None and (results.whole or (results.restored is not None and place <= results.restored))
        return None if done or self._given.callback is None else self._given.callback(frame)

    def _progress_bar(self) -> AbstractContextManager[Callable[[], None]]:
        if not self._progress:
            return nullcontext(lambda: None)
        from stm_fast.progress import progress_bar

        return progress_bar("Tracking", self.count)

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
