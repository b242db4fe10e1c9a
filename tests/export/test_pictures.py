"""PNGs, cut-out frames and videos with an alpha channel."""

import json
import shutil
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import MediaError
from stm_fast.export import cutouts
from stm_fast.media.conversion import converted
from stm_fast.media.encode import video_writer
from stm_fast.media.masks import write_mask
from tests.export.conftest import NAMES, SIZE, masks, picture


def pixels(path):
    return np.array(Image.open(path))


@pytest.fixture
def soft(results):
    """Soft masks of objects 1 and 2, the second from frame 2 on, with 16 bits; returns them by object and frame."""
    kept = {}
    rng = np.random.default_rng(0)
    for object_id, first in ((1, 0), (2, 2)):
        (results / "soft" / str(object_id)).mkdir(parents=True)
        for index, name in enumerate(NAMES[first:], first):
            kept[object_id, index] = rng.integers(0, 1 << 16, SIZE).astype(np.uint16)
            Image.fromarray(kept[object_id, index]).save(results / "soft" / str(object_id) / f"{name}.png")
    return kept


def test_binary_pngs(export):
    folder = export("binary-png")
    for name, mask in zip(NAMES, masks(), strict=True):
        np.testing.assert_array_equal(pixels(folder / f"{name}.png"), 255 * (mask > 0))


def test_object_pngs_are_there_for_every_frame(export):
    folder = export("object-png")
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["1", "2", "255"]
    for object_id in (1, 2, 255):
        for name, mask in zip(NAMES, masks(), strict=True):
            found = pixels(folder / str(object_id) / f"{name}.png")
            np.testing.assert_array_equal(found, 255 * (mask == object_id))
    assert not list(folder.rglob(".empty*"))


@pytest.mark.parametrize("bits", [None, 8, 16])
def test_soft_pngs(export, soft, bits):
    folder = export("soft-png", bits=bits)
    for object_id in (1, 2):
        for index, name in enumerate(NAMES):
            found = pixels(folder / str(object_id) / f"{name}.png")
            assert found.dtype == (np.uint8 if bits == 8 else np.uint16)
            level = soft.get((object_id, index), np.zeros(SIZE)) / 65535
            np.testing.assert_allclose(found / np.iinfo(found.dtype).max, level, atol=0.51 / np.iinfo(found.dtype).max)


def test_soft_pngs_need_a_run_that_kept_them(export):
    with pytest.raises(MediaError, match="--soft 8 or --soft 16"):
        export("soft-png")


def test_a_damaged_soft_mask_is_named(export, soft, results):
    path = results / "soft" / "1" / f"{NAMES[1]}.png"
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(path)
    with pytest.raises(MediaError, match="must be grey of 8 or 16 bits and 67×41"):
        export("soft-png")
    path.write_bytes(b"no picture")
    with pytest.raises(MediaError, match="cannot be read as a soft mask"):
        export("soft-png")


def near(mask):
    rows, columns = np.nonzero(mask)
    grown = np.zeros_like(mask)
    for row, column in zip(rows, columns, strict=True):
        around = slice(max(row - cutouts.MARGIN, 0), row + cutouts.MARGIN + 1)
        grown[around, max(column - cutouts.MARGIN, 0) : column + cutouts.MARGIN + 1] = True
    return grown


def test_frames_are_cut_out(export):
    folder = export("rgba-png")
    for index, (name, mask) in enumerate(zip(NAMES, masks(), strict=True)):
        found = pixels(folder / f"{name}.png")
        np.testing.assert_array_equal(found[..., 3], 255 * (mask > 0))
        np.testing.assert_array_equal(found[..., :3], np.where(near(mask > 0)[..., None], picture(index), 0))


def test_alpha_can_be_soft(export, soft):
    folder = export("rgba-png", soft=True)
    for index, name in enumerate(NAMES):
        total = sum(soft.get((object_id, index), np.zeros(SIZE)) / 65535 for object_id in (1, 2))
        np.testing.assert_allclose(pixels(folder / f"{name}.png")[..., 3], 255 * np.minimum(total, 1), atol=0.51)


def test_one_object_is_cut_out(export):
    folder = export("rgba-png", objects=[2])
    np.testing.assert_array_equal(pixels(folder / f"{NAMES[3]}.png")[..., 3], 255 * (masks()[3] == 2))


def decode(path, codec=None):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        about = stream.codec_context.pix_fmt, stream.average_rate, dict(stream.metadata)
        if codec is None:
            frames = list(container.decode(stream))
        else:
            decoder = av.CodecContext.create(codec, "r")
            frames = [each for packet in container.demux(stream) for each in decoder.decode(packet)]
            frames += decoder.decode(None) if not frames else []
        times = [float(frame.pts * stream.time_base) for frame in frames]
        return about, times, [converted(frame, format="rgba").to_ndarray() for frame in frames]


def test_prores_has_the_alpha_channel(export):
    (pixel_format, rate, _), _, found = decode(export("alpha-prores"))
    assert pixel_format.startswith("yuva444p")
    assert rate == 24
    assert len(found) == len(NAMES)
    for index, (frame, mask) in enumerate(zip(found, masks(), strict=True)):
        np.testing.assert_array_equal(frame[..., 3], 255 * (mask > 0))
        inside = mask > 0
        if inside.any():
            assert np.abs(frame[inside][:, :3].astype(int) - picture(index)[inside]).mean() < 4


def test_vp9_has_the_alpha_channel(export):
    (_, _, tags), _, found = decode(export("alpha-vp9", fps=12.5), "libvpx-vp9")
    assert {name.lower(): value for name, value in tags.items()}["alpha_mode"] == "1"
    assert len(found) == len(NAMES)
    for index, (frame, mask) in enumerate(zip(found, masks(), strict=True)):
        solid = frame[..., 3] > 127
        assert (solid != (mask > 0)).mean() < 0.01
        inside = (mask > 0) & solid
        if inside.any():
            assert np.abs(frame[inside][:, :3].astype(int) - picture(index)[inside]).mean() < 8


@pytest.mark.parametrize("format_", ["alpha-prores", "alpha-vp9"])
def test_ffprobe_shows_the_alpha_channel(export, format_):
    if shutil.which("ffprobe") is None:
        pytest.skip("needs ffprobe")
    command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(export(format_))]
    (stream,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["streams"]
    tags = {name.lower(): value for name, value in stream["tags"].items()}
    assert stream["pix_fmt"].startswith("yuva") or tags["alpha_mode"] == "1"


@pytest.mark.parametrize(("format_", "codec"), [("alpha-prores", None), ("alpha-vp9", "libvpx-vp9")])
def test_times_of_the_video_are_kept(export, tmp_path, format_, codec):
    times = [Fraction(each, 100) for each in (0, 4, 12, 40, 44, 60)]
    with video_writer(tmp_path / "clip.mp4", 25) as encoder:
        for index, time in enumerate(times):
            frame = np.full((40, 66, 3), 40 * index, np.uint8)
            encoder.write(frame, time)
            write_mask(tmp_path / "masks" / f"{index:05d}.png", np.pad(np.ones((9, 9), np.uint8), ((4, 27), (5, 52))))
    out = export(
        format_,
        tmp_path / f"out.{'mov' if codec is None else 'webm'}",
        result=tmp_path / "masks",
        frames=tmp_path / "clip.mp4",
    )
    _, found, _ = decode(out, codec)
    np.testing.assert_allclose(found, [float(each) for each in times], atol=0.001)


def test_video_frames_without_masks_are_left_out(export, tmp_path):
    with video_writer(tmp_path / "clip.mp4", 25) as encoder:
        for index in range(5):
            encoder.write(np.full((40, 66, 3), 50 * index, np.uint8))
    for index in (1, 3):
        write_mask(tmp_path / "masks" / f"{index:05d}.png", np.ones((40, 66), np.uint8))
    folder = export("rgba-png", tmp_path / "rgba", result=tmp_path / "masks", frames=tmp_path / "clip.mp4")
    means = {path.stem: pixels(path)[..., 0].mean() for path in folder.glob("*.png")}
    assert {name: round(mean / 50) for name, mean in means.items()} == {"00001": 1, "00003": 3}
