"""The demo's clip."""

import numpy as np
import pytest

from stm_fast.data import demo_clip
from stm_fast.data.layouts import open_videos
from stm_fast.media.masks import read_mask

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def frames():
    return list(demo_clip.render())


def test_both_objects_are_there_from_the_first_frame_to_the_last(frames):
    assert len(frames) == demo_clip.FRAMES
    for image, mask in frames:
        assert image.shape == (*demo_clip.SIZE, 3)
        assert (mask == demo_clip.CAT).mean() > 0.05
        assert (mask == demo_clip.CUP).mean() > 0.004


def test_each_object_hides_the_other_once(frames):
    cat = np.array([(mask == demo_clip.CAT).sum() for _, mask in frames])
    cup = np.array([(mask == demo_clip.CUP).sum() for _, mask in frames])
    assert cat[8:18].min() < 0.85 * cat[0]
    assert cup[24:36].min() < 0.5 * cup[0]


def test_background_moves(frames):
    still = (frames[0].mask == 0) & (frames[10].mask == 0)
    assert np.abs(frames[0].image[still].astype(int) - frames[10].image[still]).mean() > 5


def test_written_clip_is_a_dataset(tmp_path, frames, monkeypatch):
    monkeypatch.setattr(demo_clip, "render", lambda: iter(frames[:2]))
    demo_clip.write(tmp_path)
    (clip,) = open_videos("folder", tmp_path)
    for source, expected in zip(clip.open(), frames, strict=False):
        np.testing.assert_array_equal(source.image, expected.image)
        np.testing.assert_array_equal(read_mask(clip.truth[source.name]), expected.mask)
