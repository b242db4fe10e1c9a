"""Track objects through a video: iterate over frames, correct one on the way, and save a folder of results.

Run: python examples/track.py
"""

import tempfile
from pathlib import Path

from clip import intersection_over_union, render_clip

import stm_fast


def main() -> None:
    """Follow both objects of the clip, correct frame 8 with its true mask, and print what was written."""
    clip = render_clip()
    tracker = stm_fast.track(clip.frames, clip.masks[0])
    for frame in tracker:
        if frame.index == 8:
            frame = tracker.send(clip.masks[8])
        js = (intersection_over_union(frame.mask, clip.masks[frame.index], found) for found in frame.objects)
        print(f"frame {frame.index:2d}  objects {frame.objects}  J " + " ".join(f"{j:.2f}" for j in js))

    with tempfile.TemporaryDirectory() as folder:
        summary = stm_fast.track(clip.frames, clip.masks[0]).save(Path(folder) / "result")
        written = sorted(path.name for path in (Path(folder) / "result").iterdir())
    print(f"{summary.frames} frames, complete: {summary.complete}; written: {', '.join(written)}")


if __name__ == "__main__":
    main()
