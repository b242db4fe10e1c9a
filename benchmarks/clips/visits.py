"""Visits: when and where a solid is on stage, and which of its sides it shows.

A visit is a range of frames. The solid appears at once in the first one and is gone after the last one. It shows a side
for a while, turns to an adjacent one, shows that, and so on. It never leaves while it shows the side of frame 0.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.clips.solids import Pose

Floats = NDArray[np.float32]
Rng = np.random.Generator

HEIGHT = 240
FIRST_SIDE = 0
_QUARTERS = 4

_SHOWN = (70, 110)  # frames for which a side is shown
_TURN = (70, 100)  # frames that a quarter turn takes
_TURNS, _TURNS_ODDS = (1, 2, 3), (0.6, 0.3, 0.1)  # of a visit
LONGEST_VISIT = (max(_TURNS) + 1) * _SHOWN[1] + max(_TURNS) * _TURN[1]
_AWAY = (150, 500)  # frames between visits
_AWAY_SKEW = 2.5  # short ones are likelier
_FIRST_AGAIN = 0.3  # share of visits that begin with the first side

_LEG = 100  # minimum number of frames from a place to the next one
_SMOOTH = 41  # frames over which a change of direction is spread

_SWAY = np.radians([7, 8, 9])  # of yaw, pitch and roll
_TILT = np.radians([15, -11, 0])  # around which they sway
_SWAY_PERIOD = (220, 420)


class Lane(NamedTuple):
    """The range in which a solid moves: between a left and a right bound in pixels, over the whole height."""

    left: float
    right: float


class Visit(NamedTuple):
    """A range of `n` frames on stage.

    Attributes:
        start: its first frame.
        side: the side that it shows first; 0 is the side of frame 0, and the others follow in order.
        turns: the frame in which it begins to turn away from that side.
        depth: solids of larger depth are nearer to the viewer.
        centres: float32 `(n, 2)`, x and y in pixels.
        angles: float32 `(n, 3)`, yaw, pitch and roll in radians.
    """

    start: int
    side: int
    turns: int
    depth: float
    centres: Floats
    angles: Floats

    @property
    def stop(self) -> int:
        """The frame after the last one."""
        return self.start + len(self.centres)

    def pose(self, index: int) -> Pose:
        """Return the pose of the solid in a frame of the visit."""
        return Pose(self.centres[index - self.start], self.angles[index - self.start])


def visits(radius: float, rng: Rng, lane: Lane, start: int = 0, place: Floats | None = None) -> Iterator[Visit]:
    """Yield the visits of a solid, without end.

    Args:
        radius: radius of the solid, in pixels.
        rng: source of all random numbers.
        lane: lane in which the solid stays.
        start: first frame of the first visit, which begins with side 0.
        place: centre `(2,)` at the start; None for anywhere in the lane.
    """
    side, shown = FIRST_SIDE, set[int]()
    while True:
        sides = _walk(side, rng)
        times, yaws = _turning(sides, rng)
        centres = _wander(times[-1] + 1, radius, rng, lane, place)
        turns = start + times[1] - _SMOOTH // 2
        yield Visit(start, side % _QUARTERS, turns, rng.random(), centres, _sway(_glide(times, yaws), rng))
        shown |= {each % _QUARTERS for each in sides}
        start += len(centres) + round(_AWAY[0] + (_AWAY[1] - _AWAY[0]) * rng.random() ** _AWAY_SKEW)
        side = FIRST_SIDE if rng.random() < _FIRST_AGAIN else int(rng.choice(sorted(shown - {FIRST_SIDE})))
        place = None


def _walk(side: int, rng: Rng) -> list[int]:
    """Return the sides shown in a visit from `side` on, as quarter turns; the last one is not the first side."""
    while True:
        steps = rng.choice((-1, 1), rng.choice(_TURNS, p=_TURNS_ODDS))
        sides = [side, *(side + np.cumsum(steps)).tolist()]
        if sides[-1] % _QUARTERS != FIRST_SIDE:
            return sides


def _turning(sides: list[int], rng: Rng) -> tuple[list[int], Floats]:
    """Return the frames, from 0, at which a solid starts or stops to turn, and its yaws there in radians."""
    shown = rng.integers(*_SHOWN, len(sides))
    durations = np.empty(2 * len(sides) - 1, int)
    durations[::2], durations[1::2] = shown, rng.integers(*_TURN, len(sides) - 1)
    times = [0, *np.cumsum(durations).tolist()]
    return times, np.repeat(np.asarray(sides, np.float32) * np.float32(np.pi / 2), 2)


def _wander(frames: int, radius: float, rng: Rng, lane: Lane, place: Floats | None) -> Floats:
    """Return centres `(frames, 2)` of a solid that moves from place to place."""
    legs = max(1, (frames - 1) // _LEG)
    first = _within(radius, rng, lane) if place is None else place
    places = [first, *(_within(radius, rng, lane) for _ in range(legs))]
    return _glide(np.linspace(0, frames - 1, legs + 1).round().astype(int).tolist(), np.stack(places))


def _within(radius: float, rng: Rng, lane: Lane) -> Floats:
    """Return a place in the lane where the whole solid is in the frame, `(2,)`."""
    low, high = (lane.left + radius, radius), (lane.right - radius, HEIGHT - radius)
    return rng.uniform(np.minimum(low, high), np.maximum(low, high)).astype(np.float32)


def _sway(yaw: Floats, rng: Rng) -> Floats:
    """Return yaw, pitch and roll `(n, 3)` of a solid that sways."""
    phases, periods = rng.uniform(0, 2 * np.pi, 3), rng.uniform(*_SWAY_PERIOD, 3)
    angles = _TILT + _SWAY * np.sin(2 * np.pi * np.arange(len(yaw))[:, None] / periods + phases)
    angles[:, 0] += yaw
    return angles.astype(np.float32)


def _glide(times: list[int], values: Floats) -> Floats:
    """Interpolate values `(n, ...)` at `times`, the first of which is 0, by a smooth curve over all frames."""
    frames = np.arange(times[-1] + 1)
    columns = values.reshape(len(values), -1).T
    margin = _SMOOTH // 2
    window = np.hanning(_SMOOTH + 2)[1:-1]
    padded = (np.pad(np.interp(frames, times, column), margin, mode="edge") for column in columns)
    smooth = [np.convolve(column, window / window.sum(), mode="valid") for column in padded]
    return np.stack(smooth, 1).reshape(len(frames), *values.shape[1:]).astype(np.float32)
