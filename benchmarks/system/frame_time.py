"""Time of a frame and the memory read's share of it, with short and long memories.

    python -m benchmarks.system.frame_time [MODEL]

Follows one object of the demo's clip at the model's working size. The clip is played forwards and backwards until the
memory holds T frames. Then the compiled read and the reference take turns frame by frame, each on its own memory, and
medians are reported. Prints Markdown.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice

import numpy as np
import torch

from benchmarks import machine
from benchmarks.harness import Turns
from stm_fast import MemoryPolicy, Segmenter, load_model
from stm_fast.data.demo_clip import CAT, DemoFrame, render
from stm_fast.tracking.options import resolve_dtype

FRAMES = (5, 20, 100)
TURNS = Turns(rounds=9)
BACKENDS = ("cpu", "reference")


def main(name: str = "compact") -> None:
    """Print a line for every T and backend."""
    model = load_model(name, dtype=resolve_dtype("auto", "cpu"))
    clip = list(render())
    print(machine.line(str(next(model.parameters()).dtype), f"{model.card.working_size} pixels"), end="\n\n")
    print("| T | backend | ms per frame | frames/s | ms of the read | share |\n|---|---|---|---|---|---|")
    for frames in FRAMES:
        for backend, (total, read) in measure(model, clip, frames).items():
            numbers = f"{1e3 * total:.0f} | {1 / total:.1f} | {1e3 * read:.1f} | {read / total:.0%}"
            print(f"| {frames} | {backend} | {numbers} |", flush=True)


def measure(model: torch.nn.Module, clip: list[DemoFrame], frames: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds of a frame, and of its read, by backend."""
    segmenters, films = {}, {}
    for backend in BACKENDS:
        segmenter = Segmenter(model, size=model.card.working_size, policy=MemoryPolicy(every=1, max_frames=frames))
        segmenter.start(clip[0].image, (clip[0].mask == CAT).astype(np.uint8))
        film = to_and_fro(clip)
        for frame in islice(film, frames + 1):
            segmenter.step(frame)
        segmenter.backend = backend
        segmenters[backend], films[backend] = segmenter, film
    seconds: dict[str, list[tuple[float, float]]] = {backend: [] for backend in BACKENDS}
    for _ in TURNS:
        for backend, segmenter in segmenters.items():
            read, begin = segmenter.timings["read"], time.perf_counter()
            segmenter.step(next(films[backend]))
            seconds[backend].append((time.perf_counter() - begin, segmenter.timings["read"] - read))
    return {
        backend: (statistics.median(total for total, _ in turns), statistics.median(read for _, read in turns))
        for backend, turns in seconds.items()
    }


def to_and_fro(clip: list[DemoFrame]) -> Iterator[np.ndarray]:
    """Play the clip from frame 1 to the last, back to the first, and so on."""
    return cycle(frame.image for frame in [*clip[1:], *clip[-2::-1]])


if __name__ == "__main__":
    main(*sys.argv[1:])
