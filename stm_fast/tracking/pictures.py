"""What shows a tracked video at a glance: the overlay and the contact sheet."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from stm_fast.media.contact_sheet import ContactSheet
from stm_fast.media.frames import FrameSource
from stm_fast.tracking.output import OutputFolder
from stm_fast.tracking.overlay import Overlay, OverlayWriter
from stm_fast.tracking.propagation import TrackedFrame, revisit


class Pictures:
    """Draws the overlay and the contact sheet of a run; a context manager.

    Both show frames in the order of the clip. Of a run forward they are drawn as frames come, and hold those so far if
    it is stopped. Of another run they are drawn at its end, by `finish`, from the masks on disk.

    Args:
        folder: of the results.
        clip: the clip.
        overlay: how the overlay is drawn; None for no overlay.
        passes: numbers of the frames of each pass.
        sheet: whether to draw the contact sheet.

    Attributes:
        draws: whether there is anything to draw.
    """

    def __init__(
        self,
        folder: OutputFolder,
        clip: FrameSource,
        overlay: Overlay | None,
        passes: Sequence[range],
        *,
        sheet: bool = True,
    ) -> None:
        self.draws = sheet or overlay is not None
        self._folder = folder
        self._clip = clip
        self._overlay = overlay
        self._has_sheet = sheet
        self._shown = _ascending(passes)
        self._in_order = len(passes) == 1 and passes[0].step > 0
        self._sheet = ContactSheet(opacity=(overlay or Overlay()).opacity)
        self._stack = ExitStack()
        self._video: OverlayWriter | None = None

    def __enter__(self) -> "Pictures":
        if self._in_order:
            self._open()
        return self

    def add(self, frame: TrackedFrame, objects: Sequence[int]) -> None:
        """Take the next frame of the run, and the ids of the objects so far.

        Raises:
            OSError: the overlay cannot be written.
        """
        if self._in_order:
            self._draw(frame, objects)

    def finish(self, mask: Callable[[str], NDArray[np.uint8] | None], objects: Sequence[int]) -> None:
        """Draw what was not drawn on the way.

        Args:
            mask: returns the mask of a frame on disk, given by its name.
            objects: ids of all objects of the run.

        Raises:
            MediaError: a frame or a mask cannot be read.
            OSError: the overlay cannot be written.
        """
        if self._in_order or not self.draws:
            return
        self._open()
        for frame in revisit(self._clip.select(self._shown), self._shown, mask):
            self._draw(frame, objects)

    def save_sheet(self) -> None:
        """Write the contact sheet, if there are frames in it.

        Raises:
            OSError: it cannot be written.
        """
        self._sheet.save(self._folder.contact_sheet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _open(self) -> None:
        if self._overlay:
            writer = self._overlay.writer(self._folder.overlay, self._clip, step=self._shown.step)
            self._video = self._stack.enter_context(writer)

    def _draw(self, frame: TrackedFrame, objects: Sequence[int]) -> None:
        if self._video:
            self._video.write(frame, objects)
        if self._has_sheet:
            self._sheet.add(frame.name, frame.image, frame.mask)


def _ascending(passes: Sequence[range]) -> range:
    """Return the numbers of all frames of the passes, in the order of the clip."""
    first = min(numbers.start if numbers.step > 0 else numbers[-1] for numbers in passes)
    stop = max(numbers.stop if numbers.step > 0 else numbers.start + 1 for numbers in passes)
    return range(first, stop, abs(passes[0].step))
