"""Check that a long video with default options takes the same time and memory in its last frames as in its first.

    python -m benchmarks.system.default_memory [--frames 5000] [--side 160] [--memory auto]

`stm_fast.track` tracks reduced frames of `benchmarks.clips.long_clip` as a live source. Prints machine and versions,
then for each tenth of the video the median time of a frame, the tokens and bytes of the memory, and the resident memory
of the process; at the end, the ratio of the last tenth to the second.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator

import numpy as np
from PIL import Image

import stm_fast
from benchmarks import machine, process_memory
from benchmarks.clips.long_clip import LongClip


def reduced(image: np.ndarray, side: int, how: Image.Resampling) -> np.ndarray:
    """Return a picture or a mask of a square clip, `side` pixels wide."""
    return np.array(Image.fromarray(image).resize((side, side), how))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--side", type=int, default=160, help="of the square frames, in pixels")
    parser.add_argument("--memory", default="auto")
    options = parser.parse_args()
    clip = LongClip(options.frames)
    first = next(iter(clip))

    def frames() -> Iterator[np.ndarray]:
        for image, _ in clip:
            yield reduced(image, options.side, Image.Resampling.BOX)

    mask = reduced(first.mask, options.side, Image.Resampling.NEAREST)
    tracker = stm_fast.track(frames(), mask, memory=options.memory)
    print(machine.line())
    print(f"{options.frames} frames of {options.side} pixels, memory {options.memory}\n")
    print("| frames | ms per frame | tokens | memory MB | process MB |\n|---|---|---|---|---|")
    step = max(1, options.frames // 10)
    seconds: list[float] = []
    rows: list[tuple[float, int]] = []
    begin = time.perf_counter()
    for frame in tracker:
        seconds.append(sum(tracker.segmenter.timings.values()))
        if (frame.index + 1) % step == 0:
            spent = [later - earlier for earlier, later in itertools.pairwise(seconds)]
            median = statistics.median(spent)
            memory = tracker.segmenter.memory
            rows.append((median, process_memory.resident()))
            print(
                f"| {frame.index + 2 - step} to {frame.index + 1} | {1000 * median:.1f} | {memory.tokens} | "
                f"{memory.nbytes / 1e6:.1f} | {rows[-1][1] / 1e6:.0f} |",
                flush=True,
            )
            seconds = seconds[-1:]
    print(f"\nwhole: {time.perf_counter() - begin:.0f} s, rendering included")
    print(f"last tenth / second tenth: time {rows[-1][0] / rows[1][0]:.2f}, process {rows[-1][1] / rows[1][1]:.2f}")


if __name__ == "__main__":
    main()
