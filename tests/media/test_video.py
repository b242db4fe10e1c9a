"""Reading frames: what a source delivers, and what it says when it cannot."""

import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.media.notices import MediaNotice
from stm_fast.media.video import list_images, open_frames, read_image

IDENTITY = b"".join(n.to_bytes(4, "big") for n in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
QUARTER_TURN = b"".join(n.to_bytes(4, "big") for n in (0, 0x10000, 0, 0xFFFF0000, 0, 0, 0, 0, 0x40000000))


def save(folder: Path, images: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        Image.fromarray(image).save(folder / name)
    return folder


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


def test_folder_is_sorted_naturally_and_skips_what_is_no_image(tmp_path, scene):
    frames = scene(3, 20, 30)
    folder = save(tmp_path / "clip", {"frame_10.png": frames[2], "frame_9.png": frames[1], "frame_1.png": frames[0]})
    (folder / "notes.txt").write_text("no image")
    (folder / "._frame_1.png").write_bytes(b"resource fork")
    source = open_frames(folder)
    assert [frame.name for frame in source] == ["frame_1", "frame_9", "frame_10"]
    assert (source.count, source.fps, source.first_name) == (3, None, "frame_1")
    for frame, expected in zip(source, frames, strict=True):
        np.testing.assert_array_equal(frame.image, expected)


def test_frame_names_are_known_beforehand(tmp_path, scene, encode):
    video = open_frames(encode(tmp_path / "clip.mp4", scene(3, 32, 32)))
    assert [video.may_hold(name) for name in ("00002", "00003", "2", "x")] == [True, False, False, False]
    images = open_frames(save(tmp_path / "clip", {"a.png": scene(1, 8, 8)[0]}))
    assert [images.may_hold(name) for name in ("a", "00000")] == [True, False]


def test_frames_are_not_held(tmp_path, scene, encode):
    path = encode(tmp_path / "clip.mp4", scene(40, 120, 160))
    source = open_frames(path)
    tracemalloc.start()
    for _ in source:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 120 * 160 * 3


def test_rotation_of_a_video_is_applied(tmp_path, scene, encode):
    path = encode(tmp_path / "clip.mp4", scene(2, 32, 64))
    upright = next(iter(open_frames(path))).image
    data = path.read_bytes()
    track = data.index(b"tkhd")
    at = data.index(IDENTITY, track)
    path.write_bytes(data[:at] + QUARTER_TURN + data[at + len(IDENTITY) :])
    source = open_frames(path)
    assert source.size == (64, 32)
    np.testing.assert_array_equal(next(iter(source)).image, np.rot90(upright, -1))


def test_orientation_of_a_photograph_is_applied(tmp_path, scene):
    image = scene(1, 20, 40)[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), np.rot90(image, -1))


def test_deep_grey_images_are_scaled(tmp_path):
    Image.fromarray(np.array([[0, 257 * 100], [65535, 257]], np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[..., 0].tolist() == [[0, 100], [255, 1]]


def test_missing_path():
    with pytest.raises(MediaError, match=r"nowhere.mp4 does not exist: a video file or a folder of images"):
        open_frames("nowhere.mp4")


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


def test_empty_folder(tmp_path):
    with pytest.raises(MediaError, match="holds no image"):
        open_frames(tmp_path)


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
    with pytest.warns(MediaNotice, match=r"gave \d+ frames where its duration promises about 40"):
        assert 0 < len(list(open_frames(path))) < 36


def test_broken_image_comes_after_the_good_ones(tmp_path, scene):
    folder = save(tmp_path / "clip", {f"{i}.png": image for i, image in enumerate(scene(4, 20, 30))})
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:60])
    delivered = []
    with pytest.raises(MediaError, match=r"2.png cannot be read as an image"):
        delivered.extend(open_frames(folder))
    assert [frame.name for frame in delivered] == ["0", "1"]


def test_frame_of_another_size(tmp_path, scene):
    folder = save(tmp_path / "clip", {"0.png": scene(1, 20, 30)[0], "1.png": scene(1, 20, 32)[0]})
    delivered = []
    with pytest.raises(MediaError, match=r"frame 1 of .* is 32×20 but the clip began at 30×20"):
        delivered.extend(open_frames(folder))
    assert len(delivered) == 1


def test_two_images_of_one_name(tmp_path, scene):
    image = scene(1, 8, 8)[0]
    with pytest.raises(MediaError, match=r"have one name"):
        list_images(save(tmp_path / "clip", {"a.png": image, "a.jpg": image}))
