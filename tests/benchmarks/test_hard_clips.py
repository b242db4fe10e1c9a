"""Clips of what a model does badly."""

import numpy as np
import pytest

from benchmarks.clips.hard_clips import CLIPS, FRAMES, SIZE
from benchmarks.system.weaknesses import overlap

pytest.importorskip("skimage")


@pytest.mark.parametrize(
    ("name", "objects"), [("thin lines", 1), ("look-alikes", 3), ("camouflage", 1), ("turning", 1)]
)
def test_objects_are_there_from_first_to_last(name: str, objects: int) -> None:
    frames = list(CLIPS[name]())
    assert len(frames) == FRAMES
    first, last = frames[0], frames[-1]
    assert first.image.shape == (*SIZE, 3)
    assert set(np.unique(first.mask)) == set(range(objects + 1)) == set(np.unique(last.mask))
    assert (first.mask != last.mask).mean() > 0.003


def test_overlap_is_the_mean_over_objects() -> None:
    truth = np.array([[1, 1, 2, 2], [0, 0, 2, 2]], np.uint8)
    mask = np.array([[1, 0, 2, 2], [0, 0, 2, 1]], np.uint8)
    assert overlap(mask, truth) == pytest.approx((1 / 3 + 3 / 4) / 2)
