"""Scores: known overlaps give known numbers, and the protocol is DAVIS's."""

from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

from stm_fast.data.clips import Clip, Dataset
from stm_fast.errors import MediaError, StmFastError
from stm_fast.evaluation import clip_score
from stm_fast.evaluation.clip_score import score_clip
from stm_fast.evaluation.object_score import MeanScore, ObjectScore
from stm_fast.evaluation.score import score_set
from stm_fast.media.masks import write_mask


def square(left, value=1):
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, left : left + 20] = value
    return mask


@pytest.fixture
def clip(tmp_path):
    """(truths, results) -> a clip whose results lie in tmp_path / "out" / name."""

    def make(truths, results, name="clip"):
        truth = {}
        for index, (expected, result) in enumerate(zip(truths, results, strict=True)):
            truth[f"{index:05d}"] = tmp_path / "truth" / name / f"{index:05d}.png"
            truth[f"{index:05d}"].parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(expected).save(truth[f"{index:05d}"])
            if result is not None:
                write_mask(tmp_path / "out" / name / f"{index:05d}.png", result)
        return Clip(name, tmp_path, truth, truth)

    return make


@pytest.fixture
def benchmark():
    pytest.importorskip("vos_benchmark")


@pytest.mark.usefixtures("benchmark")
class TestScores:
    def test_perfect_result(self, clip, tmp_path):
        masks = [square(10 + i) for i in range(4)]
        assert score_clip(clip(masks, masks), tmp_path / "out" / "clip") == [ObjectScore("clip", 1, 1.0, 1.0)]

    def test_half_overlap(self, clip, tmp_path):
        (found,) = score_clip(clip([square(10)] * 4, [square(20)] * 4), tmp_path / "out" / "clip")
        assert found.j == pytest.approx(1 / 3)
        assert 0 < found.f < 1
        assert found.jf == pytest.approx((found.j + found.f) / 2)

    def test_first_and_last_frame_do_not_count(self, clip, tmp_path):
        truths, wrong = [square(10)] * 4, np.zeros((60, 80), np.uint8)
        results = [wrong, square(10), square(10), wrong]
        assert score_clip(clip(truths, results), tmp_path / "out" / "clip") == [ObjectScore("clip", 1, 1.0, 1.0)]

    def test_white_truth_is_object_one(self, clip, tmp_path):
        found = score_clip(clip([square(10, 255)] * 4, [square(10)] * 4), tmp_path / "out" / "clip")
        assert found == [ObjectScore("clip", 1, 1.0, 1.0)]

    @pytest.mark.filterwarnings("ignore::stm_fast.media.notices.MediaNotice")
    def test_a_colour_is_the_same_object_in_all_results(self, clip, tmp_path):
        both, second = square(10, 1) + square(50, 2), square(50, 2)
        strip = clip([both, both, second, second], [None] * 4)
        colours = np.array([(0, 0, 0), (200, 20, 20), (20, 20, 200)], np.uint8)
        (tmp_path / "out" / "clip").mkdir(parents=True)
        for name, mask in (("00001", both), ("00002", second)):
            Image.fromarray(colours[mask]).save(tmp_path / "out" / "clip" / f"{name}.png")
        found = score_clip(strip, tmp_path / "out" / "clip")
        assert [(each.object_id, each.j) for each in found] == [(1, 1.0), (2, 1.0)]

    def test_objects_are_scored_apart(self, clip, tmp_path):
        both = square(10, 1) + square(50, 7)
        one, seven = score_clip(clip([both] * 3, [square(10, 1)] * 3), tmp_path / "out" / "clip")
        assert (one.object_id, one.j, seven.object_id, seven.j) == (1, 1.0, 7, 0.0)

    def test_missing_result(self, clip, tmp_path):
        with pytest.raises(MediaError, match=r"clip clip has no result .*00001.png"):
            score_clip(clip([square(10)] * 3, [square(10), None, square(10)]), tmp_path / "out" / "clip")

    def test_too_few_annotations(self, clip, tmp_path):
        with pytest.raises(MediaError, match="has 2 annotated frames: scoring needs at least 3"):
            score_clip(clip([square(10)] * 2, [square(10)] * 2), tmp_path / "out" / "clip")

    def test_truth_without_objects_has_no_scores(self, clip, tmp_path):
        nothing = [np.zeros((60, 80), np.uint8)] * 3
        assert score_clip(clip(nothing, nothing), tmp_path / "out" / "clip") == []

    def test_void_counts_as_an_object_unless_it_is_named(self, clip, tmp_path):
        truth, result = square(10), square(10)
        truth[:, 60:], result[:, 60:70] = 255, 3
        strip = clip([truth] * 3, [result] * 3)
        one, white = score_clip(strip, tmp_path / "out" / "clip")
        assert (one.jf, white.object_id, white.j) == (1.0, 255, 0.0)
        assert score_clip(strip, tmp_path / "out" / "clip", void=255) == [ObjectScore("clip", 1, 1.0, 1.0)]

    def test_void_is_left_out_of_both_sides_as_in_davis(self, clip, tmp_path):
        """J of the pixels that are not void, F of outlines cut off at void: here they are computed apart."""
        truth, result = square(20), square(26)
        truth[:, 40:] = 255
        (found,) = score_clip(clip([truth] * 3, [result] * 3), tmp_path / "out" / "clip", void=255)
        cut, rest = square(20), square(26)
        cut[:, 40:] = rest[:, 40:] = 0
        assert found.j == pytest.approx((cut & rest).sum() / (cut | rest).sum())
        (plain,) = score_clip(clip([cut] * 3, [rest] * 3, "cut"), tmp_path / "out" / "cut")
        assert found.f == pytest.approx(plain.f)

    @pytest.mark.filterwarnings("ignore::stm_fast.media.notices.MediaNotice")
    def test_void_of_a_truth_of_another_size(self, clip, tmp_path):
        truth, result = square(10), square(10)
        truth[:, 60:], result[:, 60:] = 255, 1
        large = np.kron(truth, np.ones((2, 2), np.uint8))
        found = score_clip(clip([large] * 3, [result] * 3), tmp_path / "out" / "clip", void=255)
        assert found == [ObjectScore("clip", 1, 1.0, 1.0)]

    def test_dataset_keeps_the_order_of_clips(self, clip, tmp_path):
        clips = tuple(clip([square(10)] * 3, [square(10)] * 3, name) for name in "cab")
        folders = {name: tmp_path / "out" / name for name in "abc"}
        found, unscored = score_set(Dataset("set", clips, PurePath()), folders, {})
        assert not unscored
        assert [each.clip for each in found] == ["c", "a", "b"]


def test_each_object_counts_once_in_the_mean():
    mean = MeanScore.of([ObjectScore("a", 1, 0.2, 0.4), ObjectScore("a", 2, 0.4, 0.6), ObjectScore("b", 1, 0.9, 0.8)])
    assert (mean.j, mean.f, mean.jf) == pytest.approx((0.5, 0.6, 0.55))


def test_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vos_benchmark.evaluator", None)
    with pytest.raises(StmFastError, match=r"scoring needs vos-benchmark: pip install 'stm-fast\[eval\]'"):
        clip_score.check_scoring()
