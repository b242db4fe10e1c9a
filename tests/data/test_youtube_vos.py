"""The layout of YouTube-VOS, MOSE and LVOS."""

import json
from pathlib import PurePath

import pytest

from stm_fast.data.clips import SetSummary
from stm_fast.data.layouts import VIDEO_LAYOUTS, open_videos
from stm_fast.errors import MediaError
from stm_fast.media.notices import MediaNotice

EVERY_FIFTH = ("00000", "00005", "00010", "00015")
META = {
    "videos": {
        "0a": {"objects": {"1": {"category": "cat", "frames": ["00000", "00005"]}, "2": {"frames": ["00005"]}}},
        "0b": {"objects": {"1": {"frames": list(EVERY_FIFTH)}}},
    }
}


@pytest.fixture
def root(tmp_path, image):
    """`valid` with two clips of four frames; in the first one an object appears later."""
    for clip, given in {"0a": ("00000", "00005"), "0b": ("00000",)}.items():
        for name in EVERY_FIFTH:
            image(tmp_path / "valid" / "JPEGImages" / clip / f"{name}.jpg")
        for value, name in enumerate(given, 1):
            image(tmp_path / "valid" / "Annotations" / clip / f"{name}.png", value)
    (tmp_path / "valid" / "meta.json").write_text(json.dumps(META))
    return tmp_path


def read(root, subset=None):
    return open_videos("youtube-vos", root, subset)


def youtube_vos_sets(root):
    return VIDEO_LAYOUTS["youtube-vos"].sets(root)


def test_a_set_by_its_name(root):
    dataset = read(root, "valid")
    assert (dataset.name, dataset.masks_folder, dataset.submission.zip_root, dataset.void) == (
        "YouTube-VOS valid",
        PurePath("Annotations"),
        "Annotations",
        255,
    )
    late, other = dataset
    assert (late.name, other.name) == ("0a", "0b")
    assert list(late.prompts) == ["00000", "00005"]
    assert late.wanted == {"00000", "00005"}
    assert other.wanted == set(EVERY_FIFTH)
    assert [frame.name for frame in late.open()] == list(EVERY_FIFTH)


def test_the_folder_of_a_set(root):
    for subset in (None, "valid"):
        assert [clip.frames for clip in read(root / "valid", subset)] == [
            root / "valid" / "JPEGImages" / clip for clip in ("0a", "0b")
        ]


@pytest.mark.parametrize("parent", ["", "all_frames"])
def test_all_frames_take_masks_and_list_from_the_set_itself(root, image, parent):
    frames = root / parent / "valid_all_frames" / "JPEGImages"
    for clip in ("0a", "0b"):
        for index in range(16):
            image(frames / clip / f"{index:05d}.jpg")
    for dataset in (read(root, "valid_all_frames"), read(frames.parent)):
        clip = dataset.clips[0]
        assert clip.open().count == 16
        assert clip.wanted == {"00000", "00005"}
        assert list(clip.prompts.values()) == [root / "valid/Annotations/0a" / f"{name}.png" for name in clip.prompts]
    assert [each.name for each in youtube_vos_sets(root)] == ["valid", "valid_all_frames"]


@pytest.mark.parametrize(
    "meta",
    [None, {"videos": {}}, {"videos": {clip: {"objects": {"1": {"frame_range": {}}}} for clip in ("0a", "0b")}}],
    ids=["MOSE", "empty", "LVOS"],
)
@pytest.mark.filterwarnings("error")
def test_without_listed_frames_all_are_wanted(root, meta):
    if meta is None:
        (root / "valid" / "meta.json").unlink()
    else:
        (root / "valid" / "meta.json").write_text(json.dumps(meta))
    assert [clip.wanted for clip in read(root, "valid")] == [None, None]


def test_clips_that_are_not_listed_are_told_of(root):
    (root / "valid" / "meta.json").write_text(json.dumps({"videos": {"0a": META["videos"]["0a"]}}))
    with pytest.warns(MediaNotice, match=r"meta.json lists no frames of 0b: masks of all frames are written"):
        dataset = read(root, "valid")
    assert [clip.wanted is None for clip in dataset] == [False, True]


def test_objects_whose_first_mask_is_missing_are_told_of(root):
    (root / "valid/Annotations/0a/00005.png").unlink()
    with pytest.warns(MediaNotice, match=r"lists objects whose first frame has no mask: 0a object 2 in 00005"):
        read(root, "valid")


def test_hidden_folders_are_no_clips(root):
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (root / "valid/Annotations" / name).mkdir()
    assert [clip.name for clip in read(root, "valid")] == ["0a", "0b"]


@pytest.mark.parametrize("text", ["{", "[]", '{"videos": {"0a": {"objects": [1]}}}', '{"videos": {"0a": {}}}'])
def test_a_list_that_cannot_be_read(root, text):
    (root / "valid" / "meta.json").write_text(text)
    with pytest.raises(MediaError, match=r"meta.json lacks the layout of YouTube-VOS.*move it away"):
        read(root, "valid")


def test_all_that_is_missing_is_told_at_once(root):
    for file in (root / "valid/JPEGImages/0a").iterdir():
        file.unlink()
    (root / "valid/Annotations/0b/00000.png").unlink()
    with pytest.raises(MediaError) as caught:
        read(root, "valid")
    told = str(caught.value).splitlines()
    assert f"  clips without frames in {root / 'valid/JPEGImages'}: 0a" in told
    assert f"  clips without masks in {root / 'valid/Annotations'}: 0b" in told
    assert told[3].startswith("put them there, or remove the clips from")
    assert told[-1] == f"  valid.zip: its folder valid goes into {root}"


def test_clips_without_masks_are_left_out_with_a_notice(root, image):
    image(root / "valid/JPEGImages/0c/00000.jpg")
    with pytest.warns(MediaNotice, match=r"1 clips of .*JPEGImages have no masks and were left out: 0c"):
        assert len(read(root, "valid")) == 2


def test_a_list_of_clips(root):
    (root / "valid/ImageSets").mkdir()
    (root / "valid/ImageSets/one.txt").write_text("0b\n")
    assert [clip.name for clip in read(root / "valid", "one")] == ["0b"]
    with pytest.raises(MediaError, match=r"no set is named; the sets of .*valid are\n  one  1 clip"):
        read(root / "valid")
    assert youtube_vos_sets(root / "valid") == [SetSummary("one", 1, 0, has_truth=False)]


def test_sets(root, image):
    for clip in ("0a", "0b", "0c"):
        for name in EVERY_FIFTH:
            image(root / "train/Annotations" / clip / f"{name}.png")
            if clip != "0c":
                image(root / "train/JPEGImages" / clip / f"{name}.jpg")
    assert youtube_vos_sets(root) == [
        SetSummary("train", 3, 1, has_truth=True),
        SetSummary("valid", 2, 0, has_truth=False),
    ]


def test_an_unknown_set(root, tmp_path):
    with pytest.raises(MediaError, match="has no set test with a folder JPEGImages in it: there are valid"):
        read(root, "test")
    with pytest.raises(MediaError, match=r"no set is named; the sets of .* are\n  valid  2 clips"):
        read(root)
    with pytest.raises(MediaError, match="holds neither JPEGImages nor folders of sets"):
        youtube_vos_sets(tmp_path / "valid" / "JPEGImages")
