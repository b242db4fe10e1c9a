"""Frames per second of two networks in turns, and what four objects cost beside one.

    python -m benchmarks.system.compare_models BASELINE [MODEL]

Follows the cat of the demo's clip, enlarged to 480p, at each network's best size with the default memory; then the same
cat cut into four objects. The networks take turns frame by frame. Prints Markdown.
"""

import statistics
import sys

import cv2
import numpy as np
import torch

from benchmarks import machine
from benchmarks.harness import Turns, in_turns
from benchmarks.system.frame_time import to_and_fro
from stm_fast import Segmenter, load_model
from stm_fast.data.demo_clip import CAT, DemoFrame, render
from stm_fast.memory import presets
from stm_fast.tracking.options import resolve_dtype

SIZE = (480, 854)
FRAMES, WARM_UP = 20, 2
OBJECTS = (1, 4)


def main(baseline: str, model: str = "compact") -> None:
    """Print a line for every network and number of objects."""
    dtype = resolve_dtype("auto", "cpu")
    clip = [enlarged(frame) for frame in render()]
    models = {name: load_model(name, dtype=dtype) for name in (baseline, model)}
    sizes = ", ".join(f"{name} at {network.card.best_size(SIZE[0])} pixels" for name, network in models.items())
    print(machine.line(str(dtype), f"{SIZE[1]} × {SIZE[0]}", sizes), end="\n\n")
    print("| objects | network | ms per frame | frames/s | times the baseline's frames/s |\n|---|---|---|---|---|")
    medians: dict[tuple[str, int], float] = {}
    for objects in OBJECTS:
        segmenters = {name: started(network, clip, objects) for name, network in models.items()}
        films = {name: to_and_fro(clip) for name in models}
        for name in models:  # the first steps of a process choose kernels
            for _ in range(WARM_UP):
                segmenters[name].step(next(films[name]))
        runs = {name: lambda s=segmenters[name], f=films[name]: s.step(next(f)).mask for name in models}
        seconds = in_turns(runs, Turns(rounds=FRAMES))
        for name in models:
            medians[name, objects] = statistics.median(seconds[name])
            ratio = statistics.median(b / s for b, s in zip(seconds[baseline], seconds[name], strict=True))
            rate = 1 / medians[name, objects]
            print(f"| {objects} | {name} | {1e3 * medians[name, objects]:.0f} | {rate:.2f} | {ratio:.2f} |", flush=True)
    few, many = OBJECTS
    print()
    for name in models:
        cost = medians[name, many] / medians[name, few]
        print(f"A frame of {many} objects costs {name} {cost:.2f} times one of {few}.")


def enlarged(frame: DemoFrame) -> DemoFrame:
    """Return a frame of the clip at 480p."""
    size = SIZE[::-1]
    image = cv2.resize(frame.image, size, interpolation=cv2.INTER_CUBIC)
    return DemoFrame(image, cv2.resize(frame.mask, size, interpolation=cv2.INTER_NEAREST))


def started(network: torch.nn.Module, clip: list[DemoFrame], objects: int) -> Segmenter:
    """Return a segmenter at the first frame, with the cat as so many objects: itself, or its quarters."""
    cat = clip[0].mask == CAT
    mask = cat.astype(np.uint8)
    if objects > 1:
        rows, columns = np.nonzero(cat)
        below, right = np.arange(SIZE[0]) > np.median(rows), np.arange(SIZE[1]) > np.median(columns)
        mask = (cat * (1 + 2 * below[:, None] + right[None])).astype(np.uint8)
    segmenter = Segmenter(network, policy=presets.auto(), size="auto")
    segmenter.start(clip[0].image, mask)
    return segmenter


if __name__ == "__main__":
    main(*sys.argv[1:])
