"""Reports on disk: scores, speed, memory, protocol and versions, for people and for programs."""

import csv
import json
from pathlib import PurePath

import pytest

from stm_fast.data.clips import Clip, Dataset
from stm_fast.evaluation.object_score import ObjectScore, means
from stm_fast.evaluation.protocol import VOS_BENCHMARK, protocol_of
from stm_fast.evaluation.report import Report
from stm_fast.evaluation.run import ClipRun


def dataset(*names):
    return Dataset("set", tuple(Clip(name, PurePath(), {}, {}) for name in names), PurePath("masks"))


def written(report, folder):
    report.write(folder)
    return list(csv.DictReader((folder / "scores.csv").read_text().splitlines())), json.loads(
        (folder / "scores.json").read_text()
    )


def test_report_on_disk(tmp_path):
    scores = [ObjectScore("a", 1, 0.5, 0.7), ObjectScore("a", 2, 0.7, 0.9)]
    report = Report(dataset("a"), scores, [ClipRun("a", 10, 2.0, 64, 3_000_000)], settings={"size": 480})
    rows, found = written(report, tmp_path)
    assert rows[0] == {
        "clip": "a",
        "object": "1",
        "J&F": "0.6000",
        "J": "0.5000",
        "F": "0.7000",
        "frames/s": "5.0000",
        "peak GB": "0.003",
        "protocol": "vos-benchmark",
        "void": "none",
    }
    assert rows[1]["J&F"] == "0.8000"
    assert found["mean"]["jf"] == pytest.approx(0.7)
    assert found["clips"]["a"]["objects"]["2"]["f"] == 0.9
    assert found["settings"] == {"size": 480}
    assert found["speed"] == {"frames": 10, "frames_per_second": 5.0, "peak_bytes": 3_000_000}
    assert found["protocol"]["scored"] == VOS_BENCHMARK.scored.value
    assert "torch" in found["versions"]


def test_report_of_a_set_with_unscored_clips(tmp_path):
    runs = [ClipRun("a", 10, 2.0, 64), ClipRun("b", 30, 2.0, 64)]
    report = Report(dataset("a", "b"), [ObjectScore("a", 1, 0.5, 0.7)], runs, {"b": "no truth"})
    rows, found = written(report, tmp_path)
    assert found["mean"]["jf"] == pytest.approx(0.6)
    assert found["clips"]["b"] == {
        "mean": None,
        "unscored": "no truth",
        "objects": {},
        "frames": 30,
        "frames_per_second": 15.0,
        "peak_bytes": None,
    }
    assert "unscored" not in found["clips"]["a"]
    assert found["speed"] == {"frames": 40, "frames_per_second": 10.0, "peak_bytes": None}
    assert len(rows) == 1


def test_a_report_without_scores_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="scores must hold at least one"):
        Report(dataset("a"), []).write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_finished_masks_have_no_speed(tmp_path):
    rows, found = written(Report(dataset("a"), [ObjectScore("a", 1, 0.5, 0.7)]), tmp_path)
    assert "frames/s" not in rows[0]
    assert "speed" not in found
    assert "frames" not in found["clips"]["a"]


def test_seen_and_unseen_objects_are_told_apart_and_weigh_the_same(tmp_path):
    scores = [
        ObjectScore("a", 1, 0.9, 0.8, category="cat", unseen=False),
        ObjectScore("a", 2, 0.7, 0.8, category="cat", unseen=False),
        ObjectScore("b", 1, 0.3, 0.5, category="crab", unseen=True),
    ]
    rows, found = written(Report(dataset("a", "b"), scores), tmp_path)
    assert [(row["category"], row["seen"]) for row in rows] == [("cat", "yes"), ("cat", "yes"), ("crab", "no")]
    assert found["seen"]["j"] == pytest.approx(0.8)
    assert found["unseen"]["f"] == pytest.approx(0.5)
    assert found["overall"]["jf"] == pytest.approx((0.8 + 0.8 + 0.3 + 0.5) / 4)
    assert found["mean"]["j"] == pytest.approx(1.9 / 3)


def test_a_set_with_seen_objects_alone_has_no_overall_mean():
    assert list(means([ObjectScore("a", 1, 0.9, 0.8, unseen=False)])) == ["mean", "seen"]
    assert list(means([ObjectScore("a", 1, 0.9, 0.8)])) == ["mean"]


def test_the_last_quarter_has_a_column_where_the_protocol_has_it(tmp_path):
    scores = [ObjectScore("a", 1, 0.5, 0.7, 0.25)]
    rows, found = written(Report(dataset("a"), scores, protocol=protocol_of("vost"), void=255), tmp_path)
    assert rows[0]["J_tr"] == "0.2500"
    assert rows[0]["void"] == "255, background"
    assert found["mean"]["j_last"] == 0.25
