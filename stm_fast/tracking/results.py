"""What is written of a tracked video: masks, overlay, contact sheet, summary, and the state to resume from."""

import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.inference.segmenter import Segmenter
from stm_fast.media.frames import FrameSource
from stm_fast.media.masks import object_ids, read_mask, write_mask
from stm_fast.media.notices import notice
from stm_fast.media.summary import RunSummary
from stm_fast.tracking.journal import Journal
from stm_fast.tracking.output import OutputFolder
from stm_fast.tracking.overlay import Overlay
from stm_fast.tracking.pictures import Pictures
from stm_fast.tracking.propagation import TrackedFrame, missing_mask
from stm_fast.tracking.route import FORWARD
from stm_fast.tracking.soft import check_soft_masks, write_soft_masks
from stm_fast.tracking.state_file import Place, StateFile


class Results:
    """Writes tracked frames into a folder; a context manager.

    A mask is complete on disk when `write` returns. The other files are finished when the block ends, even if it was
    interrupted or its input broke off: they then hold the frames so far, see `Pictures`.

    Args:
        folder: of the results.
        segmenter: that tracks the frames.
        frames: the video.
        settings: for the summary.
        inputs: what the masks are made from, for the summary.
        resume: continue with the masks that are there.
        soft: whether the frames have soft masks, which are written too.
        overlay: how the overlay is drawn; None for no overlay.
        sheet: whether to draw the contact sheet.
        checkpoint_every: seconds between two run states; 0 for none.
        keep_states: number of run states that stay after the end.
        passes: numbers of the frames of each pass; by default all frames, forward.
        done: numbers of the passes whose masks are all on disk, as far as earlier runs know.
        turns: numbers of the passes of this run; by default all of them. The results are complete only with all.

    Attributes:
        turns: numbers of the passes of this run.
        restored: position in the pass of the frame whose state the segmenter was given; None if it has none.
        uncorrected: whether that frame has a correction which its state lacks.
        whole: whether all masks of the pass are on disk.
        frames: number of frames written, or kept from an earlier run.
        objects: ids of the objects in them.
        summary: of the run, once the block has ended.
    """

    def __init__(
        self,
        folder: OutputFolder,
        segmenter: Segmenter,
        frames: FrameSource,
        *,
        settings: Mapping[str, object],
        inputs: Mapping[str, Any],
        resume: bool = False,
        soft: bool = False,
        overlay: Overlay | None = None,
        sheet: bool = True,
        checkpoint_every: float = 0.0,
        keep_states: int = 0,
        passes: Sequence[range] = FORWARD,
        done: Sequence[int] = (),
        turns: Collection[int] | None = None,
    ) -> None:
        self.folder = folder
        self.turns = sorted(range(len(passes)) if turns is None else turns)
        self.frames = 0
        self.restored: int | None = None
        self.uncorrected = self.whole = False
        self.summary: RunSummary | None = None
        self._segmenter = segmenter
        self._frames = frames
        self._settings, self._inputs = dict(settings), dict(inputs)
        self._corrections: Mapping[str, str] = self._inputs.get("corrections", {})
        self._resume = resume
        self._soft = soft
        self._passes, self._done = passes, set(done)
        self._state_file = StateFile(folder.run_state, checkpoint_every, keep_states)
        self._pictures = Pictures(folder, frames, overlay, passes, sheet=sheet)
        self.objects: set[int] = set()
        self._resumed = 0
        self._turn = self._position = 0

    def __enter__(self) -> "Results":
        self._begin = time.perf_counter()
        self.begin_pass(self.turns[0])
        self.folder.root.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(self.folder.journal, resume=self._resume)
        try:
            self._pictures.__enter__()
        except BaseException:
            self._journal.close()
            raise
        return self

    def begin_pass(self, turn: int) -> None:
        """Begin a pass: give the segmenter the run state of one of its frames, if there is one."""
        self._turn, self._position = turn, 0
        self.whole, self.restored, self.uncorrected = False, None, False
        if not self._resume:
            return
        self.whole = turn in self._done and self._has_all(self._passes[turn])
        if self.whole:
            return
        restored = self._state_file.restore(self._segmenter, turn, self.has_mask)
        if restored is not None:
            self.restored = restored.position
            self.uncorrected = restored.correction != self._corrections.get(restored.frame)

    def end_pass(self, turn: int) -> None:
        """End a pass all of whose frames were written, so that a run that is killed in the next one knows of it."""
        self._done.add(turn)
        if not self.whole and len(self._passes) > 1:
            self._state_file.save_at_stop(self._segmenter)

    def has_mask(self, name: str) -> bool:
        """Return whether the mask of a frame is on disk."""
        return self._path(name).exists()

    def skip(self, frame: TrackedFrame) -> None:
        """Take the first frame of a second pass, which the first pass has written."""
        if not frame.resumed:
            self._state_file.save_if_due(self._segmenter, self._place(frame), at_once=True)
        self._position += 1

    @property
    def unread(self) -> int:
        """Number of frames at the beginning of the pass that need not be read: `keep` takes them.

        The segmenter's state is of a later frame, or all masks of the pass are on disk; and no picture shows them.
        """
        if self._pictures.draws:
            return 0
        numbers = self._ending(self._passes[self._turn]) if self.whole else None
        return (self.restored or 0) if numbers is None else len(numbers)

    def keep(self, name: str, index: int) -> None:
        """Take the next frame of the pass with the mask that an earlier run made of it, without the frame itself.

        Args:
            name: of the frame.
            index: its number in the clip.

        Raises:
            MediaError: there is no such mask, or it cannot be read.
        """
        if not self.has_mask(name):
            raise missing_mask(name)
        if self._turn == 0 or self._position:  # the first pass has the first frame of the second one
            objects = self._journal.keep(name, index)
            if objects is None and (mask := self._read(name)) is not None:
                image = np.zeros((0, 0, 3), np.uint8)
                objects = list(object_ids(mask))
                self._journal.note(TrackedFrame(index, name, image, mask, tuple(objects), {}, None, resumed=True))
            self.objects.update(objects or ())
            self.frames += 1
            self._resumed += 1
        self._position += 1

    def mask(self, name: str) -> NDArray[np.uint8] | None:
        """Return the mask that an earlier run made of a frame; None if there is none.

        Raises:
            MediaError: it cannot be read, differs in size from the frames, or lacks its soft masks.
        """
        found = self._read(name) if self._resume else None
        if found is not None and self._soft:
            check_soft_masks(self.folder, name, object_ids(found))
        return found

    def _read(self, name: str) -> NDArray[np.uint8] | None:
        path = self._path(name)
        if not path.exists():
            return None
        mask = read_mask(path)
        height, width = self._frames.size
        if mask.shape != (height, width):
            raise MediaError(
                f"{path} is {mask.shape[1]}×{mask.shape[0]} but the frames are {width}×{height}: it is not of this clip"
            )
        return mask

    def write(self, frame: TrackedFrame) -> None:
        """Write a frame.

        Raises:
            MediaError: an id is too large for a mask file.
            OSError: a file cannot be written.
        """
        if not frame.resumed:
            write_soft_masks(self.folder, frame.name, frame.soft)
            write_mask(self._path(frame.name), frame.mask)
        self._journal.note(frame)
        if not frame.resumed:
            self._state_file.save_if_due(self._segmenter, self._place(frame))
        self._position += 1
        self.objects.update(frame.objects)
        self._pictures.add(frame, sorted(self.objects))
        self.frames += 1
        self._resumed += frame.resumed

    def finish(self) -> None:
        """Draw what was not drawn on the way, once all frames are written.

        Raises:
            MediaError: a frame or a mask cannot be read.
            OSError: a file cannot be written.
        """
        self._pictures.finish(self._read, sorted(self.objects))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = isinstance(error, KeyboardInterrupt | MediaError)
        try:
            self._pictures.__exit__(kind, error, trace)
        finally:
            self._journal.close(complete=error is None and self.is_full)
            complete = error is None and self.is_full
            if complete:
                self._state_file.finish()
                self._notice_strays()
            if stopped:
                self._state_file.save_at_stop(self._segmenter)
            if error is None or stopped:
                self._pictures.save_sheet()
                self.summary = self._summarise(complete=complete)
                self.summary.write(self.folder.summary)

    @property
    def is_full(self) -> bool:
        """Whether this run has all passes."""
        return len(self.turns) == len(self._passes)

    def _has_all(self, numbers: range) -> bool:
        """Return whether all masks of a pass are on disk; False if the length of the clip is not known for certain."""
        if (known := self._ending(numbers)) is None:
            return False
        names = (self._frames.name_of(number) for number in known)
        return all(name is not None and self._path(name).exists() for name in names)

    def _ending(self, numbers: range) -> range | None:
        """Return the numbers of a pass up to the end of the clip; None if its length is not known for certain."""
        if numbers.stop != sys.maxsize:
            return numbers
        count = self._frames.count
        if count is None or self._frames.name_of(count) is not None:
            return None
        return range(numbers.start, count, numbers.step)

    def _notice_strays(self) -> None:
        """Give a notice of masks of an earlier run without a frame."""
        if strays := len(self.folder.frames_done()) - self.frames:
            notice(
                f"{strays} masks in {self.folder.masks} belong to frames that the clip no longer has: an earlier run "
                "made them"
            )

    def _place(self, frame: TrackedFrame) -> Place:
        return Place(self._turn, self._position, frame.name, self._corrections.get(frame.name))

    def _path(self, name: str) -> Path:
        return self.folder.masks / f"{name}.png"

    def _summarise(self, *, complete: bool) -> RunSummary:
        seconds = time.perf_counter() - self._begin
        stages = dict(self._segmenter.timings)
        return RunSummary(
            frames=self.frames,
            objects=sorted(self.objects),
            complete=complete,
            resumed_frames=self._resumed,
            seconds=stages | {"media": seconds - sum(stages.values()), "total": seconds},
            frames_per_second=(self.frames - self._resumed) / seconds,
            memory_tokens=self._segmenter.memory.tokens,
            backend=serving_backend(self._segmenter),
            settings=self._settings,
            inputs=self._inputs | {"passes_done": sorted(self._done)},
            uncertainty=self._journal.uncertainty(),
        )


def serving_backend(segmenter: Segmenter) -> str:
    """Return the backend that reads: the one that was named, or the one that "auto" chooses."""
    if segmenter.backend != "auto":
        return segmenter.backend
    from stm_fast.ops.calls import Read, TopKRead
    from stm_fast.ops.dispatch import choose
    from stm_fast.ops.similarity import dot

    key = next(segmenter.model.parameters()).new_zeros(1, 1, 1)
    operands, value = dot(key, key, 1.0), key[None]
    return choose(
        "auto", Read(operands, value) if segmenter.top_k is None else TopKRead(operands, value, segmenter.top_k)
    )
