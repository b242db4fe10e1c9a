"""The background of the long clip, and its camera.

The camera pans over one photograph after another, and each fades into the next. Brightness and colour of the light
drift, and the sensor adds a little grain.
"""

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.clips import photographs

Floats = NDArray[np.float32]
Rng = np.random.Generator

_SCENE = (500, 900)  # frames from one fade to the next
_FADE = 90
_PAN_PERIOD = (1500, 2600)
_DRIFT_PERIODS = (517, 1291, 2903)
_BRIGHTNESS, _TINT = 0.07, 0.03  # per period of the drift, as logarithm of a gain
_GRAIN = 1.6  # standard deviation, in steps of 1/255


class Scenery:
    """Backgrounds and exposure of `frames` frames of `size` pixels, which depend only on the seed.

    The scenery of fewer frames is the beginning of that of more.
    """

    def __init__(self, frames: int, size: tuple[int, int], seed: int) -> None:
        order, pan, light, self._grain_seed = np.random.SeedSequence(seed).spawn(4)
        self._size = size
        self._pictures = photographs.scenes()
        self._cuts, self._order = _programme(frames, len(self._pictures), np.random.default_rng(order))
        rng = np.random.default_rng(pan)
        self._pan_phases = rng.uniform(0, 2 * np.pi, (len(self._pictures), 2))
        self._pan_periods = rng.uniform(*_PAN_PERIOD, (len(self._pictures), 2))
        self._light_phases = np.random.default_rng(light).uniform(0, 2 * np.pi, (len(_DRIFT_PERIODS), 4))
        grain = np.random.default_rng(self._grain_seed)
        self._grain = grain.normal(0, _GRAIN, (2 * size[0], 2 * size[1], 3)).astype(np.float32)

    def background(self, index: int) -> Floats:
        """Return the background of a frame, float32 `(H, W, 3)` in [0, 1]."""
        scene = bisect_right(self._cuts, index) - 1
        view = self._view(scene, index)
        faded = (index - self._cuts[scene]) / _FADE
        if scene and faded < 1:
            before = self._view(scene - 1, index)
            view = before + np.float32(faded) * (view - before)
        return view

    def expose(self, canvas: Floats, index: int) -> NDArray[np.uint8]:
        """Return the camera's frame of colours `(H, W, 3)` in [0, 1]."""
        swing = np.sin(2 * np.pi * index / np.array(_DRIFT_PERIODS)[:, None] + self._light_phases).sum(0)
        gain = np.exp(_BRIGHTNESS * swing[0] + _TINT * swing[1:])
        height, width = self._size
        top, left = np.random.default_rng((index, *self._grain_seed.generate_state(1).tolist())).integers(self._size)
        values = canvas * (255 * gain).astype(np.float32)
        values += self._grain[top : top + height, left : left + width]
        return np.clip(values, 0, 255, out=values).astype(np.uint8)

    def _view(self, scene: int, index: int) -> Floats:
        """Return the visible window of a scene's photograph, interpolated between pixels, `(H, W, 3)`."""
        which = self._order[scene]
        picture, (height, width) = self._pictures[which], self._size
        turn = 2 * np.pi * index / self._pan_periods[which] + self._pan_phases[which]
        room = np.subtract(picture.shape[:2], self._size) - 1
        place = room * (0.5 + 0.5 * np.sin(turn))
        (top, left), (down, right) = place.astype(int).tolist(), np.modf(place)[0].astype(np.float32)
        window = picture[top : top + height + 1, left : left + width + 1]
        rows = window[:-1] + down * (window[1:] - window[:-1])
        return rows[:, :-1] + right * (rows[:, 1:] - rows[:, :-1])


def _programme(frames: int, pictures: int, rng: Rng) -> tuple[list[int], list[int]]:
    """Return the frames at which scenes begin, and the picture of each; adjacent scenes differ."""
    cuts, order = [0], list[int]()
    for picture in _shuffled(pictures, rng):
        if not order or picture != order[-1]:
            order.append(picture)
            cuts.append(cuts[-1] + int(rng.integers(*_SCENE)))
        if cuts[-1] >= frames:
            return cuts[:-1], order
    raise AssertionError("shuffled pictures never end")


def _shuffled(count: int, rng: Rng) -> Iterator[int]:
    while True:
        yield from rng.permutation(count).tolist()
