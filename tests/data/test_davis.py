"""DAVIS layouts."""

import os
from pathlib import Path, PurePath

import pytest

from stm_fast.data.clips import SetSummary
from stm_fast.data.layouts import VIDEO_LAYOUTS, open_videos
from stm_fast.errors import MediaError


def davis(root, subset, year):
    return open_videos(f"davis{year}", root, subset)


def davis_sets(root, year):
    return VIDEO_LAYOUTS[f"davis{year}"].sets(root)


@pytest.fixture
def root(tmp_path, image):
    for clip in ("bear", "camel"):
        for index in range(3):
            image(tmp_path / "JPEGImages" / "480p" / clip / f"{index:05d}.jpg")
            image(tmp_path / "Annotations" / "480p" / clip / f"{index:05d}.png")
    for year in ("2016", "2017"):
        (tmp_path / "ImageSets" / year).mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("camel\nbear\n\n")
    lines = [f"/JPEGImages/480p/bear/{i:05d}.jpg /Annotations/480p/bear/{i:05d}.png" for i in range(3)]
    (tmp_path / "ImageSets" / "2016" / "val.txt").write_text("\n".join(lines))
    return tmp_path


def test_clips_of_2017(root):
    dataset = davis(root, "val", 2017)
    assert [clip.name for clip in dataset] == ["camel", "bear"]
    assert dataset.masks_folder == PurePath("Annotations/480p")
    clip = dataset.clips[0]
    assert list(clip.truth) == ["00000", "00001", "00002"]
    assert dict(clip.prompts) == {"00000": root / "Annotations/480p/camel/00000.png"}
    assert [frame.name for frame in clip.open()] == list(clip.truth)


def test_lists_of_2016_name_every_frame(root):
    assert [clip.name for clip in davis(root, "val", 2016)] == ["bear"]


def test_lists_of_the_first_release(root):
    (root / "ImageSets" / "2016").rename(root / "ImageSets" / "480p")
    assert [clip.name for clip in davis(root, "val", 2016)] == ["bear"]
    assert [each.name for each in davis_sets(root, 2016)] == ["val"]


def test_unknown_set(root):
    with pytest.raises(MediaError, match=r"test.txt does not exist: sets of .* are val"):
        davis(root, "test", 2017)


def test_all_that_is_missing_is_told_at_once(root):
    (root / "ImageSets" / "2017" / "val.txt").write_text("dog\nbear\ncamel\nfox")
    (root / "Annotations/480p/bear/00000.png").unlink()
    with pytest.raises(MediaError) as caught:
        davis(root, "val", 2017)
    first, *lines, remedy, page, download = str(caught.value).splitlines()
    assert first == f"DAVIS 2017 val of {root} cannot be used as it is:"
    assert lines == [
        f"  clips without a folder in {root / 'JPEGImages/480p'}: dog, fox",
        f"  clips without a mask of the first frame in {root / 'Annotations/480p'}: bear",
    ]
    assert "list the complete clips in a file in" in remedy
    assert page == "DAVIS 2017 is at https://davischallenge.org/davis2017/code.html; download"
    assert download == f"  DAVIS-2017-trainval-480p.zip: its folder DAVIS is {root}"


def test_clips_of_a_set_without_truth(root):
    for clip in ("bear", "camel"):
        for index in (1, 2):
            (root / "Annotations/480p" / clip / f"{index:05d}.png").unlink()
    (root / "ImageSets/2017/test-dev.txt").write_text("bear\ncamel\n")
    dataset = davis(root, "test-dev", 2017)
    assert [list(clip.truth) for clip in dataset] == [["00000"], ["00000"]]
    assert "zipped without a folder around them" in dataset.submission.text


def test_sets(root):
    (root / "ImageSets/2017/test-dev.txt").write_text("fox")
    assert davis_sets(root, 2017) == [
        SetSummary("test-dev", clips=1, missing=1, has_truth=False),
        SetSummary("val", clips=2, missing=0, has_truth=True),
    ]
    with pytest.raises(MediaError, match="holds no list of clips"):
        davis_sets(root / "JPEGImages", 2017)


@pytest.mark.skipif("STM_FAST_DATA" not in os.environ, reason="STM_FAST_DATA is not set")
def test_clips_of_the_real_thing():
    root = Path(os.environ["STM_FAST_DATA"]) / "davis2016"
    dataset = davis(root, "dev", 2016)
    assert len(dataset) == len((root / "ImageSets" / "2016" / "dev.txt").read_text().split())
    assert all(len(clip.truth) == clip.open().count for clip in dataset)
