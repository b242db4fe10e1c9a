"""Single frames of a video by seeking: those that decoding from the beginning yields."""

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.media import seeking
from stm_fast.media.encode import video_writer
from stm_fast.media.sources import open_frames
from stm_fast.media.video import VideoFile


@pytest.fixture
def path(tmp_path):
    """Noise that moves, with two key frames, and frames that refer to later ones."""
    still = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    with video_writer(tmp_path / "clip.mp4", 25) as encoder:
        for number in range(300):
            encoder.write(np.roll(still, number, 1))
    return tmp_path / "clip.mp4"


def never(self, numbers):
    raise AssertionError("decoded from the beginning")


def test_frames_in_any_order(path, monkeypatch):
    expected = [frame.image for frame in open_frames(path)]
    clip = open_frames(path)
    monkeypatch.setattr(VideoFile, "_decode_all", never)
    assert clip.exact_count() == len(expected) == 300
    for number in (299, 0, 150, 151, 155, 154, 153, 270, 1, 298):
        frame = clip.frame(number)
        assert frame.name == f"{number:05d}"
        np.testing.assert_array_equal(frame.image, expected[number])


def test_frames_ahead_are_decoded_on_unless_a_key_frame_is_nearer(path, monkeypatch):
    monkeypatch.setattr(seeking, "MAX_BYTES", 1)
    clip = open_frames(path)
    clip.frame(0)
    sought, left = clip._seeking, []
    forget = sought._forget
    monkeypatch.setattr(sought, "_forget", lambda: (left.append(sought._last), forget()))
    for number in (1, 120, 240, 251, 299):
        clip.frame(number)
    assert left == []  # the second key frame, 250, is just ahead of frame 240
    for number in (3, 280, 270):
        clip.frame(number)
    assert left == [299, 3, 280]


def test_what_is_held_is_bounded(path, monkeypatch):
    monkeypatch.setattr(seeking, "MAX_BYTES", 5 * 48 * 64 * 3 // 2)
    clip = open_frames(path)
    for number in (100, 140, 130):
        clip.frame(number)
        assert len(clip._seeking._decoded) <= 5


def test_other_frames_than_packets_say_are_decoded_from_the_beginning(path):
    expected = [frame.image for frame in open_frames(path)]
    clip = open_frames(path)
    assert clip.exact_count() == 300
    clip._seeking._numbers.pop(clip._seeking._stamps[130])
    np.testing.assert_array_equal(clip.frame(150).image, expected[150])
    np.testing.assert_array_equal(clip.frame(10).image, expected[10])


def test_packets_without_a_frame_at_the_beginning_are_noticed(path, monkeypatch):
    read = seeking.SeekingVideo._read_stamps
    monkeypatch.setattr(seeking.SeekingVideo, "_read_stamps", lambda self: ([-1, *read(self)[0]], []))
    expected = [frame.image for frame in open_frames(path)]
    clip = open_frames(path)
    assert clip.exact_count() == 300  # as the file states
    np.testing.assert_array_equal(clip.frame(10).image, expected[10])


@pytest.mark.parametrize("number", [300, -1])
def test_a_frame_that_there_is_not(path, number):
    with pytest.raises((MediaError, ValueError)):
        open_frames(path).frame(number)


def test_images(tmp_path):
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    clip = open_frames(tmp_path)
    assert clip.exact_count() == 3
    assert clip.frame(2).image[0, 0, 0] == 2
    with pytest.raises(MediaError, match="has no frame 3"):
        clip.frame(3)


def test_stacks(tmp_path):
    pages = [Image.new("L", (8, 8), number) for number in range(4)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    clip = open_frames(tmp_path / "stack.tif")
    assert clip.frame(3).image.max() == 3
    with pytest.raises(MediaError, match="has no frame 4"):
        clip.frame(4)
