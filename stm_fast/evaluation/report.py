"""Scores on disk: scores.csv for a spreadsheet, scores.json for a program."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from stm_fast.data.clips import Dataset
from stm_fast.evaluation.run import ClipRun
from stm_fast.evaluation.score import MeanScore, ObjectScore
from stm_fast.media.files import write_text
from stm_fast.media.summary import versions


def write_report(
    out: str | Path,
    dataset: Dataset,
    scores: Sequence[ObjectScore],
    runs: Sequence[ClipRun],
    settings: Mapping[str, object],
    unscored: Mapping[str, str] | None = None,
) -> None:
    """Write `out/scores.csv`, a line per object, and `out/scores.json`, with means, speed, settings and versions.

    Scores are in [0, 1]. Clips that have none are in `scores.json` alone, with a mean of null and the reason.

    Args:
        out: the folder.
        dataset: what was segmented.
        scores: of at least one object.
        runs: of all clips.
        settings: options of the run.
        unscored: why clips have no score, by their names.

    Raises:
        OSError: a file cannot be written.
    """
    speed = {run.clip: run.frames_per_second for run in runs}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["clip", "object", "J&F", "J", "F", "frames/s"])
    for score in scores:
        numbers = (score.jf, score.j, score.f, speed[score.clip])
        writer.writerow([score.clip, score.object_id, *(f"{number:.4f}" for number in numbers)])
    write_text(Path(out) / "scores.csv", table.getvalue())
    report = {
        "dataset": dataset.name,
        "mean": asdict(MeanScore.of(scores)),
        "clips": {run.clip: _clip(run, scores, (unscored or {}).get(run.clip)) for run in runs},
        "settings": dict(settings),
        "versions": versions(),
    }
    write_text(Path(out) / "scores.json", json.dumps(report, indent=2) + "\n")


def _clip(run: ClipRun, scores: Sequence[ObjectScore], unscored: str | None) -> dict[str, object]:
    own = [score for score in scores if score.clip == run.clip]
    return {
        "mean": asdict(MeanScore.of(own)) if own else None,
        **({} if unscored is None else {"unscored": unscored}),
        "objects": {str(score.object_id): asdict(score) for score in own},
        "frames": run.frames,
        "frames_per_second": run.frames_per_second,
    }
