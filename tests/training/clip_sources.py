"""Pictures and videos in memory, from which tests draw clips."""

from dataclasses import dataclass

import numpy as np

from stm_fast.errors import MediaError
from stm_fast.training.batch import VOID
from tests.data.pictures import photo


def scene(seed: int, height: int = 60, width: int = 80, objects: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return a textured picture with discs of one colour each, object `i` of `COLOURS[i]`, and its mask."""
    rng = np.random.default_rng(seed)
    frame = photo(rng, max(height, width))[:height, :width] // 2
    mask = np.zeros((height, width), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    for number in range(1, objects + 1):
        row, column = rng.uniform(0.3, 0.7) * height, width * (number - 0.5) / objects
        disc = (rows - row) ** 2 + (columns - column) ** 2 < (0.22 * min(height, width / objects)) ** 2
        frame[disc], mask[disc] = COLOURS[number - 1], number
    return np.ascontiguousarray(frame), mask


COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))


@dataclass(frozen=True)
class Picture:
    """A still; `void` makes its upper tenth void."""

    seed: int
    objects: int = 1
    height: int = 60
    width: int = 80
    void: bool = False

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        frame, mask = scene(self.seed, self.height, self.width, self.objects)
        if self.void:
            mask[: self.height // 10] = VOID
        return frame, mask


class Video:
    """A video whose red is the frame's number. Object 1 is there always, object 2 from frame `later`."""

    def __init__(self, name: str, frames: int, later: int = 10_000, height: int = 48, width: int = 64) -> None:
        self.name = name
        self.truth = {f"{number:05d}": None for number in range(frames)}
        self.later, self.shape = later, (height, width)
        self.broken = ""

    def frame_names(self) -> list[str]:
        return list(self.truth)

    def read_frame(self, name: str) -> np.ndarray:
        if name == self.broken:
            raise MediaError(f"{name}.jpg of {self.name} cannot be read")
        frame = np.zeros((*self.shape, 3), np.uint8)
        frame[..., 0] = int(name)
        frame[self.read_truth(name) == 1] = (int(name), 255, 0)
        return frame

    def read_truth(self, name: str) -> np.ndarray:
        mask = np.zeros(self.shape, np.uint8)
        mask[8:30, 8:30] = 1
        if int(name) >= self.later:
            mask[8:30, 34:56] = 2
        return mask
