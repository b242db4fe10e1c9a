"""Encoding: that the video is one, and what an interruption leaves."""

import errno
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from stm_fast.errors import MediaError
from stm_fast.media.encode import VideoEncoder, video_writer
from stm_fast.media.notices import MediaNotice
from stm_fast.media.sources import open_frames

DATA = Path(__file__).parent / "data"


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


def read_times(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [float(frame.time) for frame in container.decode(stream)], float(stream.duration * stream.time_base)


@pytest.mark.parametrize(
    ("name", "seconds"), [("recorder.webm", 1.066), ("recorder_no_rate.webm", 1.066), ("vfr.mp4", 2.366)]
)
def test_video_runs_beside_its_source(tmp_path, name, seconds):
    source = open_frames(DATA / name)
    with video_writer(tmp_path / "out.mp4", source.fps or 24) as encoder:
        for frame in source:
            encoder.write(frame.image, frame.time)
    times, duration = read_times(tmp_path / "out.mp4")
    assert times == pytest.approx([float(frame.time) for frame in source], abs=1 / 90000)
    assert duration == pytest.approx(seconds, abs=1e-4)


@pytest.mark.parametrize(("fps", "last"), [(10, 0.1), (30, 1 / 30), (Fraction(1, 100), 2)])
def test_last_frame_after_a_pause(tmp_path, scene, fps, last):
    with video_writer(tmp_path / "out.mp4", fps) as encoder:
        for frame, time in zip(scene(3, 48, 64), (0, 1, 3), strict=True):
            encoder.write(frame, Fraction(time))
    assert read_times(tmp_path / "out.mp4") == ([0, 1, 3], pytest.approx(3 + last, abs=1e-4))


def test_one_frame_with_a_time(tmp_path, scene):
    with video_writer(tmp_path / "out.mp4", 4) as encoder:
        encoder.write(scene(1, 48, 64)[0], Fraction(0))
    assert read_times(tmp_path / "out.mp4") == ([0], 0.25)


def test_times_always_increase(tmp_path, scene):
    with video_writer(tmp_path / "out.mp4", 10) as encoder:
        for frame, time in zip(scene(4, 48, 64), (0, 1, 1, Fraction(1, 2)), strict=True):
            encoder.write(frame, Fraction(time))
    times, _ = read_times(tmp_path / "out.mp4")
    assert np.round(np.array(times) * 90000).tolist() == [0, 90000, 90001, 90002]


def test_rates_are_exact(tmp_path, scene):
    with video_writer(tmp_path / "out.mp4", Fraction(24000, 1001)) as encoder:
        for frame in scene(6, 48, 64):
            encoder.write(frame)
    assert open_frames(tmp_path / "out.mp4").fps == Fraction(24000, 1001)
    _, duration = read_times(tmp_path / "out.mp4")
    assert duration == pytest.approx(6 * 1001 / 24000)


@pytest.mark.parametrize("times", [(None, Fraction(1)), (Fraction(0), None)])
def test_all_frames_have_a_time_or_none(tmp_path, scene, times):
    frame = scene(1, 48, 64)[0]
    with video_writer(tmp_path / "out.mp4", 10) as encoder:
        encoder.write(frame, times[0])
        with pytest.raises(ValueError, match=r"time of frame 1 is .*: all frames must have a time, or none"):
            encoder.write(frame, times[1])


def test_pixels_that_are_not_square(tmp_path, scene):
    with video_writer(tmp_path / "out.mp4", 10, Fraction(16, 11)) as encoder:
        encoder.write(scene(1, 48, 64)[0])
    with pytest.warns(MediaNotice, match="players show 93×48"):
        assert open_frames(tmp_path / "out.mp4").pixel_aspect == Fraction(16, 11)
