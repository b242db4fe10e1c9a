"""Frames of a source by number, forward and backward: the same as reading all of it yields."""

import tracemalloc
from itertools import count

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.media import backward
from stm_fast.media.notices import MediaNotice
from stm_fast.media.sources import open_frames
from stm_fast.tracking.sequence import FrameSequence

RANGES = [range(8, -1, -1), range(7, 2, -2), range(0, 9, 3), range(4, 100), range(3, 2, -1)]


def assert_same(found, expected):
    assert [(frame.name, frame.time) for frame in found] == [(frame.name, frame.time) for frame in expected]
    for frame, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(frame.image, other.image)


def assert_selects(source):
    """Every range is what the same numbers of the whole clip are."""
    whole = list(source)
    for numbers in RANGES:
        assert_same(list(source.select(numbers)), [whole[number] for number in numbers if number < len(whole)])


@pytest.fixture
def noise():
    """Frames that all differ, so that none can be taken for another."""
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (32, 48, 3), np.uint8) for _ in range(9)]


@pytest.mark.parametrize("frames_held", [1, 2, 100])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.mp4", "libx264", {}),
        ("clip.mp4", "libx264", {"bf": "3", "g": "250"}),
        ("clip.mkv", "libx264", {"x264-params": "open-gop=1:keyint=4:bframes=3"}),
        ("clip.mkv", "libx264", {"x264-params": "intra-refresh=1:keyint=3"}),
        ("clip.ts", "mpeg2video", {"bf": "2"}),
        ("clip.avi", "mpeg4", {}),
        ("clip.mkv", "ffv1", {}),
    ],
    ids=["h264", "one group", "open groups", "intra refresh", "mpeg2", "avi", "ffv1"],
)
@pytest.mark.filterwarnings("error:.*cannot be entered in its middle")
def test_a_video(tmp_path, noise, encode, monkeypatch, name, codec, options, frames_held):
    monkeypatch.setattr(backward.BackwardVideo.__init__, "__defaults__", (frames_held * 32 * 48 * 3,))
    path = encode(tmp_path / name, noise, codec, prepare=lambda stream: setattr(stream, "options", options))
    assert_selects(open_frames(path))


@pytest.mark.filterwarnings("ignore:.*damaged packets", "ignore:.*cannot be entered in its middle")
def test_a_damaged_video_is_read_from_its_beginning(tmp_path, noise, encode):
    path = encode(tmp_path / "clip.ts", noise * 4, "mpeg2video")
    data = bytearray(path.read_bytes())
    for place in np.random.default_rng(1).integers(len(data) // 4, 3 * len(data) // 4, 60):
        data[place] ^= 0x5A
    path.write_bytes(data)
    source = open_frames(path)
    whole = list(source)
    assert_same(list(source.select(range(len(whole) - 1, -1, -1))), whole[::-1])


def test_what_differs_after_a_jump_is_not_used(tmp_path, noise, encode, monkeypatch):
    """As if the decoder had found something else than before: the frames are right all the same."""
    source = open_frames(encode(tmp_path / "clip.mp4", noise))
    whole = list(source)
    checksum, calls = backward._checksum, count()
    monkeypatch.setattr(backward, "_checksum", lambda frame: checksum(frame) + (next(calls) > 10))
    with pytest.warns(MediaNotice, match=r"clip\.mp4 cannot be entered in its middle"):
        found = list(source.select(range(8, -1, -1)))
    assert_same(found, whole[::-1])


def test_frames_are_not_held(tmp_path, scene, encode, monkeypatch):
    monkeypatch.setattr(backward.BackwardVideo.__init__, "__defaults__", (5 * 120 * 160 * 3,))
    source = open_frames(encode(tmp_path / "clip.mp4", scene(40, 120, 160)))
    tracemalloc.start()
    assert sum(1 for _ in source.select(range(39, -1, -1))) == 40
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 120 * 160 * 3


def test_frames_that_are_left_out_are_not_converted(tmp_path, noise, encode, monkeypatch):
    source = open_frames(encode(tmp_path / "clip.mp4", noise))
    made = []
    rgb = source._scaler.rgb
    monkeypatch.setattr(source._scaler, "rgb", lambda pixels: made.append(pixels) or rgb(pixels))
    assert [frame.name for frame in source.select(range(5, 9, 3))] == ["00005", "00008"]
    assert len(made) == 3  # the first one shows the size of the frames


def test_a_number_beyond_the_end(tmp_path, scene, encode):
    source = open_frames(encode(tmp_path / "clip.mkv", scene(9, 48, 64)))
    with pytest.raises(MediaError, match=r"clip\.mkv has no frame 9: it has 9 frames"):
        list(source.select(range(9, -1, -1)))


def test_pictures(tmp_path, noise):
    for number, picture in enumerate(noise):
        Image.fromarray(picture).save(tmp_path / f"frame_{number}.png")
    source = open_frames(tmp_path)
    assert_selects(source)
    assert (source.name_of(3), source.number_of("frame_3"), source.number_of("3")) == ("frame_3", 3, None)


@pytest.mark.parametrize(("name", "options"), [("clip.tiff", {}), ("clip.webp", {"duration": 40, "lossless": True})])
def test_a_stack(tmp_path, noise, name, options):
    first, *others = map(Image.fromarray, noise)
    first.save(tmp_path / name, save_all=True, append_images=others, **options)
    source = open_frames(tmp_path / name)
    assert_selects(source)
    assert (source.name_of(3), source.number_of("00003"), source.number_of("3")) == ("00003", 3, None)


def test_frames_in_memory(noise):
    assert_selects(FrameSequence(noise))
    with pytest.raises(MediaError, match="the frames come from an iterator, from front to end: give a list"):
        next(FrameSequence(iter(noise)).select(range(8, -1, -1)))
    assert [frame.name for frame in FrameSequence(iter(noise)).select(range(4, 9, 2))] == ["00004", "00006", "00008"]


def test_a_pipe_is_read_from_front_to_end(tmp_path, scene, encode):
    path = encode(tmp_path / "clip.mkv", scene(9, 48, 64))
    source = open_frames(path)
    source.seekable = False
    with pytest.raises(MediaError, match="can be read only from front to end: save it as a file"):
        next(source.select(range(3, -1, -1)))
