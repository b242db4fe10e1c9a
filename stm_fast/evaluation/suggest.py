"""Find the frames of a result that are worth annotating, from uncertainty alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median

from stm_fast.errors import MediaError
from stm_fast.tracking.journal import read_journal
from stm_fast.tracking.output import OutputFolder


@dataclass(frozen=True)
class Sight:
    """An object in a frame.

    Attributes:
        area: pixels of its mask.
        uncertainty: see `stm_fast.memory.policies.uncertainty`; None where it is unknown, as where the mask was
            given, and where the object is not found.
    """

    area: int
    uncertainty: float | None


@dataclass(frozen=True)
class Doubt:
    """A frame in which the network is unsure of an object.

    Attributes:
        frame: its name.
        index: its number among the frames of the result, from 0.
        area: pixels of the object's mask.
        uncertainty: see `stm_fast.memory.policies.uncertainty`.
        times_usual: as a multiple of the object's median over the clip.
    """

    frame: str
    index: int
    area: int
    uncertainty: float
    times_usual: float


@dataclass(frozen=True)
class Absence:
    """Consecutive frames in which an object that was seen before is not found.

    Attributes:
        first: name of the first of them.
        last: name of the last of them.
        frames: how many there are.
    """

    first: str
    last: str
    frames: int


@dataclass(frozen=True)
class Suggestion:
    """What to check for one object.

    Attributes:
        object_id: its id.
        usual: median uncertainty over the clip, or None if it is unknown.
        least_certain: the least certain frames first, spread over the clip.
        absences: the longest ones, in the order of the clip.
    """

    object_id: int
    usual: float | None
    least_certain: tuple[Doubt, ...]
    absences: tuple[Absence, ...]


def read_sights(folder: str | Path) -> dict[str, dict[int, Sight]]:
    """Return what a run noted of each frame, by the frame's name, in the order of the frames.

    Of two notes of a frame, as a resumed run leaves, the later one counts. An incomplete line is skipped.

    Args:
        folder: of the results of `stm-fast segment`.

    Raises:
        MediaError: there is no such file, or nothing in it.
    """
    path = OutputFolder(Path(folder)).journal
    if not path.is_file():
        raise MediaError(f"{path} does not exist: give the folder of the results of stm-fast segment")
    lines = read_journal(path)
    if not lines:
        raise MediaError(f"{path} holds no frame: no run of stm-fast segment wrote it, or one that has just begun")
    return {
        name: {int(found): Sight(**numbers) for found, numbers in line["objects"].items()}
        for name, line in lines.items()
    }


def suggest(sights: Mapping[str, Mapping[int, Sight]], count: int = 3) -> list[Suggestion]:
    """Return the frames to annotate first, object by object.

    The least certain frame comes first, then the least certain of those that are far enough from the frames before: one
    annotation serves its neighbours too.

    Args:
        sights: of each frame, see `read_sights`.
        count: maximum number of frames, and of absences, of an object.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    names = list(sights)
    objects = sorted({object_id for frame in sights.values() for object_id in frame})
    suggestions = []
    for object_id in objects:
        own = [sights[name].get(object_id) for name in names]
        known = [sight.uncertainty for sight in own if sight and sight.uncertainty is not None]
        usual = median(known) if known else None
        doubts = _spread(_doubts(names, own, usual), len(names) // (2 * count), count)
        suggestions.append(Suggestion(object_id, usual, doubts, _absences(names, own, count)))
    return suggestions


def _doubts(names: Sequence[str], own: Sequence[Sight | None], usual: float | None) -> list[Doubt]:
    return [
        Doubt(name, index, sight.area, sight.uncertainty, sight.uncertainty / usual)
        for index, (name, sight) in enumerate(zip(names, own, strict=True))
        if sight and sight.uncertainty and usual
    ]


def _spread(doubts: Sequence[Doubt], apart: int, count: int) -> tuple[Doubt, ...]:
    """Return the least certain ones that are more than `apart` frames from one another."""
    chosen: list[Doubt] = []
    for doubt in sorted(doubts, key=lambda doubt: (-doubt.uncertainty, doubt.index)):
        if len(chosen) < count and all(abs(doubt.index - other.index) > apart for other in chosen):
            chosen.append(doubt)
    return tuple(chosen)


def _absences(names: Sequence[str], own: Sequence[Sight | None], count: int) -> tuple[Absence, ...]:
    """Return the longest runs of frames without the object, after the first one with it."""
    there = [bool(sight and sight.area) for sight in own]
    if True not in there:
        return ()
    start = there.index(True)
    runs = [list(run) for seen, run in groupby(range(start, len(names)), key=there.__getitem__) if not seen]
    longest = sorted(sorted(runs, key=len, reverse=True)[:count])
    return tuple(Absence(names[run[0]], names[run[-1]], len(run)) for run in longest)
