"""The moving picture of README: what makes it, and the committed one."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stm_fast.data import demo_clip
from stm_fast.media.masks import write_mask
from tools import moving_picture

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Results of a demo: twelve grey frames, each brighter than the last, of which the left half is an object."""
    (tmp_path / "clip" / "frames").mkdir(parents=True)
    mask = np.zeros((16, 32), np.uint8)
    mask[:, :16] = 1
    for index in range(12):
        name = f"{index:05d}.png"
        Image.new("RGB", (32, 16), (60 + 8 * index,) * 3).save(tmp_path / "clip" / "frames" / name)
        write_mask(tmp_path / "masks" / name, mask)
    return tmp_path


def test_masks_fade_in_and_the_first_frame_has_them(demo: Path) -> None:
    out = demo / "out" / "demo.webp"
    assert moving_picture.write(demo, out, quality=90) == out.stat().st_size
    picture = Image.open(out)
    assert picture.n_frames == 12
    contrasts = []
    for index in range(12):
        picture.seek(index)
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        contrasts.append(abs(pixels[:, :12].mean((0, 1)) - pixels[:, 20:].mean((0, 1))).max())
    start = 12 - moving_picture.PLAIN - moving_picture.FADING
    assert min(contrasts[:start]) > 30
    assert max(contrasts[start : start + moving_picture.PLAIN]) < 5


def test_a_picture_that_is_too_large_is_refused(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving_picture, "MAX_BYTES", 10)
    with pytest.raises(SystemExit, match="lower --quality"):
        moving_picture.write(demo, demo / "demo.webp", quality=90)
    assert not (demo / "demo.webp").exists()


def test_the_first_picture_of_the_readme_moves() -> None:
    path = ROOT / re.search(r"!\[.*?\]\((.*?)\)", (ROOT / "README.md").read_text())[1]
    picture = Image.open(path)
    assert (picture.n_frames, picture.size) == (demo_clip.FRAMES, demo_clip.SIZE[::-1])
    assert path.stat().st_size <= moving_picture.MAX_BYTES
