"""What a dataset lacks is told of all clips at once."""

import warnings
from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

from stm_fast.data.clips import Clip, Dataset
from stm_fast.data.faults import Faults, check_clips, name_some
from stm_fast.errors import MediaError
from stm_fast.media.notices import MediaNotice


@pytest.fixture
def make(tmp_path, image):
    """A clip of three frames with masks of the given names and value."""

    def clip(name, masks=("0",), value=1, wanted=None):
        for index in range(3):
            image(tmp_path / "frames" / name / f"{index}.png")
        files = {mask: image(tmp_path / "masks" / name / f"{mask}.png", value) for mask in masks}
        return Clip(name, tmp_path / "frames" / name, files, files, wanted)

    return clip


def told(*clips, void=None):
    with pytest.raises(MediaError) as caught:
        check_clips(Dataset("set", clips, PurePath("masks")), void)
    first, *lines, remedy = str(caught.value).splitlines()
    assert first == "set cannot be used as it is:"
    assert remedy == "fix these files, or leave the clips out"
    return lines


def test_whole_clips_pass(make):
    check_clips(Dataset("set", (make("a"), make("b", ["0", "2"], wanted=frozenset({"0", "1"}))), PurePath("masks")))


def test_every_fault_of_every_clip_is_told(make, tmp_path):
    stray, listed, blank = make("a", ["0", "7"]), make("b", wanted=frozenset({"0", "9"})), make("c", value=0)
    broken = make("d")
    (tmp_path / "frames/d/0.png").write_bytes(b"no picture")
    wide = make("e")
    Image.fromarray(np.ones((24, 90), np.uint8)).save(wide.prompts["0"])
    lines = told(stray, listed, blank, broken, wide)
    assert lines[:3] == [
        "  clips with masks that have no frame of their name: a (7)",
        f"  clips with frames that are listed but not in {tmp_path / 'frames'}: b (9)",
        "  clips whose masks show no object: c",
    ]
    assert "is not an image" in lines[3]
    assert lines[3].endswith(": d")
    assert "a mask must have the frames' aspect" in lines[4]
    assert len(lines) == 5


def test_white_masks_show_nothing_where_white_is_void(make):
    assert told(make("a", value=255), void=255) == ["  clips whose masks show no object besides void 255: a"]


def test_white_beside_other_ids_is_told_of(make, image, tmp_path):
    clip = make("a")
    labels = np.zeros((24, 32), np.uint8)
    labels[2, 2], labels[9, 9] = 1, 255
    Image.fromarray(labels).save(clip.prompts["0"])
    dataset = Dataset("set", (make("b", value=255), clip), PurePath("masks"))
    with pytest.warns(MediaNotice, match="masks of a have 255 beside other ids, .*void 255 leaves it out"):
        check_clips(dataset)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_clips(Dataset("set", (clip,), PurePath("masks")), 255)


def test_an_object_that_appears_later_is_found(make, image, tmp_path):
    clip = make("a", ["0", "1"], value=0)
    image(clip.prompts["1"], 3)
    check_clips(Dataset("set", (clip,), PurePath("masks")))


def test_faults_are_grouped():
    faults = Faults("set", "mend it")
    faults.check()
    for clip in "abcdefg":
        faults.add(clip, "without a head")
    with pytest.raises(MediaError, match="  clips without a head: a, b, c, d, e and 2 more\nmend it"):
        faults.check()
    assert name_some(["a"]) == "a"
