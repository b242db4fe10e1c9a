"""The run states of a clip on disk, one a pass, written every few minutes so that a killed run can resume."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from stm_fast.errors import RunStateError
from stm_fast.inference.segmenter import Segmenter
from stm_fast.inference.tensor_file import read_metadata
from stm_fast.media.files import atomic_path, discard
from stm_fast.media.notices import notice

SECONDS = 120.0
TURNS = (0, 1)
"""Numbers of the passes that a run can have."""
_MAX_SHARE = 0.05
"""Maximum share of the time that writing takes: a large memory is written less often."""
_logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """A frame of a run.

    Attributes:
        turn: number of its pass, from 0.
        position: how many frames of the pass come before it.
        frame: its name.
        correction: digest of the correction of the frame that its state includes; None for none.
    """

    turn: int
    position: int
    frame: str
    correction: str | None = None


class StateFile:
    """The run state after one of the frames of each pass, in a file; on request also states of earlier frames.

    Args:
        path: of the file of the first pass. That of the second lies beside it, and so does a folder of the same stem
            with the states that are kept.
        seconds: minimum time between two writes; 0 writes nothing.
        keep: number of states that are kept, spread over the clip, from which a run with other corrections resumes.
    """

    def __init__(self, path: str | Path, seconds: float = SECONDS, keep: int = 0) -> None:
        self.path = Path(path)
        self.seconds = seconds
        self.keep = keep
        self._wait = seconds
        self._saved = time.monotonic()
        self._reached: tuple[Place, int] | None = None

    def save_if_due(self, segmenter: Segmenter, place: Place, *, at_once: bool = False) -> None:
        """Note that the mask of a frame is on disk, and save the run state if enough time has passed.

        If the file cannot be written, because the disk is full for instance, a notice says so and the run continues
        without run states.

        Args:
            segmenter: that has segmented the frame.
            place: the frame.
            at_once: save it however little time has passed.
        """
        if not segmenter.started:
            return
        self._reached = place, segmenter.frame_index
        begin = time.monotonic()
        if not self.seconds or (begin - self._saved < self._wait and not at_once):
            return
        try:
            self._save(segmenter, place)
        except OSError as error:
            self.seconds = 0
            reason = error.strerror or error
            notice(
                f"{self.path} cannot be written ({reason}): a killed run would resume from an earlier state, or fill "
                "its memory from the masks on disk"
            )
            return
        self._saved = time.monotonic()
        _logger.debug("wrote the run state after frame %s in %.1f s", place.frame, self._saved - begin)
        self._wait = max(self.seconds, (self._saved - begin) / _MAX_SHARE)

    def save_at_stop(self, segmenter: Segmenter) -> None:
        """Save the run state of a run that was stopped, if the segmenter is at the last frame whose mask is on disk."""
        if self.seconds and self._reached and self._reached[1] == segmenter.frame_index:
            with suppress(OSError):
                self._save(segmenter, self._reached[0])

    def place(self, turn: int) -> Place | None:
        """Return which frame the run state of a pass is of; None if there is no file or it does not say."""
        path = self._own(turn)
        return _place_of(path) if path.is_file() else None

    def restore(self, segmenter: Segmenter, turn: int, has_mask: Callable[[str], bool]) -> Place | None:
        """Give a segmenter the run state of a pass, or the last one that is kept of it.

        Args:
            segmenter: of the same model and settings.
            turn: number of the pass.
            has_mask: whether the mask of a frame, given by its name, is on disk.

        Returns:
            Its frame; None if there is no such file or, after a notice, none that can be used.
        """
        kept = self._kept(turn)
        own = self._own(turn)
        path = own if own.is_file() else kept[max(kept)] if kept else None
        if path is None:
            return None
        try:
            segmenter.restore(path)
        except RunStateError as error:
            notice(f"{error}; the memory is filled anew from the masks on disk")
            return None
        if (place := _place_of(path)) is None:
            notice(f"{path} is not of a run over a clip: the memory is filled anew from the masks on disk")
            return None
        if has_mask(place.frame):
            return place
        notice(f"{path} is of frame {place.frame}, whose mask is not on disk: the memory is filled anew")
        return None

    def forget_from(self, turn: int, position: int) -> None:
        """Delete the states of frames that are segmented anew.

        Args:
            turn: number of a pass.
            position: of the first of its frames whose states are not valid any more.
        """
        place = self.place(turn)
        if place is None or place.position >= position:
            self._delete(turn)
        for at, path in self._kept(turn).items():
            if at >= position:
                discard(path)

    def move(self, turn: int, to: int) -> None:
        """Make the states of a pass those of another one, which has none."""
        if self._own(turn).is_file():
            self._own(turn).replace(self._own(to))
        for at, path in self._kept(turn).items():
            path.replace(path.with_name(f"{to}-{at:08d}{path.suffix}"))

    def has(self, turn: int, position: int) -> bool:
        """Return whether there is a state of a frame of a pass."""
        place = self.place(turn)
        return (place is not None and place.position == position) or position in self._kept(turn)

    def finish(self) -> None:
        """Delete the files at the end of a run, and the states that are not to be kept."""
        for turn in TURNS:
            self._delete(turn)
        if not self.keep and self._folder.is_dir():
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self.path.with_suffix("")

    def _own(self, turn: int) -> Path:
        return self.path if turn == 0 else self.path.with_stem(f"{self.path.stem}-{turn}")

    def _delete(self, turn: int) -> None:
        """Delete the run state of a pass; states that are kept stay."""
        if not (path := self._own(turn)).is_dir():
            discard(path)

    def _save(self, segmenter: Segmenter, place: Place) -> None:
        segmenter.save(self._own(place.turn), place._asdict())
        if self.keep:
            self._keep(place)

    def _keep(self, place: Place) -> None:
        """Keep the state that was just written, and drop one that others are close to if there are too many."""
        with atomic_path(self._folder / f"{place.turn}-{place.position:08d}{self.path.suffix}") as partial:
            partial.unlink(missing_ok=True)
            try:
                os.link(self._own(place.turn), partial)
            except OSError:
                shutil.copy(self._own(place.turn), partial)
        kept = {(turn, at): path for turn in TURNS for at, path in self._kept(turn).items()}
        if len(kept) > self.keep:
            discard(kept[_closest(sorted(kept))])

    def _kept(self, turn: int) -> dict[int, Path]:
        """Return the states that are kept of a pass, by position."""
        return {int(path.stem.partition("-")[2]): path for path in self._files(turn)}

    def _files(self, turn: int) -> Iterator[Path]:
        return (path for path in self._folder.glob(f"{turn}-*{self.path.suffix}"))


def _closest(places: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the place that leaves the smallest gap in its pass when it goes; never the last one."""

    def gap(number: int) -> int:
        (turn, at), (following_turn, following) = places[number], places[number + 1]
        before = places[number - 1][1] if number and places[number - 1][0] == turn else 0
        return following - before if following_turn == turn else at - before

    return places[min(range(len(places) - 1), key=gap, default=0)]


def _place_of(path: Path) -> Place | None:
    """Return which frame a run state is of; None if it cannot be read or does not say."""
    try:
        extra: Any = json.loads(read_metadata(path)["extra"])
        place = Place(extra["turn"], extra["position"], extra["frame"], extra["correction"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return place if isinstance(place.turn, int) and isinstance(place.position, int) else None
