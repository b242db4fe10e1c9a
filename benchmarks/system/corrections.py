"""What one correction is worth on annotated clips, as docs/corrections.md reports.

    STM_FAST_DATA=data python -m benchmarks.system.corrections [MODEL]

STM_FAST_DATA holds `schoolgirls/`, `chair/` and `davis2016/` with a list `dev` of clips; missing ones are skipped. Each
clip is tracked, and tracked again with one object corrected in one frame. The object is that of the lowest mean J; the
frame is the first one, not before a tenth of the clip and not after two thirds of it, in which its J is below
two thirds, or else its worst one in this range. The correction is the true mask.

Prints Markdown: machine and versions, then for each clip which object and frame were corrected, and mean J in the
frames after it, without and with the correction: of that object, and of all.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import stm_fast
from benchmarks import machine
from stm_fast.data.clips import Clip
from stm_fast.data.layouts import open_videos
from stm_fast.media.masks import read_mask
from stm_fast.tracking.correction import Correction

SETS = {"schoolgirls": ("folder", None), "chair": ("folder", None), "davis2016": ("davis2016", "dev")}
"""Layouts and lists of clips, by folders."""
NOTICED = 2 / 3
"""J below which the user sees that an object is lost."""
EARLIEST, LATEST = 0.1, 2 / 3
"""Bounds of the corrected frame, as shares of the clip."""

Ids = NDArray[np.uint8]


def main(model: str = "compact") -> None:
    """Print the table."""
    print(machine.line(model), end="\n\n")
    print("| clip | object | frame | J of it after | corrected | J of all after | corrected |")
    print("|---|---|---|---|---|---|---|")
    for name, (layout, subset) in SETS.items():
        folder = Path(os.environ["STM_FAST_DATA"]) / name
        if folder.is_dir():
            for clip in open_videos(layout, folder, subset):
                print(row(clip, model), flush=True)


def row(clip: Clip, model: str) -> str:
    """Track a clip without and with its correction, and return its line."""
    truth = {name: read_mask(file, void=clip.void) for name, file in clip.truth.items()}
    before = scores(clip, truth, model, {})
    names = list(before)
    worst = int(np.nanmean(np.stack(list(before.values())), 0).argmin())
    frame = frame_to_correct(np.array([each[worst] for each in before.values()]))
    object_id = objects_of(clip)[worst]
    fix = Correction(np.where(truth[names[frame]] == object_id, object_id, 0).astype(np.uint8), [object_id])
    after = scores(clip, truth, model, {names[frame]: fix})
    later = names[frame + 1 :]
    means = [np.nanmean(np.stack([found[name] for name in later]), 0) for found in (before, after)]
    figures = [f"{value:.3f}" for value in (*(mean[worst] for mean in means), *(mean.mean() for mean in means))]
    return f"| {clip.name} | {object_id} | {frame} of {len(names)} | {' | '.join(figures)} |"


def frame_to_correct(overlaps: NDArray[np.float64]) -> int:
    """Return the frame in which a user would correct an object, by its J in each frame (NaN where it is not)."""
    begin, end = round(EARLIEST * len(overlaps)), round(LATEST * len(overlaps))
    seen = np.nan_to_num(overlaps[begin:end], nan=1.0)
    lost = seen < NOTICED
    return begin + int(lost.argmax() if lost.any() else seen.argmin())


def objects_of(clip: Clip) -> list[int]:
    """Return the ids of the objects that the first mask shows."""
    first = read_mask(next(iter(clip.prompts.values())), void=clip.void)
    return [int(object_id) for object_id in np.unique(first) if object_id]


def scores(
    clip: Clip, truth: Mapping[str, Ids], model: str, corrections: Mapping[str, Correction]
) -> dict[str, NDArray[np.float64]]:
    """Track a clip and return J of each object in each frame with a true mask; NaN for objects that are not in it."""
    first, file = next(iter(clip.prompts.items()))
    track = stm_fast.track(clip.open(), {first: read_mask(file, void=clip.void)}, model=model, corrections=corrections)
    objects = objects_of(clip)
    return {
        frame.name: np.array([overlap(frame.mask == each, truth[frame.name] == each) for each in objects])
        for frame in track
        if frame.name in truth
    }


def overlap(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    """Return J; NaN if the object is not in the true mask."""
    return float((found & wanted).sum() / (found | wanted).sum()) if wanted.any() else float("nan")


if __name__ == "__main__":
    main(*sys.argv[1:])
