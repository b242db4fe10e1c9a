"""Zips for servers: their listing, and the same bytes whenever they are written."""

import os
import zipfile

import numpy as np
import pytest

from stm_fast.data.clips import Clip
from stm_fast.errors import MediaError
from stm_fast.evaluation.submission import write_zip
from stm_fast.media.masks import write_mask


@pytest.fixture
def clips(tmp_path):
    for name in ("b", "a"):
        for frame in ("00010", "00005"):
            write_mask(tmp_path / "masks" / name / f"{frame}.png", np.eye(8, dtype=np.uint8))
    return [Clip(name, tmp_path, {}, {}) for name in ("b", "a")]


@pytest.mark.parametrize("root", ["", "Annotations"])
def test_listing(clips, tmp_path, root):
    names = write_zip(tmp_path / "x.zip", clips, tmp_path / "masks", root)
    expected = [f"{clip}/{frame}.png" for clip in "ab" for frame in ("00005", "00010")]
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist() == names == [f"{root}/{name}" if root else name for name in expected]
        assert archive.testzip() is None
        original = (tmp_path / "masks" / "a" / "00005.png").read_bytes()
        assert archive.read(names[0]) == original


def test_the_same_masks_give_the_same_bytes(clips, tmp_path):
    write_zip(tmp_path / "x.zip", clips, tmp_path / "masks")
    os.utime(tmp_path / "masks" / "a" / "00005.png", (10**9, 10**9))
    write_zip(tmp_path / "y.zip", reversed(clips), tmp_path / "masks")
    assert (tmp_path / "x.zip").read_bytes() == (tmp_path / "y.zip").read_bytes()


def test_a_clip_without_masks_leaves_no_zip(clips, tmp_path):
    with pytest.raises(MediaError, match="clip c has no masks in"):
        write_zip(tmp_path / "x.zip", [*clips, Clip("c", tmp_path, {}, {})], tmp_path / "masks")
    assert not list(tmp_path.glob("*.zip"))
