"""The long clip, on its first frames and on those about its returns."""

from itertools import islice, pairwise

import numpy as np
import pytest

pytest.importorskip("skimage")

from benchmarks.clips.long_clip import LongClip

FRAMES, SEED, OBJECTS = 1700, 2, 3


@pytest.fixture(scope="module")
def clip():
    return LongClip(FRAMES, SEED, OBJECTS)


@pytest.fixture(scope="module")
def beginning(clip):
    return list(islice(clip, 30))


def area(clip, index, identity):
    return int((clip.frame(index).mask == identity).sum())


def test_frames_are_images_with_masks_of_the_objects(clip, beginning):
    assert len(clip) == FRAMES
    for image, mask in beginning:
        assert (image.shape, image.dtype) == ((240, 426, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((240, 426), np.uint8)
        assert set(np.unique(mask)) <= {0, *clip.objects}


def test_iteration_and_random_access_give_the_same_frames(clip, beginning):
    for index in (29, 7):
        for one, other in zip(clip.frame(index), beginning[index], strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(IndexError, match="got 1700"):
        clip.frame(FRAMES)


def test_seed_determines_the_clip_and_a_shorter_one_is_its_beginning(clip):
    for frames in (300, 900):
        same = LongClip(frames, SEED, OBJECTS)
        for index in range(7, frames, 73):
            np.testing.assert_array_equal(same.frame(index).image, clip.frame(index).image)
    assert (LongClip(1, SEED + 1, OBJECTS).frame(0).mask != clip.frame(0).mask).any()


def test_what_cannot_be_rendered_is_refused():
    with pytest.raises(ValueError, match="frames must be at least 1, got 0"):
        LongClip(0)
    for objects in (0, 6):
        with pytest.raises(ValueError, match=f"objects must be in 1..5, got {objects}"):
            LongClip(10, objects=objects)


@pytest.mark.parametrize("objects", [1, 5])
def test_frames_are_as_wide_as_their_objects_need(objects):
    clip = LongClip(3, SEED, objects)
    image, mask = clip.frame(2)
    assert (*mask.shape, 3) == image.shape == (*clip.size, 3)
    assert clip.size == (240, 240 if objects == 1 else 710)
    assert set(np.unique(mask)) == {0, *range(1, objects + 1)}


def test_all_of_every_object_is_visible_in_the_first_frame(clip, beginning):
    mask = beginning[0].mask
    for identity in clip.objects:
        rows, columns = np.nonzero(mask == identity)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 35 <= min(height, width) <= max(height, width) <= 95
        assert len(rows) > 0.6 * height * width
        assert rows.min() > 0
        assert columns.min() > 0
        assert rows.max() < mask.shape[0] - 1
        assert columns.max() < mask.shape[1] - 1


def test_objects_return_after_they_were_away_for_long(clip):
    assert {each.object_id for each in clip.returns} == set(clip.objects)
    assert {each.view for each in clip.returns} == {"first", "other"}
    for identity, first, last, absent, _ in clip.returns:
        assert 150 <= absent <= 500
        assert 40 <= last - first <= 100
        entry = next(index for index in range(first, 0, -1) if not area(clip, index - 1, identity))
        assert first - entry < 60
        assert not any(area(clip, index, identity) for index in np.linspace(entry - absent, entry - 1, 12, dtype=int))
        assert area(clip, entry - absent - 1, identity)
        whole = max(area(clip, index, identity) for index in range(first, last, 10))
        assert area(clip, first, identity) > 0.35 * whole
        assert area(clip, first - 1, identity) < 0.65 * whole


def test_a_first_view_looks_like_the_first_frame_and_another_one_does_not(clip, beginning):
    likeness = {"first": [], "other": []}
    for identity, first, last, _, view in clip.returns:
        now = clip.frame((first + last) // 2)
        likeness[view].append(overlap(colours(beginning[0], identity), colours(now, identity)))
    assert min(likeness["first"]) > max(likeness["other"])


def test_objects_change_gradually(clip):
    for before, after in pairwise(clip.frame(index) for index in range(200, 300, 5)):
        for identity in clip.objects:
            if min((frame.mask == identity).sum() for frame in (before, after)) > 1500:
                assert overlap(colours(before, identity), colours(after, identity)) > 0.75


def test_background_changes(clip, beginning):
    still = (beginning[0].mask == 0) & (clip.frame(1000).mask == 0)
    difference = beginning[0].image[still].astype(int) - clip.frame(1000).image[still]
    assert np.abs(difference).mean() > 30


def colours(frame, identity):
    """Shares of an object's pixels in each of 4 × 4 × 4 colours."""
    pixels = frame.image[frame.mask == identity]
    return np.histogramdd(pixels, bins=[np.arange(0, 257, 64)] * 3)[0] / len(pixels)


def overlap(one, other):
    return np.minimum(one, other).sum()
