"""Reading videos: what is delivered, and what is said when it cannot be."""

import tracemalloc
import wave

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.media.notices import MediaNotice
from stm_fast.media.sources import open_frames


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "libx264"), ("clip.mkv", "libx264"), ("clip.avi", "mpeg4")])
def test_video_is_delivered_frame_by_frame(tmp_path, scene, encode, name, codec):
    frames = scene(9, 48, 64)
    source = open_frames(encode(tmp_path / name, frames, codec))
    assert (source.size, source.fps, source.count, source.first_name) == ((48, 64), 25, 9, "00000")
    for _ in range(2):
        read = list(source)
        assert [frame.name for frame in read] == [f"{i:05d}" for i in range(9)]
        for frame, expected in zip(read, frames, strict=True):
            assert frame.image.dtype == np.uint8
            assert np.abs(frame.image.astype(int) - expected).mean() < 6


def test_frame_names_are_known_beforehand(tmp_path, scene, encode):
    video = open_frames(encode(tmp_path / "clip.mp4", scene(3, 32, 32)))
    assert [video.may_hold(name) for name in ("00002", "00003", "2", "x")] == [True, False, False, False]


def test_frames_are_not_held(tmp_path, scene, encode):
    path = encode(tmp_path / "clip.mp4", scene(40, 120, 160))
    source = open_frames(path)
    tracemalloc.start()
    for _ in source:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 120 * 160 * 3


def test_missing_path():
    with pytest.raises(MediaError, match=r"nowhere.mp4 does not exist: a video file or a folder of images"):
        open_frames("nowhere.mp4")


def test_an_empty_name_is_not_the_current_folder(tmp_path, scene, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(scene(1, 32, 48)[0]).save("0.png")
    with pytest.raises(MediaError, match="the name of the clip is empty"):
        open_frames("")


@pytest.mark.parametrize("content", [b"", b"this is not a video at all" * 50])
def test_unreadable_video(tmp_path, content):
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=r"clip.mp4 cannot be read as video: "):
        open_frames(tmp_path / "clip.mp4")


def test_sound_is_no_video(tmp_path):
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "none"))
        sound.writeframes(bytes(1600))
    with pytest.raises(MediaError, match="has no video stream"):
        open_frames(tmp_path / "sound.wav")


def test_truncated_video_delivers_what_is_there_and_then_says_so(tmp_path, scene, encode):
    path = encode(tmp_path / "clip.mp4", scene(40, 64, 96), movflags="+faststart")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.8)])
    source = open_frames(path)
    delivered = []
    with pytest.raises(MediaError, match=r"clip.mp4 breaks off after \d+ of 40 frames") as caught:
        delivered.extend(source)
    assert 0 < len(delivered) < 40
    assert f"after {len(delivered)} of" in str(caught.value)


def test_video_cut_off_before_its_index(tmp_path, scene, encode):
    path = encode(tmp_path / "clip.mp4", scene(20, 64, 96))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(MediaError, match="cannot be read as video"):
        open_frames(path)


def test_video_shorter_than_its_duration_is_noticed(tmp_path, scene, encode):
    path = encode(tmp_path / "clip.mkv", scene(40, 64, 96))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(MediaNotice, match=r"gave \d+ frames, 0.\d+ s, but its duration is 1.60 s"):
        assert 0 < len(list(open_frames(path))) < 36
