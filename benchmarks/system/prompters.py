"""First masks from boxes and points, on the first frames of annotated clips, as docs/prompts.md reports.

    STM_FAST_DATA=data python -m benchmarks.system.prompters [PROMPTER] [SET]

STM_FAST_DATA holds `davis2016/` with a list SET of clips, `dev` by default. Prints Markdown: machine and versions, then
a line per clip with J from

- the tight box of the true mask;
- that box, each side moved by up to 10 % of the box's width or height, the mean of three;
- one, two and three points, see `inner_points`; and two with a background point, the middle of the largest circle that
  fits into the tight box beside the object;
- the box, and three points, with 2 and 4 corrections: each a point in the middle of the largest circle that fits into
  what is wrong, with the mask before it, as studies of interactive segmentation do;

and the mean seconds of the processor per mask, on one thread.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from stm_fast.data.layouts import open_videos
from stm_fast.media.extent import extent
from stm_fast.media.masks import read_mask
from stm_fast.prompters import Box, Hints, Point, make_prompter

Mask = NDArray[np.bool_]

JITTER, JITTERED = 0.1, 3
DEPTH = 0.5
"""Least depth of points in an object, as a share of that of its middle."""
COLUMNS = ("box", "box ± 10 %", "1 point", "2 points", "2 and 1 beside", "3 points")
CORRECTED = ("box + 2", "box + 4", "3 points + 2", "3 points + 4")


def main(name: str = "grabcut", davis_set: str = "dev") -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    prompter = make_prompter(name)
    print(machine.line(name, f"OpenCV {cv2.__version__}", threads="1 thread"), end="\n\n")
    columns = (*COLUMNS, *CORRECTED)
    print(f"| clip | {' | '.join(columns)} | s |\n|---|{'---|' * (len(columns) + 1)}")
    rows = []
    for clip in open_videos("davis2016", Path(os.environ["STM_FAST_DATA"]) / "davis2016", davis_set):
        frame = next(iter(clip.open()))
        truth = read_mask(clip.prompts[frame.name]) > 0
        calls: list[float] = []

        def timed(*given: object, calls: list[float] = calls) -> Mask:
            begin = time.process_time()
            found: Mask = prompter(*given)  # type: ignore[arg-type]
            calls.append(time.process_time() - begin)
            return found

        rows.append([*scores(timed, frame.image, truth), float(np.mean(calls))])
        print(row(clip.name, rows[-1]), flush=True)
    print(row("**mean**", np.mean(rows, 0).tolist()))


def scores(segment: Callable[..., Mask], image: NDArray[np.uint8], truth: Mask) -> list[float]:
    """Return J of each column for one frame."""
    box, three = tight_box(truth), inner_points(truth, 3)
    shaken = [overlap(segment(image, Hints(boxes=(each,))), truth) for each in jittered(box, truth.shape)]
    starts = [
        Hints(boxes=(box,)),
        *(Hints(foreground=three[:count]) for count in (1, 2)),
        Hints(foreground=three[:2], background=(point_beside(truth),)),
        Hints(foreground=three),
    ]
    found = [segment(image, hints) for hints in starts]
    first = [overlap(mask, truth) for mask in found]
    corrected = []
    for hints, mask in ((starts[0], found[0]), (starts[-1], found[-1])):
        for number in range(1, 5):
            hints = with_correction(hints, mask, truth)
            mask = segment(image, hints, mask)
            if number in (2, 4):
                corrected.append(overlap(mask, truth))
    return [first[0], float(np.mean(shaken)), *first[1:], *corrected]


def tight_box(mask: Mask) -> Box:
    """Return the smallest box around a mask."""
    rows, columns = extent(mask)
    return Box(columns.start, rows.start, columns.stop, rows.stop)


def jittered(box: Box, size: tuple[int, ...]) -> list[Box]:
    """Return boxes whose sides are moved at random, in the frame; the same for each run."""
    random = np.random.default_rng(0)
    width, height = box.x1 - box.x0, box.y1 - box.y0
    moves = random.uniform(-JITTER, JITTER, (JITTERED, 4)) * (width, height, width, height)
    limits = (size[1], size[0], size[1], size[0])
    return [Box(*(int(v) for v in np.clip(np.round(np.add(box, move)), 0, limits))) for move in moves]


def inner_points(mask: Mask, count: int) -> tuple[Point, ...]:
    """Return points in an object: the middle of the largest circle in it, then each the farthest from those before.

    These are no less than half as deep in the object as the first, as one points at the middle of a part and not at its
    edge.
    """
    depth = depths(mask)
    points = [middle(mask)]
    rows, columns = np.nonzero(depth >= DEPTH * depth.max())
    while len(points) < count:
        away = np.min([(columns - point.x) ** 2 + (rows - point.y) ** 2 for point in points], 0)
        farthest = int(away.argmax())
        points.append(Point(int(columns[farthest]), int(rows[farthest])))
    return tuple(points)


def point_beside(mask: Mask) -> Point:
    """Return the middle of the largest circle in an object's box beside the object."""
    x0, y0, x1, y1 = tight_box(mask)
    beside = np.zeros_like(mask)
    beside[y0:y1, x0:x1] = ~mask[y0:y1, x0:x1]
    return middle(beside)


def with_correction(hints: Hints, mask: Mask, truth: Mask) -> Hints:
    """Add the point in the middle of the largest circle of what is missing or too much, within the boxes if any."""
    missing, extra = truth & ~mask, mask & ~truth
    if depths(missing).max() >= depths(extra).max():
        return Hints(hints.boxes, (*hints.foreground, middle(missing)), hints.background)
    return Hints(hints.boxes, hints.foreground, (*hints.background, middle(extra)))


def middle(mask: Mask) -> Point:
    """Return the middle of the largest circle in a mask."""
    row, column = np.unravel_index(depths(mask).argmax(), mask.shape)
    return Point(int(column), int(row))


def depths(mask: Mask) -> NDArray[np.float32]:
    """Return the distance of each pixel from what is outside of a mask, or of the frame."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1])


def overlap(found: Mask, truth: Mask) -> float:
    """Return J, intersection over union."""
    return float((found & truth).sum() / max(1, (found | truth).sum()))


def row(name: str, numbers: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{number:.3f}' for number in numbers[:-1])} | {numbers[-1]:.2f} |"


if __name__ == "__main__":
    main(*sys.argv[1:])
