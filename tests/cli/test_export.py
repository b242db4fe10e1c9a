"""`stm-fast export`: what is printed and written, from runs of `stm-fast segment`."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from stm_fast.export.formats import FORMATS
from stm_fast.media.masks import read_mask

pytestmark = pytest.mark.usefixtures("colour_model")


@pytest.fixture
def result(stm, clip):
    """A run that kept probabilities."""

    def run(*options):
        return stm(
            "segment",
            clip / "frames",
            "--mask",
            clip / "first.png",
            "--out",
            "out",
            "--dtype",
            "float32",
            "--no-overlay",
            *options,
        )

    assert run("--soft", 16).exit_code == 0
    return run


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_is_written(stm, result, tmp_path, format_):
    if format_ in ("coco", "ytvis"):
        pytest.importorskip("pycocotools")
    ran = stm("export", "out", "--format", format_)
    assert ran.exit_code == 0, ran.output
    target = tmp_path / "out" / "export" / FORMATS[format_].target
    assert f"6 frames, 1 object; {format_} is in {target.relative_to(tmp_path)}" in ran.stdout
    assert target.exists()
    assert re.search(r"Exporting: 6 of 6 frames, .* frames/s", ran.stderr)
    assert "Warning" not in ran.output
    again = stm("export", "out", "--format", format_)
    assert (again.exit_code, "exists: overwrite replaces it" in again.output) == (1, True)
    assert stm("export", "out", "--format", format_, "--overwrite").exit_code == 0


def test_options_reach_the_export(stm, result, tmp_path):
    options = ("--category", "1=red square", "--image-root", "s3://x/", "--object", 1)
    assert stm("export", "out", "-f", "labelstudio", "--out", "tasks.json", *options).exit_code == 0
    first, *_ = json.loads((tmp_path / "tasks.json").read_text())
    assert first["data"]["image"] == "s3://x/0.png"
    assert first["predictions"][0]["result"][0]["value"]["brushlabels"] == ["red square"]
    assert stm("export", "out", "-f", "soft-png", "--bits", 8, "--out", "soft").exit_code == 0
    level = np.array(Image.open(tmp_path / "soft" / "1" / "3.png"))
    assert level.dtype == np.uint8
    np.testing.assert_array_equal(level > 127, read_mask(tmp_path / "out" / "masks" / "3.png") == 1)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--format", "word"), 2, "is not one of coco"),
        ((), 2, "Missing option '--format'"),
        (("--format", "mot", "--category", "1=dog"), 1, "--category is for"),
        (("--format", "coco", "--category", "dog"), 1, "--category must be an id and a name, such as 1=dog, got dog"),
        (("--format", "coco", "--category", "300=dog"), 1, "--category must give ids from 1 to 255 a name"),
        (("--format", "soft-png", "--bits", "12"), 1, "--bits must be 8 or 16, got 12"),
        (("--format", "rgba-png", "--frames", "nowhere"), 2, "nowhere does not exist"),
    ],
)
def test_what_cannot_be_done_is_said(stm, result, options, code, said):
    ran = stm("export", "out", *options)
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", ran.output).split())
    assert (ran.exit_code, said in words) == (code, True), ran.output


def test_what_is_no_result(stm, tmp_path):
    ran = stm("export", "nowhere", "--format", "coco")
    assert (ran.exit_code, "nowhere does not exist" in ran.output) == (2, True)


def test_interrupted(stm, result, tmp_path, monkeypatch):
    from stm_fast.export import mot

    def box(mask):
        raise KeyboardInterrupt

    monkeypatch.setattr(mot, "box_of", box)
    ran = stm("export", "out", "--format", "mot")
    assert (ran.exit_code, "nothing was written" in ran.output) == (130, True)
    assert not list((tmp_path / "out" / "export").iterdir())


def test_bits_of_a_run(stm, result, clip, tmp_path):
    soft = tmp_path / "out" / "soft" / "1"
    assert sorted(path.name for path in soft.iterdir()) == [f"{index}.png" for index in range(6)]
    assert np.array(Image.open(soft / "0.png")).dtype == np.uint16
    ran = result("--soft", 12, "--overwrite")
    assert (ran.exit_code, "--soft must be 8 or 16 bits" in ran.output) == (1, True)
    ran = result("--resume")
    assert (ran.exit_code, "was made with soft 16, not None" in ran.output) == (1, True)
    assert result("--overwrite").exit_code == 0
    assert not (tmp_path / "out" / "soft").exists()
