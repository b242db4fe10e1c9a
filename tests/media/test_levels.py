"""Deep pixels: every integer type and floats, by the range in use, one for a clip."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stm_fast.media.images import read_image
from stm_fast.media.levels import Levels, Scaler
from stm_fast.media.notices import MediaNotice
from stm_fast.media.sources import open_frames

TIFF_FORMATS = {"u": 1, "i": 2, "f": 3}


def write_tiff(path: Path, pixels: np.ndarray) -> Path:
    """An uncompressed TIFF of grey pixels of any dtype, or of RGB."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    bits, kind = pixels.dtype.itemsize * 8, TIFF_FORMATS[pixels.dtype.kind]
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, bits if channels == 1 else 8 + len(data)),
        (259, 3, 1, 1),
        (262, 3, 1, 1 if channels == 1 else 2),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
        (339, 3, channels, kind if channels == 1 else 14 + len(data)),
    ]
    tables = struct.pack("<6H", *[bits] * 3, *[kind] * 3)
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data) + len(tables)) + data + tables + directory)
    return path


def write_png(path: Path, pixels: np.ndarray) -> Path:
    """A PNG of 16 bits a channel, which Pillow writes in grey only."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    )
    return path


def steps(low, high, dtype):
    """Squares of four levels, and what they are in 8 bits by the range in use."""
    levels = np.linspace(low, high, 4).round() if np.dtype(dtype).kind != "f" else np.linspace(low, high, 4)
    squares = np.kron(levels.reshape(2, 2), np.ones((8, 8))).astype(dtype)
    return squares, np.rint((squares.astype(float) - low) / (high - low) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint16, 700, 4095),
        (np.uint16, 29000, 31000),
        (np.int16, -1024, 3071),
        (np.int32, -70000, 70000),
        (np.uint32, 10, 2**32 - 10),
        (np.int8, -100, 20),
        (np.float32, -3.5, 12.25),
        (np.float32, 0.25, 0.5),
    ],
)
def test_range_in_use_is_scaled_to_8_bits_and_told(tmp_path, dtype, low, high):
    pixels, expected = steps(low, high, dtype)
    with pytest.warns(MediaNotice, match=r"has values from .*: they are scaled to 8 bits, in the same way in all"):
        image = read_image(write_tiff(tmp_path / "deep.tif", pixels))
    np.testing.assert_array_equal(image, np.dstack([expected] * 3))


@pytest.mark.parametrize(("dtype", "whole"), [(np.uint16, 65535), (np.float32, 1)])
def test_range_of_the_type_is_kept_where_half_of_it_is_used(tmp_path, dtype, whole, recwarn):
    pixels, _ = steps(0.1 * whole, 0.8 * whole, dtype)
    expected = np.rint(pixels / whole * 255)
    np.testing.assert_array_equal(read_image(write_tiff(tmp_path / "deep.tif", pixels))[..., 0], expected)
    assert not recwarn.list


def test_deep_grey_images_of_full_range(tmp_path):
    Image.fromarray(np.array([[0, 257 * 100], [65535, 257]], np.uint16)).save(tmp_path / "deep.png")
    assert Levels(0, 65535).apply(np.array([0, 257 * 100, 65535, 257], np.uint16)).tolist() == [0, 100, 255, 1]
    assert read_image(tmp_path / "deep.png").shape == (2, 2, 3)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_deep_colours_of_png(tmp_path, channels):
    grey, expected = steps(200, 3400, np.uint16)
    colours = {2: [grey], 3: [grey, grey[::-1], grey[:, ::-1]], 4: [grey, grey[::-1], grey[:, ::-1]]}[channels]
    opaque = [np.full_like(grey, 65535)] if channels != 3 else []
    with pytest.warns(MediaNotice, match="values from 200 to 3400 of 0 to 65535"):
        image = read_image(write_png(tmp_path / "deep.png", np.dstack(colours + opaque)))
    wanted = [expected, expected[::-1], expected[:, ::-1]] if channels > 2 else [expected] * 3
    np.testing.assert_array_equal(image, np.dstack(wanted))


def test_deep_colours_of_tiff(tmp_path):
    grey, expected = steps(200, 3400, np.uint16)
    with pytest.warns(MediaNotice, match="values from 200 to 3400 of 0 to 65535"):
        image = read_image(write_tiff(tmp_path / "deep.tif", np.dstack([grey, grey[::-1], grey])))
    np.testing.assert_array_equal(image, np.dstack([expected, expected[::-1], expected]))


def test_levels_are_those_of_the_clip_and_not_of_each_frame(tmp_path, recwarn):
    dark, _ = steps(0, 1000, np.uint16)
    bright, _ = steps(2000, 4000, np.uint16)
    for index, pixels in enumerate((dark, bright, dark)):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    with pytest.warns(MediaNotice, match="values from 0 to 4000 of 0 to 65535") as told:
        source = open_frames(tmp_path)
    first, second, third = (frame.image[..., 0] for frame in source)
    again = [frame.image[..., 0] for frame in source]
    assert len(told) == 1
    assert not recwarn.list
    assert (first.max(), second.min(), second.max()) == (64, 128, 255)
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(again, [first, second, third])


def test_levels_of_a_stack_are_those_of_all_its_pages(tmp_path):
    pages = [Image.fromarray(steps(0, high, np.uint16)[0]) for high in (500, 4000, 1000)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(MediaNotice, match="values from 0 to 4000 of 0 to 65535"):
        assert [frame.image.max() for frame in open_frames(tmp_path / "stack.tif")] == [32, 255, 64]


def test_dead_pixels_do_not_count(tmp_path):
    pixels, expected = steps(1000, 2000, np.uint16)
    pixels[3, 3], pixels[12, 12] = 65535, 0
    with pytest.warns(MediaNotice, match="values from 1000 to 2000 of 0 to 65535"):
        image = read_image(write_tiff(tmp_path / "deep.tif", pixels))[..., 0]
    assert (image[3, 3], image[12, 12]) == (255, 0)
    image[3, 3], image[12, 12] = expected[3, 3], expected[12, 12]
    np.testing.assert_array_equal(image, expected)


def test_no_number_is_black_and_infinity_is_clipped():
    pixels, expected = steps(10, 50, np.float32)
    pixels[0, :3] = np.nan, np.inf, -np.inf
    expected[0, :3] = 0, 255, 0
    with pytest.warns(MediaNotice, match="values from 10 to 50"):
        np.testing.assert_array_equal(Scaler("clip").rgb(pixels)[..., 0], expected)


@pytest.mark.parametrize("value", [0, 1234])
def test_frames_of_one_value(value, recwarn):
    image = Scaler("clip").rgb(np.full((4, 4), value, np.uint16))
    assert (image == round(value / 257)).all()
    assert not recwarn.list


def test_a_broken_sample_is_told_in_its_turn(tmp_path):
    for index in range(3):
        Image.fromarray(steps(0, 4000, np.uint16)[0]).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    with pytest.warns(MediaNotice):
        source = open_frames(tmp_path)
    assert next(iter(source)).name == "0"


def test_deep_video(tmp_path, encode):
    frames = [steps(336, 3680, np.uint16)[0], steps(336, 2000, np.uint16)[0]]
    path = encode(tmp_path / "thermal.mkv", frames, "ffv1", "gray16le")
    with pytest.warns(MediaNotice, match="values from 336 to 3680 of 0 to 65535"):
        first, second = (frame.image[..., 0] for frame in open_frames(path))
    np.testing.assert_array_equal(first, steps(336, 3680, np.uint16)[1])
    assert second.max() == round((2000 - 336) / (3680 - 336) * 255)
