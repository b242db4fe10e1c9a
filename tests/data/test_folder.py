"""Plain folders of clips."""

import numpy as np
import pytest
from PIL import Image

from stm_fast.data.layouts import open_videos
from stm_fast.errors import MediaError
from stm_fast.media.encode import video_writer
from stm_fast.media.notices import MediaNotice


def folder(root, clip=None):
    return open_videos("folder", root, clip)


def test_one_clip(tmp_path, image):
    for index in range(3):
        image(tmp_path / "chair" / "frames" / f"{index}.jpg")
        image(tmp_path / "chair" / "masks" / f"{index}.png", 1)
    (clip,) = folder(tmp_path / "chair")
    assert (clip.name, list(clip.truth), clip.prompts) == ("chair", ["0", "1", "2"], clip.truth)
    assert clip.open().count == 3


def test_one_video(tmp_path, image):
    image(tmp_path / "masks" / "00000.png", 1)
    with video_writer(tmp_path / "girls.mp4", 24) as encoder:
        encoder.write(np.zeros((24, 32, 3), np.uint8))
    (clip,) = folder(tmp_path)
    assert clip.frames == tmp_path / "girls.mp4"


def test_several_clips(tmp_path, image):
    for clip in ("b", "a"):
        image(tmp_path / "masks" / clip / "0.png", 1)
    image(tmp_path / "frames" / "a" / "0.jpg")
    (tmp_path / "frames" / "b.mp4").write_bytes(b"not opened here")
    assert [clip.name for clip in folder(tmp_path)] == ["a", "b"]
    assert folder(tmp_path).clips[1].frames == tmp_path / "frames" / "b.mp4"
    assert [clip.name for clip in folder(tmp_path, "b")] == ["b"]
    with pytest.raises(MediaError, match="has no clip c: there are a, b"):
        folder(tmp_path, "c")


def test_no_masks(tmp_path, image):
    image(tmp_path / "frames" / "0.jpg")
    with pytest.raises(MediaError, match=r"masks does not exist"):
        folder(tmp_path)


def test_masks_without_frames(tmp_path, image):
    image(tmp_path / "masks" / "0.png", 1)
    with pytest.raises(MediaError, match="no folder frames, and 0 videos where one is needed"):
        folder(tmp_path)
    for clip in ("a", "b", "c"):
        image(tmp_path / "masks" / clip / "0.png", 1)
    image(tmp_path / "frames" / "b" / "0.png")
    (tmp_path / "masks/b/0.png").unlink()
    with pytest.raises(MediaError) as caught:
        folder(tmp_path)
    assert str(caught.value).splitlines()[1:-1] == [
        f"  clips without a folder or a video of their name in {tmp_path / 'frames'}: a, c",
        f"  clips without a mask in {tmp_path / 'masks'}: b",
    ]


def test_empty_masks(tmp_path, image):
    image(tmp_path / "frames" / "0.jpg")
    (tmp_path / "masks").mkdir()
    with pytest.raises(MediaError, match="holds no mask"):
        folder(tmp_path)


def test_one_clip_by_a_wrong_name(tmp_path, image):
    image(tmp_path / "chair" / "frames" / "0.jpg")
    image(tmp_path / "chair" / "masks" / "0.png", 1)
    assert len(folder(tmp_path / "chair", "chair")) == 1
    with pytest.raises(MediaError, match="has no clip table: its clip is chair"):
        folder(tmp_path / "chair", "table")


def test_white_is_void_beside_other_ids_and_an_object_by_itself(tmp_path, image):
    for name, value in (("a", 255), ("b", 1)):
        image(tmp_path / "frames" / name / "0.jpg")
        image(tmp_path / "masks" / name / "0.png", value)
    with pytest.warns(MediaNotice, match="masks of a are black and white: white is object 1, and there is no void"):
        assert folder(tmp_path).void is None
    both = np.zeros((24, 32), np.uint8)
    both[:9], both[9:12] = 3, 255
    Image.fromarray(both).save(tmp_path / "masks" / "b" / "0.png")
    with pytest.warns(MediaNotice, match="masks of b have 255 beside other ids: it is void"):
        dataset = folder(tmp_path, "b")
    assert (dataset.void, [clip.void for clip in dataset]) == (255, [255])
