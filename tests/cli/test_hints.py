"""`stm-fast segment` with boxes and points in place of a mask, or beside one."""

import json

import numpy as np
import pytest
from PIL import Image

import stm_fast
from stm_fast.errors import MediaError
from stm_fast.prompters import Hints, label_map, make_prompter

pytest.importorskip("cv2")
FRAME = ("segment", "clip/frames", "--out", "out", "--dtype", "float32")


@pytest.fixture(autouse=True)
def _clip(clip, colour_model):
    """A red square of 16 pixels at the top left of a black frame, 64×32."""


def first_mask(folder):
    return np.array(Image.open(folder / "out" / "masks" / "0.png"))


@pytest.mark.parametrize("hints", [["--box", "3:0,0,20,20"], ["--point", "3:7,7,+", "--point", "3:40,8,-"]])
def test_hints_take_the_place_of_a_mask(stm, tmp_path, hints):
    result = stm(*FRAME, *hints)
    assert result.exit_code == 0, result.output
    assert "found from boxes and points" in " ".join(result.output.split())
    assert "3 with 12.5%" in result.output
    wanted = np.zeros((32, 64), np.uint8)
    wanted[:16, :16] = 3
    np.testing.assert_array_equal(first_mask(tmp_path), wanted)
    settings = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]
    assert settings["box"] + settings["point"] == hints[1::2]
    assert (settings["mask"], settings["prompter"]) == (None, "grabcut")


def test_a_box_stands_beside_a_mask(stm, tmp_path):
    result = stm(*FRAME, "--mask", "clip/first.png", "--box", "2:40,10,50,20")
    assert result.exit_code == 0, result.output
    mask = first_mask(tmp_path)
    assert (mask[:16, :16] == 1).all()
    assert set(np.unique(mask)) == {0, 1, 2}


def test_a_resumed_run_needs_the_same_hints(stm):
    assert stm(*FRAME, "--box", "1:0,0,20,20").exit_code == 0
    again = stm(*FRAME, "--box", "1:0,0,20,20", "--resume")
    assert again.exit_code == 0, again.output
    other = stm(*FRAME, "--box", "1:0,0,24,24", "--resume")
    assert other.exit_code == 1
    assert "was made with box" in " ".join(other.output.split())


@pytest.mark.parametrize(
    ("hints", "code", "problem"),
    [
        ([], 2, "a mask is needed, or --box or --point"),
        (["--box", "1:0,0,65,20"], 1, "--box must be in the frame, which is 64×32"),
        (["--box", "0,0,20,20"], 1, "--box must be ID:X0,Y0,X1,Y1, got 0,0,20,20"),
        (["--point", "1:5,5"], 1, "--point must be ID:X,Y,+ or ID:X,Y,-, got 1:5,5"),
        (["--point", "1:5,5,-"], 1, "--point must have a box or a foreground point"),
        (["--point", "300:5,5,+"], 1, "--point must have an id from 1 to 255"),
        (["--box", "1:0,0,20,20", "--prompter", "none"], 1, "--prompter must be one of grabcut, sam2"),
    ],
)
def test_hints_that_cannot_be_used_are_sentences(stm, tmp_path, hints, code, problem):
    result = stm(*FRAME, *hints)
    assert result.exit_code == code
    assert problem in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_read_once_is_refused():
    frames = iter([np.zeros((32, 64, 3), np.uint8)] * 2)
    with pytest.raises(MediaError, match="read only once"):
        stm_fast.track(frames, hints={1: Hints(boxes=((0, 0, 20, 20),))}, dtype="float32")


def test_python_takes_hints(clip):
    frames = stm_fast.track(clip / "frames", hints={5: Hints(boxes=((0, 0, 20, 20),))}, dtype="float32")
    first = next(frames)
    assert first.objects == (5,)
    assert (first.mask[:16, :16] == 5).all()
    assert (first.mask > 0).sum() == 256


@pytest.mark.parametrize(
    ("route", "number", "names"),
    [
        (("--from-frame", "2"), 2, "2345"),
        (("--from-frame", "2", "--direction", "backward"), 2, "012"),
        (("--from-frame", "2", "--direction", "both"), 2, "012345"),
        (("--frames", "1:3"), 1, "12"),
    ],
)
def test_hints_are_of_the_frame_at_which_tracking_begins(stm, clip, tmp_path, route, number, names):
    box = (16 * number - 4 if number else 0, 0, 16 * number + 20, 20)
    result = stm(*FRAME, "--box", "3:" + ",".join(map(str, box)), *route)
    assert result.exit_code == 0, result.output
    written = sorted((tmp_path / "out" / "masks").glob("*.png"))
    assert "".join(path.stem for path in written) == names
    image = np.array(Image.open(clip / "frames" / f"{number}.png").convert("RGB"))
    wanted = label_map(make_prompter("grabcut"), image, {3: Hints(boxes=(box,))})
    assert (wanted == 3).sum() == 256
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / "masks" / f"{number}.png")), wanted)


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_hints_need_a_frame_to_go_backward_from(stm, direction):
    result = stm(*FRAME, "--box", "1:0,0,20,20", "--direction", direction)
    assert result.exit_code == 1
    assert "boxes and points: their frame" in " ".join(result.output.split())
