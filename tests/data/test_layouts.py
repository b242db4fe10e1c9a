"""Every layout opens its miniature: sets, masks, void, categories, and what is missing."""

import warnings

import numpy as np
import pytest

from stm_fast.data.faults import check_clips
from stm_fast.data.layouts import VIDEO_LAYOUTS, open_videos
from stm_fast.data.truth import unscored_because
from stm_fast.errors import ArgumentError, MediaError
from stm_fast.media.notices import MediaNotice
from stm_fast.tracking.prompts import PromptReader
from tests.data.miniatures import COLOURS, HEIGHT, MAKERS, WIDTH

pytestmark = pytest.mark.filterwarnings("ignore::stm_fast.media.notices.MediaNotice")

SETS = {
    "davis2016": {"train": True, "trainval": True, "val": True},
    "davis2017": {"test-dev": False, "train": True, "trainval": True, "val": True},
    "youtube-vos2018": {"test": False, "train": True, "valid": False, "valid_all_frames": False},
    "mose": {"train": True, "valid": False},
    "lvos": {"test": False, "train": True, "val": True},
    "long-video": {None: True},
    "burst": {"train": True, "val": True},
    "vost": {"test": False, "train": True, "val": True},
    "sa-v": {"sav_test": True, "sav_val": True},
    "folder": {None: True},
}
"""The sets of each miniature, and whether they have truth."""
SETS["youtube-vos2019"] = SETS["youtube-vos"] = SETS["youtube-vos2018"]
CASES = [(layout, subset) for layout, sets in SETS.items() for subset in sets]


def test_every_layout_has_a_miniature():
    assert MAKERS.keys() == VIDEO_LAYOUTS.keys() == SETS.keys()


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """Return the miniature of a layout, which is made once."""
    made = {}

    def of(layout):
        if layout not in made:
            made[layout] = MAKERS[layout](tmp_path_factory.mktemp(layout))
        return made[layout]

    return of


@pytest.mark.parametrize(("layout", "subset"), CASES)
def test_sets_open_and_say_whether_they_can_be_scored(miniature, layout, subset):
    dataset = open_videos(layout, miniature(layout), subset)
    assert 2 <= len(dataset) <= 4
    assert VIDEO_LAYOUTS[layout].title in dataset.name or layout == "folder"
    check_clips(dataset, dataset.void)
    scored = [unscored_because(clip, dataset.void) is None for clip in dataset]
    assert scored == [SETS[layout][subset]] * len(dataset)


@pytest.mark.parametrize(("layout", "subset"), CASES)
def test_frames_and_masks_are_read_at_random(miniature, layout, subset):
    dataset = open_videos(layout, miniature(layout), subset)
    for clip in dataset:
        names = clip.frame_names()
        assert [frame.name for frame in clip.open()] == names
        assert set(clip.truth) <= set(names)
        assert clip.wanted is None or clip.wanted <= set(names)
        for name in list(clip.truth)[::-1]:
            frame, mask = clip.read_frame(name), clip.read_truth(name)
            assert (frame.shape, mask.shape) == ((HEIGHT, WIDTH, 3), (HEIGHT, WIDTH))
            assert mask.dtype == frame.dtype == np.uint8
            assert set(np.unique(mask)) <= {0, 1, 2, 3, dataset.void or 0}
            for object_id in {1, 2} & set(np.unique(mask)) if layout != "davis2016" else ():
                assert np.abs(frame[mask == object_id].astype(int) - COLOURS[object_id]).max() < 8


@pytest.mark.parametrize(("layout", "subset"), CASES)
def test_every_object_is_given_once(miniature, layout, subset):
    for clip in open_videos(layout, miniature(layout), subset):
        frames = clip.open()
        reader = PromptReader(clip.prompts, frames.size, void=clip.void)
        given = [reader.new_objects(frame) for frame in frames]
        assert reader.known >= set(clip.categories or {1})
        assert given[0] is not None


@pytest.mark.parametrize("layout", [layout for layout, sets in SETS.items() if None not in sets])
def test_sets_are_listed_where_none_is_named(miniature, layout):
    root = miniature(layout)
    found = {each.name: each for each in VIDEO_LAYOUTS[layout].sets(root)}
    assert {name: each.has_truth for name, each in found.items()} == SETS[layout]
    assert not any(each.missing for each in found.values())
    with pytest.raises(MediaError) as caught:
        open_videos(layout, root)
    first, *lines = str(caught.value).splitlines()
    assert first == f"no set is named; the sets of {root} are"
    assert [line.split()[0] for line in lines] == list(SETS[layout])


@pytest.mark.parametrize(("layout", "subset"), [case for case in CASES if case[0] != "folder"])
def test_all_that_is_missing_is_told_with_what_to_download(tmp_path, layout, subset):
    root = MAKERS[layout](tmp_path)
    clips = open_videos(layout, root, subset).clips
    for clip in clips:
        for file in clip.frames.iterdir():
            file.unlink()
    with pytest.raises(MediaError) as caught:
        open_videos(layout, root, subset)
    first, *lines = str(caught.value).splitlines()
    assert first.endswith("cannot be used as it is:")
    assert ", ".join(clip.name for clip in clips) in lines[0]
    needed = VIDEO_LAYOUTS[layout].needed(tmp_path, subset)
    assert "\n".join(lines).endswith(needed)
    assert "download\n  " in needed


@pytest.mark.parametrize("layout", VIDEO_LAYOUTS)
def test_a_folder_that_is_not_there(tmp_path, layout):
    with pytest.raises(MediaError, match="is not a folder") as caught:
        open_videos(layout, tmp_path / "nowhere")
    assert VIDEO_LAYOUTS[layout].needed(tmp_path / "nowhere") in str(caught.value)


@pytest.mark.parametrize("layout", VIDEO_LAYOUTS)
def test_an_empty_folder(tmp_path, layout):
    with pytest.raises(MediaError) as caught:
        open_videos(layout, tmp_path)
    assert str(caught.value).endswith(VIDEO_LAYOUTS[layout].needed(tmp_path))


@pytest.mark.parametrize("layout", [layout for layout, sets in SETS.items() if None not in sets])
def test_a_set_that_is_not_there(miniature, layout):
    with pytest.raises(MediaError) as caught:
        open_videos(layout, miniature(layout), "nonsense")
    first, *lines = str(caught.value).splitlines()
    assert all(name in first for name in SETS[layout])
    assert "\n".join(lines) == VIDEO_LAYOUTS[layout].needed(miniature(layout), "nonsense")


@pytest.mark.parametrize("layout", VIDEO_LAYOUTS)
def test_another_layout_is_recognised(miniature, layout):
    families = ({"davis2016"}, {"davis2017"}, {"burst"}, {"sa-v"}, {"folder"})
    family = next((each for each in families if layout in each), VIDEO_LAYOUTS.keys() - set.union(*families))
    family = family - {"vost"} if layout != "vost" else family
    root = miniature(layout)
    assert {each.name for each in VIDEO_LAYOUTS.values() if each.looks_like(root)} == family
    other = "folder" if layout != "folder" else "mose"
    with pytest.raises(MediaError, match=f"does not have the layout {other}, .*it looks like .*{layout}"):
        open_videos(other, root, "val")


def test_files_to_download_are_those_of_the_set():
    def files(layout, subset):
        _, *lines = VIDEO_LAYOUTS[layout].needed("DIR", subset).splitlines()
        return [line.split(":")[0].strip() for line in lines]

    assert files("mose", "valid") == ["valid.tar.gz"]
    assert files("mose", None) == files("mose", "nonsense") == ["train.tar.gz", "valid.tar.gz"]
    assert files("burst", "val") == ["annotations.zip", "2-TAO_VAL.zip, and AVA and HACS"]
    assert len(files("burst", None)) == 4
    assert files("davis2017", "Full-Resolution/val") == ["DAVIS-2017-trainval-Full-Resolution.zip"]
    assert files("davis2016", "val") == ["DAVIS-data.zip"]
    assert VIDEO_LAYOUTS["folder"].needed("DIR", "clip") == ""


def test_an_unknown_layout():
    with pytest.raises(ArgumentError, match=r"layout must be one of davis2016, .*, got 'vot'"):
        open_videos("vot", ".")


def test_nothing_is_assumed_in_silence_or_told_without_need(miniature):
    told = {}
    for layout, subset in CASES:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", MediaNotice)
            open_videos(layout, miniature(layout), subset)
        told[layout, subset] = [str(each.message) for each in caught]
    assert {case for case, messages in told.items() if messages} == {
        ("sa-v", "sav_val"),
        ("sa-v", "sav_test"),
        ("folder", None),
    }
