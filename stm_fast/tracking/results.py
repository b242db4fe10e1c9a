"""What is written of a tracked video: masks, overlay, contact sheet, summary, and the state to resume from."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.inference.segmenter import Segmenter
from stm_fast.media.contact_sheet import ContactSheet
from stm_fast.media.frames import FrameSource
from stm_fast.media.masks import object_ids, read_mask, write_mask
from stm_fast.media.notices import notice
from stm_fast.media.summary import RunSummary
from stm_fast.tracking.journal import Journal
from stm_fast.tracking.output import OutputFolder
from stm_fast.tracking.overlay import Overlay, OverlayWriter
from stm_fast.tracking.propagation import TrackedFrame
from stm_fast.tracking.soft import check_soft_masks, write_soft_masks
from stm_fast.tracking.state_file import StateFile


class Results:
    """Writes tracked frames into a folder; a context manager.

    A mask is complete on disk when `write` returns. The other files are finished when the block ends, even if it was
    interrupted or its input broke off: they then hold the frames so far.

    Args:
        folder: of the results.
        segmenter: that tracks the frames.
        frames: the video.
        settings: for the summary.
        inputs: what the masks are made from, for the summary.
        resume: continue with the masks that are there.
        soft: whether the frames have soft masks, which are written too.
        overlay: how the overlay is drawn; None for no overlay.
        checkpoint_every: seconds between two run states; 0 for none.

    Attributes:
        restored: number of the frame whose state the segmenter was given; None if it has none.
        frames: number of frames written, or kept from an earlier run.
        summary: of the run, once the block has ended.
    """

    def __init__(
        self,
        folder: OutputFolder,
        segmenter: Segmenter,
        frames: FrameSource,
        *,
        settings: Mapping[str, object],
        inputs: Mapping[str, object],
        resume: bool = False,
        soft: bool = False,
        overlay: Overlay | None = None,
        checkpoint_every: float = 0.0,
    ) -> None:
        self.folder = folder
        self.frames = 0
        self.restored: int | None = None
        self.summary: RunSummary | None = None
        self._segmenter = segmenter
        self._frames = frames
        self._settings, self._inputs = dict(settings), dict(inputs)
        self._resume = resume
        self._soft = soft
        self._overlay = overlay
        self._state_file = StateFile(folder.run_state, checkpoint_every)
        self._sheet = ContactSheet(opacity=(overlay or Overlay()).opacity)
        self._objects: set[int] = set()
        self._resumed = 0
        self._stack = ExitStack()
        self._video: OverlayWriter | None = None

    def __enter__(self) -> "Results":
        self._begin = time.perf_counter()
        if self._resume:
            self.restored = self._state_file.restore(self._segmenter, len(self.folder.frames_done()))
        self.folder.root.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(self.folder.journal, resume=self._resume)
        try:
            if self._overlay:
                self._video = self._stack.enter_context(self._overlay.writer(self.folder.overlay, self._frames))
        except BaseException:
            self._journal.close()
            raise
        return self

    def mask(self, name: str) -> NDArray[np.uint8] | None:
        """Return the mask that an earlier run made of a frame; None if there is none.

        Raises:
            MediaError: it cannot be read, differs in size from the frames, or lacks its soft masks.
        """
        path = self._path(name)
        if not self._resume or not path.exists():
            return None
        mask = read_mask(path)
        height, width = self._frames.size
        if mask.shape != (height, width):
            raise MediaError(
                f"{path} is {mask.shape[1]}×{mask.shape[0]} but the frames are {width}×{height}: it is not of this clip"
            )
        if self._soft:
            check_soft_masks(self.folder, name, object_ids(mask))
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
            self._state_file.save_if_due(self._segmenter, frame.index)
        self._objects.update(frame.objects)
        if self._video:
            self._video.write(frame, sorted(self._objects))
        self._sheet.add(frame.name, frame.image, frame.mask)
        self.frames += 1
        self._resumed += frame.resumed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = isinstance(error, KeyboardInterrupt | MediaError)
        try:
            self._stack.__exit__(kind, error, trace)
        finally:
            self._journal.close(complete=error is None)
            if error is None:
                self._state_file.delete()
                self._notice_strays()
            if stopped:
                self._state_file.save_at_stop(self._segmenter)
            if error is None or stopped:
                self._sheet.save(self.folder.contact_sheet)
                self.summary = self._summarise(complete=error is None)
                self.summary.write(self.folder.summary)

    def _notice_strays(self) -> None:
        """Give a notice of masks of an earlier run without a frame."""
        if strays := len(self.folder.frames_done()) - self.frames:
            notice(
                f"{strays} masks in {self.folder.masks} belong to frames that the clip no longer has: an earlier run "
                "made them"
            )

    def _path(self, name: str) -> Path:
        return self.folder.masks / f"{name}.png"

    def _summarise(self, *, complete: bool) -> RunSummary:
        seconds = time.perf_counter() - self._begin
        stages = dict(self._segmenter.timings)
        return RunSummary(
            frames=self.frames,
            objects=sorted(self._objects),
            complete=complete,
            resumed_frames=self._resumed,
            seconds=stages | {"media": seconds - sum(stages.values()), "total": seconds},
            frames_per_second=(self.frames - self._resumed) / seconds,
            memory_tokens=self._segmenter.memory.tokens,
            backend=serving_backend(self._segmenter),
            settings=self._settings,
            inputs=self._inputs,
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
