"""Videos that are not plain: several streams, time stamps, shapes, depths, damage."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from stm_fast.errors import MediaError
from stm_fast.media.notices import MediaNotice
from stm_fast.media.sources import open_frames

DATA = Path(__file__).parent / "data"
MILLISECONDS = [0, 33, 70, 100, 133, 400, 433, 900, 933, 966, 1000, 1033]
PAUSED = [0, 2000, 2033, 2066, 2100, 2133, 2166, 2200, 2233, 2266, 2300, 2333]


def milliseconds(source):
    return [float(frame.time * 1000) for frame in source]


def remux(source, target, change=lambda index, packet: packet):
    """Copy the packets of a video, each changed on the way or dropped."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(read.streams.video[0]) if packet.dts is not None]
        for index, packet in enumerate(packets):
            if changed := change(index, packet):
                changed.stream = stream
                written.mux(changed)
    return target


def like(packet, data):
    changed = av.Packet(data)
    changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
    changed.is_keyframe = packet.is_keyframe
    return changed


def write_streams(path, *clips):
    """A file whose streams are the clips, packet by packet in turn."""
    with av.open(str(path), "w") as container:
        streams = []
        for frames in clips:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            streams.append(stream)
        for pictures in zip(*clips, strict=True):
            for stream, picture in zip(streams, pictures, strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "expected", "fps"),
    [
        ("recorder.webm", MILLISECONDS, None),  # by a browser: its clock of 1000 a second is no rate
        ("recorder_no_rate.webm", MILLISECONDS, 30),
        ("vfr.mp4", PAUSED, Fraction(192000, 69317)),
    ],
)
def test_frames_have_the_time_stamps_of_the_video(name, expected, fps, recwarn):
    source = open_frames(DATA / name)
    assert source.fps == fps
    assert milliseconds(source) == expected
    assert not recwarn.list


def test_time_goes_on_after_a_recording_that_was_appended(tmp_path, scene, encode):
    parts = [encode(tmp_path / f"{index}.ts", scene(10, 48, 64)).read_bytes() for index in range(2)]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    assert milliseconds(open_frames(tmp_path / "both.ts")) == [40 * index for index in range(20)]


def test_frames_that_claim_one_moment_follow_each_other(tmp_path, scene, encode):
    encode(tmp_path / "clip.mkv", scene(6, 48, 64), "mpeg4")

    def same(index, packet):
        if index == 3:
            packet.pts = packet.dts = 80
        return packet

    remux(tmp_path / "clip.mkv", tmp_path / "same.mkv", same)
    assert milliseconds(open_frames(tmp_path / "same.mkv")) == [0, 40, 80, 81, 160, 200]


def test_default_stream_is_taken(tmp_path, scene, recwarn):
    path = write_streams(tmp_path / "two.mp4", scene(5, 48, 64), scene(5, 64, 96))
    with pytest.warns(MediaNotice, match="has 2 video streams: stream 0, 64×48, is used") as told:
        source = open_frames(path)
    assert len(told) == 1
    assert source.size == (48, 64)
    assert len(list(source)) == 5
    assert not recwarn.list


def test_largest_stream_is_taken_among_equals(tmp_path, scene):
    path = write_streams(tmp_path / "two.mkv", scene(5, 48, 64), scene(5, 64, 96), scene(5, 32, 32))
    with pytest.warns(MediaNotice, match="has 3 video streams: stream 1, 96×64, is used"):
        assert open_frames(path).size == (64, 96)


def with_cover(path, cover, video=None):
    with av.open(str(path), "w") as container:
        picture = container.add_stream("png", rate=1)
        picture.height, picture.width = cover.shape[:2]
        picture.pix_fmt = "rgb24"
        picture.disposition = Disposition.attached_pic
        packets = picture.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")) + picture.encode()
        if video:
            with av.open(str(video)) as read:
                stream = container.add_stream_from_template(read.streams.video[0])
                container.mux(packets)
                for packet in read.demux(read.streams.video[0]):
                    if packet.dts is not None:
                        packet.stream = stream
                        container.mux(packet)
        else:
            container.mux(packets)
    return path


def test_cover_picture_is_no_video(tmp_path, scene, encode, recwarn):
    video = encode(tmp_path / "clip.mp4", scene(6, 48, 64))
    source = open_frames(with_cover(tmp_path / "cover.mp4", scene(1, 200, 200)[0], video))
    assert (source.size, len(list(source))) == ((48, 64), 6)
    assert not recwarn.list
    with pytest.raises(MediaError, match="has no video stream, only a cover picture"):
        open_frames(with_cover(tmp_path / "song.mp4", scene(1, 200, 200)[0]))


@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_are_not_square_are_kept_and_told(tmp_path, scene, encode, turned, recwarn):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        if turned:
            stream.set_display_rotation(90)

    path = encode(tmp_path / "tape.mp4", scene(3, 48, 64), prepare=prepare)
    shape = "48×64 as stored, but players show 33×64" if turned else "64×48 as stored, but players show 93×48"
    with pytest.warns(MediaNotice, match=f"frames and masks are {shape}") as told:
        source = open_frames(path)
    assert len(told) == 1
    assert source.size == ((64, 48) if turned else (48, 64))
    assert source.pixel_aspect == (Fraction(11, 16) if turned else Fraction(16, 11))
    assert len(list(source)) == 3
    assert not recwarn.list


def test_change_of_size_is_scaled_and_told(tmp_path, scene, encode):
    small, large = scene(8, 48, 64), [np.kron(frame, np.ones((2, 2, 1), np.uint8)) for frame in scene(8, 48, 64)]
    parts = [encode(tmp_path / f"{index}.ts", frames).read_bytes() for index, frames in enumerate((small, large))]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    source = open_frames(tmp_path / "both.ts")
    with pytest.warns(
        MediaNotice, match="changes its size to 128×96: such frames are scaled to the first one's 64×48"
    ) as told:
        frames = [frame.image for frame in source]
    assert len(told) == 1
    for image, expected in zip(frames, small * 2, strict=True):
        assert np.abs(image.astype(int) - expected).mean() < 6


def test_interlaced_video_is_told(tmp_path, scene, encode):
    def prepare(stream):
        stream.options = {"x264-params": "interlaced=1"}

    path = encode(tmp_path / "tape.mp4", scene(4, 48, 64), prepare=prepare)
    with pytest.warns(MediaNotice, match="is interlaced: frames are used with both of their fields") as told:
        assert len(list(open_frames(path))) == 4
    assert len(told) == 1


def test_high_dynamic_range_is_told(tmp_path, scene, encode):
    def prepare(stream):
        stream.codec_context.color_trc = 16

    path = encode(tmp_path / "hdr.mp4", scene(4, 48, 64), pix_fmt="yuv420p10le", prepare=prepare)
    with pytest.warns(MediaNotice, match="is HDR and not tone-mapped") as told:
        assert len(list(open_frames(path))) == 4
    assert len(told) == 1


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p", "yuvj420p"])
def test_depths_and_layouts_of_colours(tmp_path, scene, encode, pix_fmt, recwarn):
    frames = scene(4, 48, 64)
    path = encode(tmp_path / "clip.mkv", frames, pix_fmt=pix_fmt)
    for frame, expected in zip(open_frames(path), frames, strict=True):
        assert np.abs(frame.image.astype(int) - expected).mean() < 5
    assert not recwarn.list


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le", "gray"])
@pytest.mark.parametrize(("matrix", "full"), [(1, 1), (1, 2), (5, 2), (2, 0), (9, 1)])
def test_colours_are_those_of_ffmpeg(tmp_path, scene, encode, pix_fmt, matrix, full):
    def prepare(stream):
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, full

    path = encode(tmp_path / "clip.mp4", scene(1, 48, 64), pix_fmt=pix_fmt, prepare=prepare)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        nodes = (graph.add_buffer(stream), graph.add("scale"), graph.add("format", "rgb24"), graph.add("buffersink"))
        graph.link_nodes(*nodes).configure()
        graph.vpush(next(container.decode(stream)))
        expected = graph.vpull().to_ndarray(format="rgb24")
    np.testing.assert_array_equal(next(iter(open_frames(path))).image, expected)


def test_transparent_video_is_drawn_over_black_and_told(tmp_path, scene, encode):
    frames = scene(3, 48, 64)
    alpha = np.where(np.arange(64) < 32, 255, 0).astype(np.uint8)[None].repeat(48, 0)
    path = encode(tmp_path / "clip.mov", [np.dstack([frame, alpha]) for frame in frames], "qtrle", "argb")
    with pytest.warns(MediaNotice, match="transparent pixels: they are drawn over black") as told:
        images = [frame.image for frame in open_frames(path)]
    assert len(told) == 1
    for image, expected in zip(images, frames, strict=True):
        np.testing.assert_array_equal(image[:, :32], expected[:, :32])
        assert (image[:, 32:] == 0).all()


def test_damaged_packets_are_passed_over_and_counted(tmp_path, scene, encode):
    frames = scene(20, 48, 64)
    encode(tmp_path / "clip.mkv", frames, "mjpeg", "yuvj420p")

    def damage(index, packet):
        return like(packet, bytes(packet.size)) if index in {4, 5, 11} else packet

    path = remux(tmp_path / "clip.mkv", tmp_path / "damaged.mkv", damage)
    with pytest.warns(MediaNotice, match="has 3 damaged packets, which were skipped: 17 frames were decoded") as told:
        read = list(open_frames(path))
    assert len(told) == 1
    assert [frame.name for frame in read] == [f"{index:05d}" for index in range(17)]
    left = [index for index in range(20) if index not in {4, 5, 11}]
    assert [frame.time * 25 for frame in read] == left
    for frame, index in zip(read, left, strict=True):
        assert np.abs(frame.image.astype(int) - frames[index]).mean() < 6


def test_video_of_damaged_packets_only(tmp_path, scene, encode):
    encode(tmp_path / "clip.mkv", scene(5, 48, 64), "mjpeg", "yuvj420p")
    path = remux(
        tmp_path / "clip.mkv", tmp_path / "damaged.mkv", lambda index, packet: like(packet, bytes(packet.size))
    )
    with pytest.raises(MediaError, match="has no frame that can be decoded"):
        open_frames(path)


def test_video_that_was_trimmed_by_its_edit_list_is_whole(tmp_path, scene, encode, recwarn):
    path = encode(tmp_path / "clip.mp4", scene(12, 48, 64))
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12  # after name, version, and number of entries: the duration of the first
    (duration,) = struct.unpack_from(">I", data, at)
    struct.pack_into(">I", data, at, duration // 4)
    path.write_bytes(data)
    source = open_frames(path)
    assert len(list(source)) == 3
    assert not recwarn.list


def test_sound_that_is_longer_is_no_loss(tmp_path, scene, encode, recwarn):
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        audio = container.add_stream("aac", rate=8000, layout="mono")
        for frame in scene(5, 48, 64):
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        for index in range(16):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 8000, 1024 * index
            container.mux(audio.encode(sound))
        container.mux(audio.encode())
    assert len(list(open_frames(tmp_path / "clip.mp4"))) == 5
    assert not recwarn.list


def test_a_matroska_file_that_begins_late_is_whole(tmp_path, scene, encode, recwarn):
    def later(index, packet):
        late = int(5 / packet.time_base)
        packet.pts, packet.dts = packet.pts + late, packet.dts + late
        return packet

    frames = open_frames(remux(encode(tmp_path / "clip.mp4", scene(4, 32, 48)), tmp_path / "late.mkv", later))
    assert (len(list(frames)), frames.count) == (4, 4)
    assert not [found for found in recwarn if found.category is MediaNotice]
