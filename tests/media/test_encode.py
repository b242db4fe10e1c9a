"""Encoding: that the video is one, and what an interruption leaves."""

import errno

import av
import numpy as np
import pytest

from stm_fast.errors import MediaError
from stm_fast.media.encode import VideoEncoder, video_writer
from stm_fast.media.video import open_frames


def write_and_stop(path, frames, stop):
    with video_writer(path, 24) as encoder:
        for frame in frames:
            encoder.write(frame)
        raise stop


@pytest.mark.parametrize("size", [(48, 64), (33, 51)])
def test_video_holds_the_frames(tmp_path, scene, size):
    frames = scene(7, *size)
    with video_writer(tmp_path / "out.mp4", 12.5) as encoder:
        for frame in frames:
            encoder.write(frame)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    read = open_frames(tmp_path / "out.mp4")
    assert (read.count, read.fps) == (7, 12.5)
    assert read.size == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    for frame, expected in zip(read, frames, strict=True):
        assert np.abs(frame.image[: size[0], : size[1]].astype(int) - expected).mean() < 5
    assert list(tmp_path.iterdir()) == [tmp_path / "out.mp4"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), MediaError("the input breaks off")])
def test_interrupted_video_is_valid(tmp_path, scene, stop):
    with pytest.raises(type(stop)):
        write_and_stop(tmp_path / "out.mp4", scene(5, 48, 64), stop)
    assert len(list(open_frames(tmp_path / "out.mp4"))) == 5


@pytest.mark.parametrize(("stop", "frames"), [(RuntimeError(), 5), (KeyboardInterrupt(), 0)])
def test_failed_or_empty_video_leaves_nothing(tmp_path, scene, stop, frames):
    with pytest.raises(type(stop)):
        write_and_stop(tmp_path / "out.mp4", scene(frames, 48, 64), stop)
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_the_old_video(tmp_path, scene, monkeypatch):
    (tmp_path / "out.mp4").write_bytes(b"old")

    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(VideoEncoder, "finish", full)
    with pytest.raises(OSError, match="No space left"), video_writer(tmp_path / "out.mp4", 24) as encoder:
        encoder.write(scene(1, 48, 64)[0])
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "out.mp4"]
