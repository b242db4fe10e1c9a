"""The run state of a clip on disk, written every few minutes so that a killed run can resume."""

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from stm_fast.errors import RunStateError
from stm_fast.inference.segmenter import Segmenter
from stm_fast.media.files import discard
from stm_fast.media.notices import notice

SECONDS = 120.0
_MAX_SHARE = 0.05
"""Maximum share of the time that writing takes: a large memory is written less often."""
_logger = logging.getLogger(__name__)


class StateFile:
    """The run state after one of the frames of a clip, in a file.

    Args:
        path: of the file.
        seconds: minimum time between two writes; 0 writes nothing.
    """

    def __init__(self, path: str | Path, seconds: float = SECONDS) -> None:
        self.path = Path(path)
        self.seconds = seconds
        self._wait = seconds
        self._saved = time.monotonic()
        self._reached: tuple[int, int] | None = None

    def save_if_due(self, segmenter: Segmenter, index: int) -> None:
        """Note that the mask of a frame is on disk, and save the run state if enough time has passed.

        If the file cannot be written, because the disk is full for instance, a notice says so and the run continues
        without run states.

        Args:
            segmenter: that has segmented the frame.
            index: number of the frame in the clip.
        """
        if not segmenter.started:
            return
        self._reached = index, segmenter.frame_index
        begin = time.monotonic()
        if not self.seconds or begin - self._saved < self._wait:
            return
        try:
            segmenter.save(self.path, {"index": index})
        except OSError as error:
            self.seconds = 0
            reason = error.strerror or error
            notice(
                f"{self.path} cannot be written ({reason}): a killed run would resume from an earlier state, or fill "
                "its memory from the masks on disk"
            )
            return
        self._saved = time.monotonic()
        _logger.debug("wrote the run state after frame %d in %.1f s", index, self._saved - begin)
        self._wait = max(self.seconds, (self._saved - begin) / _MAX_SHARE)

    def save_at_stop(self, segmenter: Segmenter) -> None:
        """Save the run state of a run that was stopped, if the segmenter is at the last frame whose mask is on disk."""
        if self.seconds and self._reached and self._reached[1] == segmenter.frame_index:
            with suppress(OSError):
                segmenter.save(self.path, {"index": self._reached[0]})

    def restore(self, segmenter: Segmenter, written: int) -> int | None:
        """Give a segmenter the run state.

        Args:
            segmenter: of the same model and settings.
            written: number of masks on disk, from the first frame on.

        Returns:
            The number of the frame in the clip; None if there is no file or, after a notice, none that can be used.
        """
        if not self.path.is_file():
            return None
        try:
            extra: Any = segmenter.restore(self.path)
        except RunStateError as error:
            notice(f"{error}; the memory is filled anew from the masks on disk")
            return None
        index = extra.get("index") if isinstance(extra, dict) else None
        if not isinstance(index, int):
            notice(f"{self.path} is not of a run over a clip: the memory is filled anew from the masks on disk")
            return None
        if index < written:
            return index
        notice(f"{self.path} is of frame {index}, but only {written} masks are on disk: the memory is filled anew")
        return None

    def delete(self) -> None:
        """Delete the file at the end of a run."""
        if not self.path.is_dir():
            discard(self.path)
