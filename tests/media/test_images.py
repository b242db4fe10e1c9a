"""Reading images: folders, stacks and animations, and pictures of every kind."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.media.images import list_images, read_image
from stm_fast.media.masks import read_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.media.sources import open_frames


def save(folder: Path, images: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        Image.fromarray(image).save(folder / name)
    return folder


def save_all(path: Path, frames: list[np.ndarray], **options: object) -> Path:
    first, *others = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=others, **options)
    return path


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


def test_empty_folder(tmp_path):
    with pytest.raises(MediaError, match="holds no image"):
        open_frames(tmp_path)


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
    with pytest.raises(MediaError, match=r"have the same name"):
        list_images(save(tmp_path / "clip", {"a.png": image, "a.jpg": image}))


def test_names_of_a_folder_are_known_beforehand(tmp_path, scene):
    images = open_frames(save(tmp_path / "clip", {"a.png": scene(1, 8, 8)[0]}))
    assert [images.may_hold(name) for name in ("a", "00000")] == [True, False]


def test_folder_of_something_else_says_what_it_holds(tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.exr").write_bytes(b"")
    with pytest.raises(MediaError, match=r"holds no image .*, but 3 \.exr: "):
        open_frames(tmp_path)


@pytest.mark.parametrize("name", ["stack.tif", "stack.tiff"])
def test_pages_of_a_stack_are_frames(tmp_path, scene, name):
    frames = scene(5, 20, 30)
    source = open_frames(save_all(tmp_path / name, frames))
    assert (source.count, source.fps, source.size) == (5, None, (20, 30))
    for _ in range(2):
        read = list(source)
        assert [frame.name for frame in read] == ["00000", "00001", "00002", "00003", "00004"]
        assert {frame.time for frame in read} == {None}
        np.testing.assert_array_equal([frame.image for frame in read], frames)
    assert [source.may_hold(name) for name in ("00004", "00005", "stack")] == [True, False, False]
    assert source.has_file(tmp_path / name)


def test_stack_alone_in_a_folder_is_the_clip(tmp_path, scene):
    frames = scene(5, 20, 30)
    save_all(tmp_path / "stack.tif", frames)
    np.testing.assert_array_equal([frame.image for frame in open_frames(tmp_path)], frames)


@pytest.mark.parametrize("names", [("0.tif", "1.png"), ("1.tif", "0.png")])
def test_stack_among_other_images_is_refused(tmp_path, scene, names):
    save_all(tmp_path / names[0], scene(5, 20, 30))
    save(tmp_path, {names[1]: scene(1, 20, 30)[0]})
    with pytest.raises(MediaError, match=rf"{names[0]} has 5 pages, but each image of a folder is one frame"):
        list(open_frames(tmp_path))


def test_thumbnail_is_no_frame(tmp_path, scene):
    (frame,) = scene(1, 20, 30)
    small = Image.fromarray(frame[::2, ::2].copy())
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(frame).save(tmp_path / "photo.tif", save_all=True, append_images=[small])
    source = open_frames(tmp_path)
    assert (source.count, source.first_name) == (1, "photo")
    np.testing.assert_array_equal(next(iter(source)).image, frame)


def test_preview_in_a_jpeg_is_no_frame(tmp_path, scene):
    save_all(tmp_path / "photo.jpg", scene(2, 24, 32), format="MPO")
    assert open_frames(tmp_path / "photo.jpg").count == 1
    assert next(iter(open_frames(tmp_path))).name == "photo"


def test_stack_whose_images_are_not_in_pages_is_refused(tmp_path, scene):
    Image.fromarray(scene(1, 20, 30)[0]).save(
        tmp_path / "big.tif", description="ImageJ=1.53t\nimages=900\nslices=900\n"
    )
    with pytest.raises(MediaError, match="holds 900 images in ImageJ's own form, of which only 1 can be read"):
        open_frames(tmp_path / "big.tif")


def test_channels_of_a_stack_are_told(tmp_path, scene):
    text = "ImageJ=1.53t\nimages=4\nchannels=2\nframes=2\n"
    with pytest.warns(MediaNotice, match="has 2 channels: each of its 4 pages is taken as a frame"):
        assert open_frames(save_all(tmp_path / "stack.tif", scene(4, 20, 30), description=text)).count == 4


@pytest.mark.parametrize("name", ["anim.webp", "anim.png", "anim.gif"])
def test_animations_have_time_stamps(tmp_path, scene, name):
    frames = scene(4, 20, 30)
    options = {"lossless": True} if name.endswith("webp") else {}
    source = open_frames(save_all(tmp_path / name, frames, duration=[40, 40, 200, 80], loop=0, **options))
    assert (source.count, source.fps, source.first_name) == (4, 25, "00000")
    read = list(source)
    assert [frame.time for frame in read] == [0, Fraction(1, 25), Fraction(2, 25), Fraction(7, 25)]
    tolerance = 3 if name.endswith("gif") else 0  # of 256 colours
    assert np.abs(np.array([frame.image for frame in read]).astype(int) - frames).max() <= tolerance


def test_picture_before_an_animation_is_no_frame(tmp_path, scene):
    cover, *frames = scene(4, 20, 30)
    path = save_all(tmp_path / "anim.png", [cover, *frames], default_image=True, duration=40)
    np.testing.assert_array_equal([frame.image for frame in open_frames(path)], frames)


def test_animation_without_pauses_runs_as_in_a_browser(tmp_path, scene):
    source = open_frames(save_all(tmp_path / "anim.gif", scene(3, 20, 30), duration=0))
    assert [frame.time for frame in source] == [0, Fraction(1, 10), Fraction(2, 10)]


def test_one_picture_is_a_clip_of_one_frame(tmp_path, scene):
    save(tmp_path, {"photo.png": scene(1, 20, 30)[0]})
    (frame,) = open_frames(tmp_path / "photo.png")
    assert (frame.name, frame.time) == ("00000", None)


def test_orientation_of_a_photograph_is_applied(tmp_path, scene):
    image = scene(1, 20, 40)[0]
    image[:5, :5] = 255
    flat, across, down = image, image[:, ::-1], image[::-1]
    turned = image.transpose(1, 0, 2)
    expected = [flat, across, down[:, ::-1], down, turned, turned[:, ::-1], turned[::-1, ::-1], turned[::-1]]
    for orientation, upright in enumerate(expected, 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for name in ("photo.png", "photo.tif"):
            Image.fromarray(image).save(tmp_path / name, exif=exif)
            np.testing.assert_array_equal(read_image(tmp_path / name), upright)


def test_kinds_of_pictures_may_differ_in_a_folder(tmp_path):
    grey = np.full((8, 8), 60, np.uint8)
    grey[2:5, 2:5] = 200
    picture = Image.fromarray(grey)
    picture.save(tmp_path / "0.png")
    picture.convert("RGB").save(tmp_path / "1.png")
    picture.convert("P").save(tmp_path / "2.png")
    picture.convert("RGBA").save(tmp_path / "3.png")
    picture.convert("CMYK").save(tmp_path / "4.tif")
    picture.convert("1", dither=Image.Dither.NONE).save(tmp_path / "5.png")
    picture.convert("LA").save(tmp_path / "6.png")
    picture.save(tmp_path / "7.pgm")
    frames = {frame.name: frame.image for frame in open_frames(tmp_path)}
    black_and_white = np.where(grey > 127, 255, 0)
    for name, image in frames.items():
        np.testing.assert_array_equal(image, np.dstack([black_and_white if name == "5" else grey] * 3))
    assert len(frames) == 8


def test_colours_of_print_are_those_that_are_seen(tmp_path):
    Image.new("RGB", (16, 16), (250, 10, 20)).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "print.jpg").astype(int) - (250, 10, 20)).max() < 8


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_drawn_over_black_and_told(tmp_path, kind):
    pixels = np.full((8, 8, 4), 200, np.uint8)
    pixels[..., 3] = 255
    pixels[:4, :, 3] = 0
    if kind == "P":
        picture = Image.fromarray((pixels[..., 3] // 255).astype(np.uint8)).convert("P")
        picture.putpalette([200] * 6)
        picture.save(tmp_path / "0.png", transparency=0)
    else:
        Image.fromarray(pixels).convert(kind).save(tmp_path / "0.png")
    with pytest.warns(MediaNotice, match="transparent pixels: they are drawn over black") as told:
        image = next(iter(open_frames(tmp_path))).image
    assert len(told) == 1
    assert (image[:4] == 0).all()
    assert (image[4:] == 200).all()


def test_kind_that_is_not_read_is_told(tmp_path):
    (tmp_path / "notes.png").write_text("no picture at all")
    with pytest.raises(MediaError, match=r"notes.png is not an image, or cannot be read"):
        open_frames(tmp_path)


@pytest.mark.parametrize(("tag", "value"), [(256, 0xFFFF), (259, 32513)], ids=["no width", "unknown compression"])
def test_a_stack_with_a_damaged_page_is_refused(tmp_path, tag, value):
    path = tmp_path / "stack.tif"
    page = Image.new("L", (8, 8))
    page.save(path, save_all=True, append_images=[page])
    content = bytearray(path.read_bytes())
    with Image.open(path) as image:
        image.seek(1)
        first = image._frame_pos[1] + 2
    entry = next(at for at in range(first, len(content), 12) if struct.unpack_from("<H", content, at)[0] == tag)
    struct.pack_into("<H", content, entry if tag == 256 else entry + 8, value)
    path.write_bytes(content)
    for read in (open_frames, read_mask):
        with pytest.raises(MediaError, match=r"stack\.tif cannot be read as"):
            read(path)
