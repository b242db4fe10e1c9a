"""`stm-fast evaluate`: scores, sets without truth, void, and what it says of a dataset that it cannot use."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from stm_fast.data.layouts import VIDEO_LAYOUTS
from stm_fast.media.masks import object_ids, read_mask, write_mask

SIZE = (32, 64)
FIFTHS = [f"{index:05d}" for index in (0, 5, 10, 15)]


def scene(index, objects=(1, 2), void=None):
    """A red square that moves right over black, with a green one below; and their mask."""
    mask = np.zeros(SIZE, np.uint8)
    for row, each in enumerate((1, 2)):
        if each in objects:
            mask[16 * row : 16 * row + 16, 16 * (index % 4) : 16 * (index % 4) + 16] = each
    picture = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)[mask]
    if void:
        mask[:, 60:] = np.where(mask[:, 60:] == 0, void, mask[:, 60:])
    return picture, mask


def save_clip(frames, masks, names, given, **options):
    """Write frames of a scene, and the masks that are given: objects by frame name."""
    frames.mkdir(parents=True)
    for index, name in enumerate(names):
        Image.fromarray(scene(index)[0]).save(frames / f"{name}.png")
        if name in given:
            write_mask(masks / f"{name}.png", scene(index, given[name], **options)[1])


@pytest.fixture
def davis(tmp_path):
    """DAVIS with `val`, which has truth, and `test-dev`, which has first masks alone."""
    root = tmp_path / "davis"
    names = [f"{index:05d}" for index in range(4)]
    for clip, given in {"aa": names, "bb": names[:1], "cc": names[:1]}.items():
        folders = (root / kind / "480p" / clip for kind in ("JPEGImages", "Annotations"))
        save_clip(*folders, names, dict.fromkeys(given, (1, 2)))
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("aa\nbb\n")
    (lists / "test-dev.txt").write_text("bb\ncc\n")
    return root


@pytest.fixture
def youtube_vos(tmp_path):
    """`valid` with a clip whose second object appears later; the last frame is not listed."""
    root = tmp_path / "yv"
    given = {FIFTHS[0]: (1,), FIFTHS[1]: (2,)}
    save_clip(root / "valid" / "JPEGImages" / "0a", root / "valid" / "Annotations" / "0a", FIFTHS, given)
    objects = {"1": {"category": "square", "frames": FIFTHS[:3]}, "2": {"category": "square", "frames": FIFTHS[1:3]}}
    (root / "valid" / "meta.json").write_text(json.dumps({"videos": {"0a": {"objects": objects}}}))
    return root


@pytest.fixture
def run(stm, colour_model):
    return lambda *options: stm("evaluate", *options, "--out", "out", "--dtype", "float32")


@pytest.fixture
def benchmark():
    pytest.importorskip("vos_benchmark")


@pytest.fixture
def no_benchmark(monkeypatch):
    monkeypatch.setitem(sys.modules, "vos_benchmark.evaluator", None)


def said(result):
    """What a command said, in one line."""
    return " ".join(result.output.split())


@pytest.fixture
def evaluate(stm, clip, colour_model):
    pytest.importorskip("vos_benchmark")
    return lambda *options: stm("evaluate", clip, "--dataset", "folder", "--out", "out", "--dtype", "float32", *options)


def test_scores_a_folder(evaluate, clip, tmp_path):
    result = evaluate()
    assert result.exit_code == 0, result.output
    assert "1.000" in result.output
    for path in (clip / "masks").iterdir():
        np.testing.assert_array_equal(read_mask(tmp_path / "out" / "masks" / "clip" / path.name), read_mask(path))
    (row,) = csv.DictReader((tmp_path / "out" / "scores.csv").open())
    assert (row["clip"], row["J"], row["F"]) == ("clip", "1.0000", "1.0000")
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["mean"]["jf"] == 1.0


def test_resumes_after_the_clips_that_are_done(evaluate, tmp_path):
    assert evaluate().exit_code == 0
    mask = tmp_path / "out" / "masks" / "clip" / "3.png"
    Image.fromarray(np.zeros((32, 64), np.uint8)).save(mask)
    assert "resume" in evaluate().output
    assert evaluate("--resume").exit_code == 0
    assert not read_mask(mask).any()
    assert evaluate("--overwrite").exit_code == 0
    assert read_mask(mask).any()


def test_a_clip_whose_record_is_damaged_is_segmented_again(evaluate, tmp_path):
    assert evaluate().exit_code == 0
    record = tmp_path / "out" / "runs" / "clip.json"
    whole = json.loads(record.read_text())
    for text in ('{"clip":', json.dumps(whole | {"seconds": "many"})):
        record.write_text(text)
        assert evaluate("--resume").exit_code == 0
        assert json.loads(record.read_text())["frames"] == 6


def test_never_writes_into_the_dataset(stm, clip, colour_model):
    pytest.importorskip("vos_benchmark")
    result = stm("evaluate", clip, "--dataset", "folder", "--out", clip)
    assert result.exit_code == 1
    assert "is the dataset itself" in result.output
    for folder in ("frames", "masks", "frames/new"):
        result = stm("evaluate", clip, "--dataset", "folder", "--out", clip / folder)
        assert result.exit_code == 1
        assert "is a part of the dataset" in result.output
    (clip / "file").write_text("notes")
    result = stm("evaluate", clip, "--dataset", "folder", "--out", clip / "file")
    assert result.exit_code == 1
    assert "file is a file: choose a folder for the results" in " ".join(result.output.split())


@pytest.mark.usefixtures("no_benchmark")
def test_a_set_without_truth_is_segmented_and_not_scored(run, davis, tmp_path):
    result = run(davis, "--dataset", "davis2017", "--set", "test-dev")
    assert result.exit_code == 0, result.output
    assert "DAVIS 2017 test-dev has nothing to score (only masks of first appearances in bb, cc)" in said(result)
    assert "there is nothing to score; masks are in out/Annotations/480p" in said(result)
    assert "send the folders of clips in out/Annotations/480p, zipped without a folder around them" in said(result)
    assert "J&F" not in result.output
    for clip in ("bb", "cc"):
        masks = sorted((tmp_path / "out" / "Annotations" / "480p" / clip).iterdir())
        assert [path.name for path in masks] == [f"{index:05d}.png" for index in range(4)]
        for index, path in enumerate(masks):
            np.testing.assert_array_equal(read_mask(path), scene(index)[1])
    assert not list((tmp_path / "out").glob("scores.*"))


@pytest.mark.usefixtures("no_benchmark")
def test_a_set_without_truth_is_resumed(run, davis, tmp_path):
    options = (davis, "--dataset", "davis2017", "--set", "test-dev")
    assert run(*options).exit_code == 0
    first, second = (tmp_path / "out/Annotations/480p" / clip / "00003.png" for clip in ("bb", "cc"))
    for path in (first, second):
        write_mask(path, np.zeros(SIZE, np.uint8))
    (tmp_path / "out" / "runs" / "cc.json").unlink()
    assert "resume" in said(run(*options))
    result = run(*options, "--resume")
    assert result.exit_code == 0, result.output
    assert "there is nothing to score" in said(result)
    assert object_ids(read_mask(first)) == ()
    assert object_ids(read_mask(second)) == (1, 2)


@pytest.mark.usefixtures("benchmark")
def test_clips_with_too_little_truth_are_told_of_beside_those_that_are_scored(run, davis, tmp_path):
    result = run(davis, "--dataset", "davis2017", "--set", "val")
    assert result.exit_code == 0, result.output
    assert "1 of 2 clips were segmented but not scored: only masks of first appearances in bb" in said(result)
    report = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert report["mean"]["jf"] == report["clips"]["aa"]["mean"]["jf"] == 1.0
    assert report["clips"]["bb"]["unscored"] == "only masks of first appearances"
    assert (tmp_path / "out/Annotations/480p/bb/00003.png").exists()


@pytest.mark.usefixtures("benchmark")
def test_a_clip_whose_scored_masks_are_blank_is_told_of(run, tmp_path):
    names = [f"{index:05d}" for index in range(3)]
    for name, second in (("gone", ()), ("there", (1,))):
        given = dict(zip(names, [(1,), second, (1,)], strict=True))
        save_clip(tmp_path / "set" / "frames" / name, tmp_path / "set" / "masks" / name, names, given)
    result = run("set", "--dataset", "folder")
    assert result.exit_code == 0, result.output
    assert "1 of 2 clips were segmented but not scored: no object in the masks that are scored in gone" in said(result)
    result = run("set", "--dataset", "folder", "--set", "gone", "--overwrite")
    assert result.exit_code == 0, result.output
    assert "there is nothing to score" in said(result)
    assert not (tmp_path / "out" / "scores.json").exists()


@pytest.mark.usefixtures("no_benchmark")
def test_scoring_needs_vos_benchmark_before_hours_of_work(run, davis, tmp_path):
    result = run(davis, "--dataset", "davis2017", "--set", "val")
    assert result.exit_code == 1
    assert "scoring needs vos-benchmark: pip install 'stm-fast[eval]'" in said(result)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_benchmark")
@pytest.mark.parametrize("options", [("--set", "valid"), ()], ids=["set", "folder"])
def test_youtube_vos_has_masks_of_the_listed_frames(run, youtube_vos, tmp_path, options):
    root = youtube_vos if options else youtube_vos / "valid"
    result = run(root, "--dataset", "youtube-vos", *options)
    assert result.exit_code == 0, result.output
    assert "send the folder out/Annotations as it is, zipped" in said(result)
    masks = sorted((tmp_path / "out" / "Annotations" / "0a").iterdir())
    assert [path.stem for path in masks] == FIFTHS[:3]
    assert [object_ids(read_mask(path)) for path in masks] == [(1,), (1, 2), (1, 2)]
    assert json.loads((tmp_path / "out" / "runs" / "0a.json").read_text())["frames"] == 4


@pytest.mark.usefixtures("no_benchmark")
@pytest.mark.parametrize(("layout", "sent"), [("mose", "the folders of clips in"), ("lvos", "the folder out/Annot")])
def test_layouts_without_a_list_of_frames(run, youtube_vos, tmp_path, layout, sent):
    (youtube_vos / "valid" / "meta.json").unlink()
    result = run(youtube_vos, "--dataset", layout, "--set", "valid")
    assert result.exit_code == 0, result.output
    assert f"{layout.upper()} valid has nothing to score" in said(result)
    assert f"send {sent}" in said(result)
    assert len(list((tmp_path / "out" / "Annotations" / "0a").iterdir())) == 4


@pytest.mark.usefixtures("benchmark")
def test_void_is_neither_followed_nor_scored(run, tmp_path):
    names = [f"{index:05d}" for index in range(4)]
    for name, void in (("void", 255), ("plain", None)):
        given = dict.fromkeys(names, (1, 2))
        save_clip(tmp_path / name / "frames", tmp_path / name / "masks", names, given, void=void)
    scores, told = {}, {}
    for name, options in (("plain", ()), ("void", ("--void", "none")), ("void", ())):
        result = run(name, "--dataset", "folder", "--overwrite", *options)
        assert result.exit_code == 0, result.output
        told[name, options] = said(result)
        scores[name, options] = json.loads((tmp_path / "out" / "scores.json").read_text())
    objects = {key: list(found["clips"][key[0]]["objects"]) for key, found in scores.items()}
    assert objects == {
        ("plain", ()): ["1", "2"],
        ("void", ()): ["1", "2"],
        ("void", ("--void", "none")): ["1", "2", "255"],
    }
    assert "id 255 is scored as an object in void" in told["void", ("--void", "none")]
    assert "is scored as an object" not in told["void", ()]
    assert scores["void", ()]["mean"] == scores["plain", ()]["mean"]
    assert scores["void", ("--void", "none")]["mean"]["jf"] < scores["plain", ()]["mean"]["jf"]
    for path in (tmp_path / "out" / "masks" / "void").iterdir():
        assert object_ids(read_mask(path)) == (1, 2)


def test_a_memory_limit_that_is_too_small_is_called_by_its_option(run, davis):
    result = run(davis, "--dataset", "davis2017", "--set", "test-dev", "--memory-limit", "200 B")
    assert result.exit_code == 1
    assert "--memory-limit must be at least" in result.output


def test_void_is_part_of_what_made_the_results(run, davis):
    options = (davis, "--dataset", "davis2017", "--set", "test-dev")
    assert run(*options).exit_code == 0
    assert "was made with void 255, not None" in said(run(*options, "--resume", "--void", "none"))


@pytest.mark.parametrize("void", ["0", "256", "white", ""])
def test_a_void_that_is_no_id(run, davis, void):
    result = run(davis, "--dataset", "davis2017", "--set", "val", "--void", void)
    assert result.exit_code == 2
    assert "is neither an id from 1 to 255 nor none" in said(result)


def test_starting_again_leaves_nothing_of_an_earlier_set(run, davis, tmp_path):
    pytest.importorskip("vos_benchmark")
    assert run(davis, "--dataset", "davis2017", "--set", "val").exit_code == 0
    assert run(davis, "--dataset", "davis2017", "--set", "test-dev", "--overwrite").exit_code == 0
    assert {path.name for path in (tmp_path / "out" / "Annotations" / "480p").iterdir()} == {"bb", "cc"}
    assert {path.name for path in (tmp_path / "out" / "runs").iterdir()} == {"bb.json", "cc.json"}
    assert not list((tmp_path / "out").glob("scores.*"))


def test_sets_are_listed(run, davis, youtube_vos):
    result = run(davis, "--dataset", "davis2017")
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        f"Error: no set is named; the sets of {davis} are",
        "  test-dev  2 clips; only masks of first appearances, nothing to score",
        "  val       2 clips; masks to score against",
    ]
    result = run(youtube_vos, "--dataset", "youtube-vos")
    assert result.exit_code == 2
    assert "valid 1 clip; only masks of first appearances" in said(result)


def test_sets_that_are_not_there_are_listed_as_such(run, davis):
    lists = davis / "ImageSets" / "2017"
    (lists / "train.txt").write_text("aa\nbb\nxx\n")
    (lists / "test-challenge.txt").write_text("yy\n")
    listed = said(run(davis, "--dataset", "davis2017"))
    assert "train 3 clips, 1 of them missing; masks to score against" in listed
    assert "test-challenge 1 clip, all missing" in listed


def test_an_unknown_set(run, davis):
    result = run(davis, "--dataset", "davis2017", "--set", "nonsense")
    assert result.exit_code == 2
    assert "sets of" in said(result)
    assert "are test-dev, val" in said(result)


def test_another_layout_is_named(run, davis, youtube_vos, clip):
    told = {root: said(run(root)) for root in (davis, youtube_vos, youtube_vos / "valid", clip, clip / "nowhere")}
    assert "it looks like davis2017" in told[davis]
    assert (
        "it looks like youtube-vos2018 or youtube-vos2019 or youtube-vos or mose or lvos or long-video"
        in told[youtube_vos]
    )
    assert (
        "it looks like youtube-vos2018 or youtube-vos2019 or youtube-vos or mose or lvos or long-video"
        in told[youtube_vos / "valid"]
    )
    assert "it looks like folder" in told[clip]
    assert "is not a folder" in told[clip / "nowhere"]


@pytest.mark.parametrize("layout", VIDEO_LAYOUTS)
def test_an_empty_folder_is_none_of_the_layouts(run, tmp_path, layout):
    (tmp_path / "empty").mkdir()
    result = run("empty", "--dataset", layout)
    assert result.exit_code == 2
    assert "empty" in result.output


def test_faults_of_all_clips_are_told_before_any_is_segmented(run, davis, tmp_path):
    (davis / "JPEGImages/480p/bb/00000.png").write_bytes(b"no picture")
    write_mask(davis / "Annotations/480p/cc/00009.png", scene(0)[1])
    result = run(davis, "--dataset", "davis2017", "--set", "test-dev")
    assert result.exit_code == 2
    assert "is not an image, or cannot be read" in said(result)
    assert "clips with masks that have no frame of their name: cc (00009)" in said(result)
    assert not (tmp_path / "out").exists()
