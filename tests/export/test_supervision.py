"""Results as `supervision.Detections`, which its annotators draw."""

import sys

import numpy as np
import pytest
import torch

from stm_fast.errors import StmFastError
from stm_fast.export.supervision import to_detections
from stm_fast.inference.segmenter import Segmenter
from tests.colours import ids, model, paint

__all__ = ["ids", "model", "paint"]


def test_without_supervision(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(StmFastError, match="pip install supervision"):
        to_detections(np.zeros((2, 2), np.uint8))


@pytest.fixture
def sv():
    return pytest.importorskip("supervision")


def test_a_step_of_the_segmenter(sv, model, paint, ids):
    segmenter = Segmenter(model)
    segmenter.start(paint("r..g", "...."), ids("1003", "0000"))
    frame = paint(".r.g", "....")
    result = segmenter.step(frame)
    found = to_detections(result)
    assert found.tracker_id.tolist() == found.class_id.tolist() == [1, 3]
    mask = result.mask.numpy()
    np.testing.assert_array_equal(found.mask, [mask == 1, mask == 3])
    height, width = mask.shape
    step = width // 4
    assert found.xyxy.tolist() == [[step, 0, 2 * step, height / 2], [3 * step, 0, width, height / 2]]
    expected = [result.probabilities[row][result.mask == object_id].mean() for row, object_id in ((1, 1), (2, 3))]
    np.testing.assert_allclose(found.confidence, expected, rtol=1e-6)
    drawn = sv.MaskAnnotator().annotate(frame.copy(), found)
    assert (drawn != frame).any(axis=2)[mask > 0].mean() > 0.9
    assert (drawn == frame).all(axis=2)[mask == 0].all()


@pytest.mark.parametrize("kind", [np.uint8, np.int32, torch.int64])
def test_ids_and_categories(sv, kind):
    mask = np.zeros((5, 7), np.uint8)
    mask[1:3, 2:6], mask[4, 6] = 4, 9
    given = torch.from_numpy(mask).to(kind) if isinstance(kind, torch.dtype) else mask.astype(kind)
    found = to_detections(given, categories={9: "dog", 12: "cat"})
    assert found.xyxy.tolist() == [[2, 1, 6, 3], [6, 4, 7, 5]]
    assert found.box_area.tolist() == found.area.tolist() == [8, 1]
    assert (found.confidence, found.tracker_id.tolist()) == (None, [4, 9])
    assert (found.class_id.tolist(), found.data["class_name"].tolist()) == ([2, 0], ["object", "dog"])
    assert len(found[found.tracker_id == 9]) == 1


def test_a_frame_without_objects(sv):
    found = to_detections(np.zeros((5, 7), np.uint8), categories={})
    assert (len(found), found.mask.shape) == (0, (0, 5, 7))
    assert sv.MaskAnnotator().annotate(np.zeros((5, 7, 3), np.uint8), found).shape == (5, 7, 3)


def test_what_is_no_result_is_refused(sv):
    with pytest.raises(TypeError, match="must hold integer ids, got float32"):
        to_detections(np.zeros((2, 2), np.float32))
    with pytest.raises(TypeError, match="got list"):
        to_detections([[1]])
    with pytest.raises(ValueError, match=r"got \(1, 2, 2\)"):
        to_detections(np.zeros((1, 2, 2), np.uint8))


def test_a_tracked_frame(sv, model, paint, ids):
    import stm_fast

    frames = [paint("r..g", "...."), paint(".r.g", "....")]
    for soft in (None, 16):
        *_, frame = stm_fast.track(frames, ids("1003", "0000"), model=model, soft=soft)
        found = to_detections(frame)
        assert found.tracker_id.tolist() == [1, 3]
        assert (found.confidence is None) == (soft is None)
        if soft:
            assert (found.confidence > 0.5).all()
            assert (found.confidence <= 1).all()
