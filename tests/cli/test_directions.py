"""`stm-fast segment` from any frame, in any direction, over some of the frames, and with corrections."""

import json

import numpy as np
import pytest

from stm_fast.media.masks import read_mask, write_mask

pytestmark = pytest.mark.usefixtures("colour_model")


@pytest.fixture
def segment(stm, clip):
    """Run `stm-fast segment` on the clip; masks of its frames are those of the fixture `clip`."""

    def run(*options, mask=clip / "masks" / "3.png", out="out"):
        return stm("segment", clip / "frames", "--mask", mask, "--out", out, "--dtype", "float32", *options)

    return run


@pytest.fixture
def fixes(clip, tmp_path):
    """A folder with a correction of frame 3, in which a black block is an object."""
    fixed = read_mask(clip / "masks" / "3.png")
    fixed[16:, :16] = 2
    write_mask(tmp_path / "fixes" / "3.png", fixed)
    return tmp_path / "fixes"


def masks(out):
    return {path.stem: read_mask(path) for path in sorted((out / "masks").iterdir())}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--from-frame", 3), "345"),
        (("--from-frame", 3, "--direction", "backward"), "0123"),
        (("--from-frame", 3, "--direction", "both"), "012345"),
        (("--from-frame", 3, "--direction", "both", "--frames", "1:6:2"), "135"),
        (("--frames", "3:5"), "34"),
    ],
)
def test_frames_that_are_tracked_have_their_masks(segment, clip, tmp_path, options, names):
    result = segment(*options)
    assert result.exit_code == 0, result.output
    assert f"{len(names)} frames, 1 object" in result.output
    found = masks(tmp_path / "out")
    assert "".join(found) == names
    for name, mask in found.items():
        np.testing.assert_array_equal(mask, read_mask(clip / "masks" / f"{name}.png"))
    assert (tmp_path / "out" / "overlay.mp4").exists()
    assert (tmp_path / "out" / "contact_sheet.png").exists()


def test_a_folder_of_masks_says_where_to_begin(segment, clip, tmp_path):
    for name in "2":
        write_mask(tmp_path / "given" / f"{name}.png", read_mask(clip / "masks" / f"{name}.png"))
    result = segment("--direction", "both", mask=tmp_path / "given")
    assert result.exit_code == 0, result.output
    assert all(mask.any() for mask in masks(tmp_path / "out").values())


def test_corrections_continue_finished_results(segment, clip, fixes, tmp_path):
    assert segment(mask=clip / "first.png").exit_code == 0
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "masks").iterdir()}
    result = segment("--corrections", fixes, mask=clip / "first.png")
    assert result.exit_code == 0, result.output
    assert "6 frames, 2 objects" in result.output
    unchanged = [path.stem for path, time in sorted(written.items()) if path.stat().st_mtime_ns == time]
    assert unchanged == ["0", "1", "2"]
    np.testing.assert_array_equal(masks(tmp_path / "out")["3"], read_mask(fixes / "3.png"))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["resumed_frames"], summary["objects"], summary["complete"]) == (3, [1, 2], True)
    assert (tmp_path / "out" / "log.txt").read_text().count("Segmenting: 6 of 6 frames") == 2
    again = segment("--corrections", fixes, mask=clip / "first.png")
    assert "all segmented before" in again.output
    without = segment("--resume", mask=clip / "first.png")
    assert (without.exit_code, "was made with corrections, such as that of frame 3" in without.output) == (1, True)
    fresh = segment("--overwrite", "--corrections", fixes, mask=clip / "first.png")
    assert (fresh.exit_code, "all segmented before" in fresh.output) == (0, False)


def test_states_are_kept_on_request(segment, clip, tmp_path):
    assert segment("--keep-states", 2, "--checkpoint-every", 1e-9, mask=clip / "first.png").exit_code == 0
    assert 1 <= len(list((tmp_path / "out" / ".checkpoint").iterdir())) <= 2
    assert segment("--overwrite", mask=clip / "first.png").exit_code == 0
    assert not (tmp_path / "out" / ".checkpoint").exists()


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--from-frame", "9"), 1, "--from-frame must name frames of"),
        (("--from-frame", "cat"), 1, "such as 0, or their numbers from 0 of 6, got cat"),
        (("--direction", "up"), 2, "Invalid value for '--direction'"),
        (("--direction", "backward"), 1, "--from-frame must be given to track backward from one mask: its frame"),
        (("--direction", "both"), 1, "--from-frame must be given to track in both directions from one mask"),
        (("--frames", "2"), 1, "--frames must be A:B or A:B:S with S from 1, such as 100:200:2, got 2"),
        (("--frames", "4:99"), 1, "--frames must name frames of"),
        (("--frames", "4:2"), 1, "--frames must be A:B with A before B, got 4:2"),
        (("--frames", "::2", "--from-frame", "3", "--frames", "0::2"), 1, "must be one of the frames 0::2, got 3"),
        (("--corrections", "nowhere"), 2, "corrections nowhere does not exist"),
        (("--corrections", "empty"), 2, "empty holds no image"),
        (("--corrections", "fixes", "--frames", "0:2"), 2, "all corrections belong to frames that are not tracked"),
        (("--corrections", "strange"), 2, "is not named like a frame: frames are called 0 and so on, 6 in all"),
        (("--corrections", "small"), 2, "must have the frames' aspect"),
        (
            ("--corrections", "void"),
            2,
            "shows object 255, but corrections are of objects 1 to 254",
        ),
        (("--keep-states", "-1"), 2, "--keep-states"),
    ],
)
def test_what_cannot_be_used(segment, fixes, tmp_path, options, code, sentence):
    (tmp_path / "empty").mkdir()
    write_mask(tmp_path / "strange" / "3.png", np.ones((32, 64), np.uint8))
    write_mask(tmp_path / "strange" / "77.png", np.ones((32, 64), np.uint8))
    write_mask(tmp_path / "small" / "3.png", np.ones((8, 8), np.uint8))
    write_mask(tmp_path / "void" / "3.png", np.diag([7, 255] * 16).repeat(2, 1))
    result = segment(*options)
    assert (result.exit_code, sentence in " ".join(result.output.split())) == (code, True), result.output
    assert not (tmp_path / "out").exists()
