"""Accuracy and speed of a model on annotated clips, as README and the model card report.

    STM_FAST_DATA=data python -m benchmarks.system.accuracy [MODEL] [SET]

STM_FAST_DATA holds `davis2016/` (with a list SET of clips, `dev6` by default), `chair/` and `schoolgirls/`; missing
ones are skipped. Prints Markdown: machine and versions, then a line per clip with J&F, J, F, frames per second, and the
memory read's share of the time. Masks go to a temporary folder.
"""

import os
import sys
import tempfile
from pathlib import Path

from benchmarks import machine
from stm_fast.data.layouts import open_videos
from stm_fast.evaluation.clip_score import score_clip
from stm_fast.evaluation.object_score import MeanScore
from stm_fast.evaluation.run import run_clip
from stm_fast.tracking.options import TrackOptions

DATASETS = {"davis2016": "davis2016", "chair": "folder", "schoolgirls": "folder"}
"""Layouts by folder."""


def main(model: str = "compact", davis_set: str = "dev6") -> None:
    """Print the table."""
    data = Path(os.environ["STM_FAST_DATA"])
    options = TrackOptions(model=model)
    network = options.load()
    dtype = next(network.parameters()).dtype
    print(machine.line(str(dtype), f"{network.card.working_size} pixels"), end="\n\n")
    print(
        "| dataset | clip | objects | frames | J&F | J | F | frames/s | read |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name, layout in DATASETS.items():
        if not (data / name).is_dir():
            continue
        scores = []
        dataset = open_videos(layout, data / name, davis_set if layout == "davis2016" else None)
        for clip in dataset:
            with tempfile.TemporaryDirectory() as out:
                segmenter = options.segmenter(network, clip.open().size)
                run = run_clip(segmenter, clip, dataset, out, lambda: None, dataset.void)
                own = score_clip(clip, Path(out) / dataset.masks_folder / clip.name, dataset.void)
            scores += own
            share = segmenter.timings["read"] / run.seconds
            print(row(name, clip.name, own), f"{run.frames} |", numbers(own), end=" ")
            print(f"{run.frames_per_second:.1f} | {share:.0%} |", flush=True)
        if len({score.clip for score in scores}) > 1:
            print(row(name, "**mean**", scores), "|", numbers(scores), "| |")


def row(dataset: str, clip: str, scores: list) -> str:
    return f"| {dataset} | {clip} | {len(scores)} |"


def numbers(scores: list) -> str:
    mean = MeanScore.of(scores)
    return f"{mean.jf:.3f} | {mean.j:.3f} | {mean.f:.3f} |"


if __name__ == "__main__":
    main(*sys.argv[1:])
