"""Validation on whole videos."""

import pytest

from stm_fast.data.layouts import open_videos
from stm_fast.errors import MediaError
from stm_fast.evaluation.protocol import DAVIS
from stm_fast.training.validation import check_videos, score_videos
from tests.colours import ids, model, paint
from tests.data.miniatures import make_davis

__all__ = ["ids", "model", "paint"]

pytest.importorskip("vos_benchmark")


def test_void_of_the_set_is_neither_followed_nor_scored(model, tmp_path):
    """Its second clip has void beside two objects."""
    videos = open_videos("davis2017", make_davis(tmp_path / "davis"), "val")
    check_videos(videos, DAVIS)
    assert score_videos(model, videos, DAVIS, tmp_path).jf == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["davis"]


def test_videos_without_truth_are_refused(tmp_path):
    videos = open_videos("davis2017", make_davis(tmp_path / "davis"), "test-dev")
    with pytest.raises(MediaError, match="DAVIS 2017 test-dev has no masks to score against"):
        check_videos(videos, DAVIS)
