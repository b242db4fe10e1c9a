"""Scores on disk: scores.csv for a spreadsheet, scores.json for a program."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stm_fast.data.clips import Dataset
from stm_fast.data.faults import name_some
from stm_fast.evaluation.object_score import MeanScore, ObjectScore, means
from stm_fast.evaluation.protocol import VOS_BENCHMARK, Protocol
from stm_fast.evaluation.run import ClipRun
from stm_fast.media.files import discard, write_text
from stm_fast.media.summary import versions

NAMES = ("scores.csv", "scores.json")


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        dataset: what was scored.
        scores: of the objects in scored frames; none if nothing could be scored.
        runs: of the clips that were segmented; none if finished masks were scored.
        unscored: why clips have no score, by their names.
        protocol: by which scores were made.
        void: id of pixels that are not scored, or None.
        settings: options of the run.
    """

    dataset: Dataset
    scores: Sequence[ObjectScore]
    runs: Sequence[ClipRun] = ()
    unscored: Mapping[str, str] = field(default_factory=dict)
    protocol: Protocol = VOS_BENCHMARK
    void: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    def of(self, clip: str) -> list[ObjectScore]:
        """Return the scores of a clip."""
        return [score for score in self.scores if score.clip == clip]

    def run(self, clip: str) -> ClipRun | None:
        """Return the run of a clip; None if it was not segmented here."""
        return next((run for run in self.runs if run.clip == clip), None)

    def in_all(self) -> ClipRun | None:
        """Return frames, seconds and the peak of memory of all clips; None if none was segmented here."""
        if not self.runs:
            return None
        frames, seconds = sum(run.frames for run in self.runs), sum(run.seconds for run in self.runs)
        peaks = [run.peak_bytes for run in self.runs if run.peak_bytes is not None]
        tokens = max(run.memory_tokens for run in self.runs)
        return ClipRun("", frames, seconds, tokens, max(peaks, default=None))

    def write(self, out: str | Path) -> None:
        """Write `out/scores.csv`, a line per object, and `out/scores.json`, with means, settings and versions.

        Scores are in [0, 1]; memory is in bytes in JSON, and in GB (10⁹ bytes) in CSV. Clips that have no score are in
        `scores.json` alone, with a mean of null and the reason.

        Raises:
            ValueError: there is no score.
            OSError: a file cannot be written.
        """
        if not self.scores:
            raise ValueError("scores must hold at least one to be written, got none")
        write_text(Path(out) / NAMES[0], self._table())
        report = {
            "dataset": self.dataset.name,
            "protocol": {
                "name": self.protocol.name,
                "scored": self.protocol.scored.value,
                "void": self._void(),
                "source": self.protocol.source,
            },
            **{name: asdict(mean) for name, mean in means(self.scores).items()},
            "clips": {clip.name: self._clip(clip.name) for clip in self.dataset},
            **({} if (total := self.in_all()) is None else {"speed": _figures(total)}),
            "settings": dict(self.settings),
            "versions": versions(),
        }
        write_text(Path(out) / NAMES[1], json.dumps(report, indent=2) + "\n")

    def _void(self) -> str:
        if self.void is None:
            return "none"
        return f"{self.void}, {'background' if self.protocol.void_is_background else 'not scored'}"

    def _table(self) -> str:
        table = io.StringIO()
        writer = csv.DictWriter(table, list(self._row(self.scores[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(self._row, self.scores))
        return table.getvalue()

    def _row(self, score: ObjectScore) -> dict[str, object]:
        """Return a line of the table by columns, which are the same for all objects of a report."""
        row: dict[str, object] = {"clip": score.clip, "object": score.object_id}
        row |= {"J&F": f"{score.jf:.4f}", "J": f"{score.j:.4f}", "F": f"{score.f:.4f}"}
        if self.protocol.last_quarter:
            row["J_tr"] = f"{score.j_last:.4f}"
        if any(each.unseen is not None for each in self.scores):
            seen = "" if score.unseen is None else "no" if score.unseen else "yes"
            row |= {"category": score.category or "", "seen": seen}
        if run := self.run(score.clip):
            row["frames/s"] = f"{run.frames_per_second:.4f}"
            row["peak GB"] = "" if run.peak_bytes is None else f"{run.peak_bytes / 1e9:.3f}"
        return row | {"protocol": self.protocol.name, "void": self._void()}

    def _clip(self, clip: str) -> dict[str, object]:
        own, run = self.of(clip), self.run(clip)
        return {
            "mean": asdict(MeanScore.of(own)) if own else None,
            **({} if clip not in self.unscored else {"unscored": self.unscored[clip]}),
            "objects": {str(score.object_id): asdict(score) for score in own},
            **({} if run is None else _figures(run)),
        }


def _figures(run: ClipRun) -> dict[str, object]:
    return {"frames": run.frames, "frames_per_second": run.frames_per_second, "peak_bytes": run.peak_bytes}


def reasons(unscored: Mapping[str, str]) -> str:
    """Say why clips have no score: each reason once, with the clips that it applies to."""
    clips: dict[str, list[str]] = {}
    for clip, reason in unscored.items():
        clips.setdefault(reason, []).append(clip)
    return "; ".join(f"{reason} in {name_some(names)}" for reason, names in clips.items())


def clear_reports(out: Path) -> None:
    """Remove the files of an earlier report."""
    for name in NAMES:
        discard(out / name)
