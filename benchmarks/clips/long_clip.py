"""A video of any length on which memory policies are compared. Frames are rendered when they are read.

Solids move in front of a changing background and turn slowly, so that their sides differ from those in frame 0. They
vanish for hundreds of frames and then reappear somewhere else. They show their first side, or one last shown so long
ago that a window of 20 frames, every fifth, no longer has it. While one is away, a distractor of the same shape with
other pictures may take its place. A memory that kept these sides can recognise the objects. Otherwise little changes
from frame to frame, and objects at most touch, so that the clip measures memory and not how well crossings are
resolved.

    for image, mask in LongClip(10_000): ...
"""

from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from itertools import takewhile
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import photographs
from benchmarks.clips.scenery import Scenery
from benchmarks.clips.solids import SIDES, Ball, Box, Form, Silhouette, Solid
from benchmarks.clips.visits import FIRST_SIDE, HEIGHT, LONGEST_VISIT, Lane, Visit, visits

Floats = NDArray[np.float32]
Rng = np.random.Generator

Size = tuple[int, int]

_LATEST_START = 350  # of distractors
_JITTER = 10  # pixels around the middle of a lane, in frame 0
_LANE = 142  # minimum width of an object's lane, pixels
_MAX_OBJECTS = 5  # their lanes are no wider than a scene's photograph
_OVERLAP = 6  # pixels by which lanes reach into one another

_BALL_AXES, _BOX_AXES = (28, 43), (19, 26)  # semi-axes, pixels
_VISIBLE = 0.5  # share of a solid's full area above which it counts as back
_SCORED = 100  # frames of a return
_MIN_SCORED = 40  # returns with fewer are left out


class LongFrame(NamedTuple):
    """A rendered frame: RGB uint8 `(240, W, 3)`, and its true ids uint8 `(240, W)`, 0 the background."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


class Return(NamedTuple):
    """An object that comes back.

    Attributes:
        object_id: id of the object.
        first: the first frame in which more than half of its full area is visible.
        last: the frame after the last one to score, up to which it shows the same side.
        absent: number of frames without a pixel of it before it entered.
        view: "first" if it shows the side of frame 0, "other" if it shows another side, which was visible earlier for
            about a hundred frames or more.
    """

    object_id: int
    first: int
    last: int
    absent: int
    view: Literal["first", "other"]


class LongClip:
    """A rendered video of `frames` frames, which depends only on the seed.

    A shorter clip is the beginning of a longer one. Rendering needs scikit-image's pictures. Frames are square for one
    object, and as wide as all lanes for several.

    Attributes:
        objects: ids of the objects; all are fully visible in frame 0.
        size: height and width of the frames.

    Raises:
        ValueError: `frames` is below 1, or `objects` is not in 1..5.
        StmFastError: scikit-image is not installed.
    """

    def __init__(self, frames: int = 10_000, seed: int = 0, objects: int = 1) -> None:
        if frames < 1:
            raise ValueError(f"frames must be at least 1, got {frames}")
        if not 1 <= objects <= _MAX_OBJECTS:
            raise ValueError(f"objects must be in 1..{_MAX_OBJECTS}, got {objects}")
        self.objects = tuple(range(1, objects + 1))
        self.size = HEIGHT, max(HEIGHT, objects * _LANE)
        self._frames = frames
        self._scenery = Scenery(frames, self.size, seed)
        self._actors = list(_cast(frames, seed, objects, self.size[1]))

    def __len__(self) -> int:
        return self._frames

    def __iter__(self) -> Iterator[LongFrame]:
        return map(self.frame, range(self._frames))

    def frame(self, index: int) -> LongFrame:
        """Return a frame by its number from 0, the same as iteration yields."""
        if not 0 <= index < self._frames:
            raise IndexError(f"index must be in 0..{self._frames - 1}, got {index}")
        canvas = self._scenery.background(index)
        silhouettes = []
        for actor, visit in self._on_stage(index):
            layer = actor.solid.render(visit.pose(index))
            silhouettes.append((actor.identity, layer.silhouette))
            within, part = _overlap(layer.silhouette, self.size)
            canvas[within] *= 1 - layer.silhouette.coverage[part][..., None]
            canvas[within] += layer.colour[part]
        return LongFrame(self._scenery.expose(canvas, index), _ids(silhouettes, self.size))

    @cached_property
    def returns(self) -> list[Return]:
        """Return in order every time that an object comes back and shows the same side for a while."""
        found = (
            self._return(actor, before, visit)
            for actor in self._actors[: len(self.objects)]
            for before, visit in zip(actor.visits, actor.visits[1:], strict=False)
        )
        return sorted((each for each in found if each is not None), key=lambda each: each.first)

    def _return(self, actor: "_Actor", before: Visit, visit: Visit) -> Return | None:
        """Return the `Return` that begins a visit; None if it is too short to score."""
        last = min(visit.turns, self._frames)
        entry = self._seen(actor, range(visit.start, last))
        first = self._seen(actor, range(entry, last), _VISIBLE)
        if last - first < _MIN_SCORED:
            return None
        gone = 1 + self._seen(actor, range(before.start, before.stop)[::-1])
        view = "first" if visit.side == FIRST_SIDE else "other"
        return Return(actor.identity, first, min(last, first + _SCORED), entry - gone, view)

    def _seen(self, actor: "_Actor", indices: range, share: float = 0) -> int:
        """Return the first of `indices` at which more than a share of an object is visible, or else their end."""
        return next((index for index in indices if self._visible(actor, index) > share), indices.stop)

    def _visible(self, actor: "_Actor", index: int) -> float:
        """Return the share of an object on stage that is neither outside the frame nor behind others."""
        present = [(each.identity, each.solid.form.silhouette(at.pose(index))) for each, at in self._on_stage(index)]
        whole = next(silhouette for identity, silhouette in present if identity == actor.identity)
        return float((_ids(present, self.size) == actor.identity).sum() / (whole.coverage > 0.5).sum())

    def _on_stage(self, index: int) -> list[tuple["_Actor", Visit]]:
        """Return the solids of a frame, farther ones first."""
        present = [(actor, visit) for actor in self._actors if (visit := actor.visit(index)) is not None]
        return sorted(present, key=lambda pair: pair[1].depth)


class _Actor(NamedTuple):
    """A solid, its id in masks (0 for distractors) and its visits in order."""

    solid: Solid
    identity: int
    visits: list[Visit]

    def visit(self, index: int) -> Visit | None:
        """Return the visit that a frame is part of."""
        place = bisect_right(self.visits, index, key=lambda visit: visit.start) - 1
        return self.visits[place] if place >= 0 and index < self.visits[place].stop else None


def _cast(frames: int, seed: int, objects: int, width: int) -> Iterator[_Actor]:
    """Return the objects, then one distractor per lane, which has the form of the lane's object."""
    common, *own = np.random.SeedSequence((seed, 1)).spawn(1 + 2 * objects)
    rng = np.random.default_rng(common)
    forms = _forms(rng, objects)
    lanes = [_lane(number, width / objects) for number in range(objects)]
    places = [_place(lane, rng) for lane in lanes]
    owners: list[_Actor] = []
    for number, sequence in enumerate(own):
        rng, which = np.random.default_rng(sequence), number % objects
        solid = Solid(forms[which], photographs.sides(SIDES, rng))
        owns = number < objects
        start, place = (0, places[which]) if owns else (int(rng.integers(_LATEST_START)), None)
        # Visits of objects after the end also decide which visits of distractors begin before it.
        end = frames + LONGEST_VISIT if owns else frames
        all_visits = visits(solid.form.radius, rng, lanes[which], start, place)
        coming = takewhile(lambda visit, end=end: visit.start < end, all_visits)  # type: ignore[misc]
        if owns:
            owners.append(_Actor(solid, number + 1, list(coming)))
            yield owners[-1]
        else:
            yield _Actor(solid, 0, [visit for visit in coming if not _meets(visit, owners[which].visits)])


def _meets(visit: Visit, others: list[Visit]) -> bool:
    """Return whether a visit overlaps one of the others in time."""
    return any(visit.start < other.stop and other.start < visit.stop for other in others)


def _forms(rng: Rng, objects: int) -> list[Form]:
    """Return a form for each object, balls and boxes in turn."""
    first = int(rng.integers(2))
    balls = [(first + number) % 2 == 0 for number in range(objects)]
    lengths = (rng.uniform(*(_BALL_AXES if ball else _BOX_AXES), 3).astype(np.float32) for ball in balls)
    return [(Ball if ball else Box)(semi_axes) for ball, semi_axes in zip(balls, lengths, strict=True)]


def _lane(number: int, width: float) -> Lane:
    """Return a lane, which reaches a little into its neighbours."""
    return Lane(number * width - _OVERLAP, (number + 1) * width + _OVERLAP)


def _place(lane: Lane, rng: Rng) -> Floats:
    """Return the centre of an object in frame 0, `(2,)`, near the middle of its lane."""
    middle = ((lane.left + lane.right) / 2, HEIGHT / 2)
    return (middle + rng.uniform(-_JITTER, _JITTER, 2)).astype(np.float32)


def _ids(silhouettes: list[tuple[int, Silhouette]], size: Size) -> NDArray[np.uint8]:
    """Return the id that covers more than half of each pixel, given silhouettes with farther ones first."""
    shares: dict[int, Floats] = {}
    for identity, silhouette in silhouettes:
        within, part = _overlap(silhouette, size)
        for share in shares.values():
            share[within] *= 1 - silhouette.coverage[part]
        if identity:
            shares[identity] = np.zeros(size, np.float32)
            shares[identity][within] = silhouette.coverage[part]
    ids = np.zeros(size, np.uint8)
    for identity, share in shares.items():
        ids[share > 0.5] = identity
    return ids


def _overlap(silhouette: Silhouette, size: Size) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a silhouette and the frame overlap: in the frame, and in the silhouette."""
    within, part = [], []
    corner = (silhouette.top, silhouette.left)
    for first, length, side in zip(corner, silhouette.coverage.shape, size, strict=True):
        start, stop = max(first, 0), max(min(first + length, side), 0)
        within.append(slice(start, stop))
        part.append(slice(start - first, max(stop - first, 0)))
    return (within[0], within[1]), (part[0], part[1])
