"""`stm-fast score`: finished masks, with the table and the files of `stm-fast evaluate`."""

import csv
import json
import shutil

import numpy as np
import pytest

from stm_fast.media.masks import write_mask

pytest.importorskip("vos_benchmark")


def square(left, value=1):
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, left : left + 20] = value
    return mask


@pytest.fixture
def folders(tmp_path):
    """True masks of two clips, and results that are right for the first and half right for the second."""
    for index in range(4):
        for clip, left in (("aa", 10), ("bb", 20)):
            write_mask(tmp_path / "truth" / clip / f"{index}.png", square(10))
            write_mask(tmp_path / "pred" / clip / f"{index}.png", square(left))
    return tmp_path


def said(result):
    return " ".join(result.output.split())


def rows(folder):
    return [(row["clip"], row["object"], row["J"]) for row in csv.DictReader((folder / "scores.csv").open())]


def test_folders_of_clips(stm, folders):
    result = stm("score", "pred", "truth")
    assert result.exit_code == 0, result.output
    assert rows(folders / "scores") == [("aa", "1", "1.0000"), ("bb", "1", "0.3333")]
    report = json.loads((folders / "scores" / "scores.json").read_text())
    assert report["mean"]["j"] == pytest.approx(2 / 3)
    assert report["protocol"]["name"] == "vos-benchmark"
    assert "0.667" in result.output
    assert "scores are in scores/scores.csv and scores.json" in said(result)


def test_the_folder_of_one_clip(stm, folders):
    result = stm("score", "pred/bb", "truth/aa", "--out", "one")
    assert result.exit_code == 0, result.output
    assert rows(folders / "one") == [("aa", "1", "0.3333")]
    assert "is scored as the result of" not in said(result)


def test_the_only_clip_under_another_name_is_told_of(stm, folders):
    for root, clip in (("truth", "aa"), ("pred", "bb")):
        shutil.rmtree(folders / root / clip)
    result = stm("score", "pred", "truth")
    assert result.exit_code == 0, result.output
    assert "pred/aa is scored as the result of clip bb" in said(result)


def test_missing_clips_and_frames_are_all_named(stm, folders):
    shutil.rmtree(folders / "pred" / "aa")
    assert "pred has no masks of 1 of 2 clips: aa" in said(stm("score", "pred", "truth"))
    shutil.copytree(folders / "truth" / "aa", folders / "pred" / "aa")
    (folders / "pred" / "aa" / "1.png").unlink()
    (folders / "pred" / "bb" / "2.png").unlink()
    (folders / "pred" / "bb" / "3.png").unlink()  # the last one is not scored
    result = stm("score", "pred", "truth")
    assert result.exit_code == 2
    assert "there are no results of frames that are scored, in aa: 1 bb: 2" in said(result)
    assert not (folders / "scores").exists()


def test_extra_clips_are_named_and_not_scored(stm, folders):
    shutil.rmtree(folders / "truth" / "aa")
    shutil.copytree(folders / "truth" / "bb", folders / "truth" / "cc")
    shutil.copytree(folders / "pred" / "bb", folders / "pred" / "cc")
    result = stm("score", "pred", "truth")
    assert result.exit_code == 0, result.output
    assert "masks of clips that truth does not have, which are not scored: aa" in said(result)
    assert [row[0] for row in rows(folders / "scores")] == ["bb", "cc"]


def test_void_of_the_truth(stm, folders):
    for path in (folders / "truth" / "bb").iterdir():
        mask = square(10)
        mask[20:40, 30:] = 255
        write_mask(path, mask)
    result = stm("score", "pred", "truth")
    assert result.exit_code == 0, result.output
    assert "255 beside other ids: it is void" in said(result)
    assert rows(folders / "scores") == [("aa", "1", "1.0000"), ("bb", "1", "0.5000")]
    result = stm("score", "pred", "truth", "--void", "none", "--out", "none")
    assert result.exit_code == 0, result.output
    assert rows(folders / "none") == [("aa", "1", "1.0000"), ("bb", "1", "0.3333"), ("bb", "255", "0.0000")]
    assert "id 255 is scored as an object in bb" in said(result)


def test_scores_are_not_replaced_unasked(stm, folders):
    assert stm("score", "pred", "truth").exit_code == 0
    shutil.rmtree(folders / "pred")  # not looked at: what cannot be written is not computed
    assert "scores already holds results: --overwrite replaces them" in said(stm("score", "pred", "truth"))
    shutil.copytree(folders / "truth", folders / "pred")
    assert stm("score", "pred", "truth", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere", "truth"), "nowhere is not a folder"),
        (("pred", "empty"), "empty holds no masks"),
        (("pred", "truth", "--set", "val"), "--set needs --dataset"),
        (("pred", "truth", "--dataset", "davis2017", "--set", "val"), "val.txt does not exist"),
    ],
)
def test_input_that_cannot_be_used(stm, folders, arguments, told):
    (folders / "empty").mkdir()
    result = stm("score", *arguments)
    assert result.exit_code in (1, 2)
    assert told in said(result)


def test_unknown_layouts_are_usage_errors(stm, folders):
    assert stm("score", "pred", "truth", "--dataset", "nonsense").exit_code == 2


@pytest.mark.usefixtures("colour_model")
def test_equals_evaluate(stm, clip, tmp_path):
    """In everything but speed; the results are found in the folder that evaluate wrote."""
    assert stm("evaluate", clip, "--dataset", "folder", "--out", "out", "--dtype", "float32").exit_code == 0
    assert stm("score", "out", clip, "--dataset", "folder").exit_code == 0
    assert stm("score", "out/masks", clip / "masks", "--out", "bare").exit_code == 0
    evaluated, scored, bare = (
        json.loads((tmp_path / out / "scores.json").read_text()) for out in ("out", "scores", "bare")
    )
    assert evaluated["mean"] == scored["mean"] == bare["mean"]
    assert evaluated["protocol"] == scored["protocol"]
    assert evaluated["clips"]["clip"]["objects"] == scored["clips"]["clip"]["objects"]
