"""`stm-fast evaluate` and `score` on a miniature of every layout: scores, zips, seen and unseen, views, jobs."""

import json
import pickle
import zipfile

import numpy as np
import pytest

from stm_fast.data.layouts import VIDEO_LAYOUTS, open_videos
from stm_fast.media.masks import object_ids, read_mask, write_mask
from stm_fast.media.run_lengths import decode_runs
from tests.data.miniatures import MAKERS, SECOND, ids, make_youtube_vos, numbers

pytest.importorskip("vos_benchmark")

GOLDEN = {
    ("davis2016", "val"): {("camel", 1): (0.7814, 0.6492), ("dog", 1): (0.7814, 0.6492)},
    ("davis2017", "val"): {
        ("camel", 1): (0.7814, 0.6051),
        ("camel", 2): (0.7814, 0.6532),
        ("dog", 1): (0.7814, 0.6051),
        ("dog", 2): (0.7814, 0.6532),
    },
    ("youtube-vos2019", "train"): {
        ("0a49f5265b", 1): (0.7814, 0.6051),
        ("0a49f5265b", 2): (0.731, 0.5563),
        ("0ae1ff65a5", 1): (0.7814, 0.6051),
        ("0ae1ff65a5", 2): (0.7814, 0.6532),
    },
    ("mose", "train"): {
        ("00c19fc0", 1): (0.7361, 0.5336),
        ("00c19fc0", 2): (0.8706, 0.8289),
        ("0a43a414", 1): (0.7361, 0.5336),
        ("0a43a414", 2): (0.7655, 0.6453),
    },
    ("lvos", "val"): {
        ("058oeZ2p", 1): (0.7361, 0.5336),
        ("058oeZ2p", 2): (0.7361, 0.6071),
        ("0tCWPOrc", 1): (0.7361, 0.5336),
        ("0tCWPOrc", 2): (0.6842, 0.5),
    },
    ("long-video", None): {("blueboy", 1): (0.8301, 0.5783), ("rat", 1): (0.8301, 0.5783)},
    ("burst", "val"): {
        ("YFCC100M-v_25685519b728afd746dfd1b2fe77c", 1): (0.7814, 0.5121),
        ("YFCC100M-v_25685519b728afd746dfd1b2fe77c", 2): (0.7814, 0.6649),
        ("LaSOT-bird-2", 1): (0.8555, 0.7249),
        ("LaSOT-bird-2", 2): (0.8421, 0.7883),
    },
    ("vost", "val"): {
        ("556_cut_tomato", 1): (0.7814, 0.6051),
        ("556_cut_tomato", 2): (0.7814, 0.6532),
        ("3161_peel_banana", 1): (0.7814, 0.6051),
        ("3161_peel_banana", 2): (0.7814, 0.6532),
    },
    ("sa-v", "sav_val"): {
        ("sav_001001", 1): (0.8301, 0.6809),
        ("sav_001001", 2): (0.8301, 0.7656),
        ("sav_017599", 1): (0.0, 0.0),
        ("sav_017599", 2): (0.8301, 0.7656),
        ("sav_017599", 3): (0.0, 0.0),
    },
    ("folder", None): {
        ("plain", 1): (0.8301, 0.7025),
        ("plain", 2): (0.8301, 0.7297),
        ("void", 1): (0.8301, 0.7025),
        ("void", 2): (0.8301, 0.7297),
    },
}
"""J and F of results that are right but for a shift: the mask of frame i is moved by i mod 5 pixels, so that the
overlap of a square is (16 - i) / (16 + i). In the second clip of SA-V, objects overlap, and the small network follows
neither."""


@pytest.fixture
def run(stm, colour_model, tmp_path):
    """Evaluate a set of the miniature of a layout."""

    def run(layout, subset, *options):
        root = tmp_path / layout
        if not root.exists():
            MAKERS[layout](root)
        chosen = ("--dataset", layout, *(("--set", subset) if subset else ()))
        return stm("evaluate", root, *chosen, "--out", "out", "--dtype", "float32", *options)

    return run


@pytest.fixture
def score(stm, tmp_path):
    """Score what was evaluated; return scores.json."""

    def score(layout, subset):
        chosen = ("--dataset", layout, *(("--set", subset) if subset else ()))
        result = stm("score", "out", tmp_path / layout, *chosen, "--overwrite")
        assert result.exit_code == 0, result.output
        return json.loads((tmp_path / "scores" / "scores.json").read_text())

    return score


def said(result):
    return " ".join(result.output.split())


def numbers_of(report):
    return {
        (clip, int(object_id)): (round(each["j"], 4), round(each["f"], 4))
        for clip, about in report["clips"].items()
        for object_id, each in about["objects"].items()
    }


def shift_results(out):
    for folder in {path.parent for path in out.rglob("*.png")}:
        for index, path in enumerate(sorted(folder.iterdir())):
            write_mask(path, np.roll(read_mask(path), index % 5, 1))


def test_every_layout_has_written_scores():
    releases = {"youtube-vos", "youtube-vos2018"}  # read and scored as youtube-vos2019 is
    assert {layout for layout, _ in GOLDEN} == VIDEO_LAYOUTS.keys() - releases


@pytest.mark.parametrize(("layout", "subset"), GOLDEN)
def test_golden_scores(run, score, tmp_path, layout, subset):
    """Results are right where objects do not overlap, also of objects that appear later; then they are shifted."""
    result = run(layout, subset)
    assert result.exit_code == 0, result.output
    evaluated, finished = json.loads((tmp_path / "out" / "scores.json").read_text()), score(layout, subset)
    assert evaluated["mean"] == finished["mean"]
    assert evaluated["protocol"] == finished["protocol"]
    wrong = {key for key, numbers in numbers_of(evaluated).items() if numbers != (1.0, 1.0)}
    assert wrong == ({("sav_017599", 1), ("sav_017599", 3)} if layout == "sa-v" else set())
    shift_results(tmp_path / "out")
    report = score(layout, subset)
    assert numbers_of(report) == GOLDEN[layout, subset]
    last = {each["j_last"] for about in report["clips"].values() for each in about["objects"].values()}
    assert last == ({13 / 19} if layout == "vost" else {None})


def test_objects_that_appear_later_are_followed(run, tmp_path):
    assert run("youtube-vos2019", "valid").exit_code == 0
    masks = sorted((tmp_path / "out" / "Annotations" / "0062f687f1").iterdir())
    assert [object_ids(read_mask(path)) for path in masks] == [(1,), (1, 2), (1, 2), (1, 2)]
    for index, path in enumerate(masks[1:], 1):
        np.testing.assert_array_equal(read_mask(path), ids(index, SECOND))


def test_all_frames_are_segmented_and_those_of_the_list_written(run, tmp_path):
    assert run("youtube-vos2019", "valid_all_frames").exit_code == 0
    assert json.loads((tmp_path / "out" / "runs" / "0062f687f1.json").read_text())["frames"] == 16
    masks = sorted((tmp_path / "out" / "Annotations" / "0062f687f1").iterdir())
    assert [path.stem for path in masks] == numbers(4, step=5)


def test_seen_and_unseen_objects_of_youtube_vos(run, score, tmp_path):
    """Where the truth of valid is at hand; zither is in no clip of train."""
    root = make_youtube_vos(tmp_path / "youtube-vos2019", ("train", "valid"))
    for folder in (root / "valid" / "Annotations").iterdir():
        first = 1 if folder.name == "0062f687f1" else 0
        for index, name in enumerate(numbers(4, step=5)):
            write_mask(folder / f"{name}.png", ids(index, SECOND if index >= first else (1,)))
    result = run("youtube-vos2019", "valid")
    assert result.exit_code == 0, result.output
    shift_results(tmp_path / "out")
    report = score("youtube-vos2019", "valid")
    j = {(clip, i): each[0] for (clip, i), each in numbers_of(report).items()}
    assert j == {
        ("0062f687f1", 1): 0.7814,
        ("0062f687f1", 2): 0.731,
        ("00f88c4f0a", 1): 0.7814,
        ("00f88c4f0a", 2): 0.7814,
    }
    assert report["seen"]["j"] == pytest.approx(0.7814, abs=1e-4)
    assert report["unseen"]["j"] == pytest.approx((0.731 + 0.7814) / 2, abs=1e-4)
    four = [report[kind][name] for kind in ("seen", "unseen") for name in ("j", "f")]
    assert report["overall"]["jf"] == pytest.approx(np.mean(four))
    for word in ("seen", "unseen", "overall", "mean"):
        assert word in result.output


ZIPS = {
    ("davis2017", "test-dev"): ("", {"carousel": numbers(5), "girl-dog": numbers(5)}),
    ("mose", "valid"): ("", {"00a65a3d": numbers(6), "0d5e8a90": numbers(6)}),
    ("youtube-vos2018", "valid"): (
        "Annotations/",
        {"0062f687f1": numbers(4, step=5), "00f88c4f0a": numbers(4, step=5)},
    ),
    ("youtube-vos2019", "valid_all_frames"): (
        "Annotations/",
        {"0062f687f1": numbers(4, step=5), "00f88c4f0a": numbers(4, step=5)},
    ),
    ("lvos", "test"): (
        "Annotations/",
        {
            "1tZMz9pp": numbers(6, step=5, start=1, digits=8),
            "3bvEjhOT": numbers(6, step=5, start=1, digits=8),
        },
    ),
}


@pytest.mark.parametrize(("layout", "subset"), ZIPS)
def test_golden_listings_of_zips(run, tmp_path, layout, subset):
    result = run(layout, subset, "--zip")
    assert result.exit_code == 0, result.output
    assert f"to the server, send out/{subset}.zip" in said(result)
    root, clips = ZIPS[layout, subset]
    with zipfile.ZipFile(tmp_path / "out" / f"{subset}.zip") as archive:
        assert archive.namelist() == [f"{root}{clip}/{name}.png" for clip, names in clips.items() for name in names]
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_results_of_burst_are_its_json(run, tmp_path):
    result = run("burst", "val", "--zip")
    assert result.exit_code == 0, result.output
    assert "send out/val.json" in said(result)
    found = json.loads((tmp_path / "out" / "val.json").read_text())
    bird = found["sequences"][1]
    assert [sorted(frame) for frame in bird["segmentations"]] == [["1"], ["1", "2"], [], ["1", "2"]]
    run_lengths = bird["segmentations"][1]["2"]["rle"]
    np.testing.assert_array_equal(decode_runs(run_lengths, (bird["height"], bird["width"])), ids(2, SECOND) == 2)


@pytest.mark.parametrize(
    ("layout", "subset"), [("davis2016", "val"), ("vost", "val"), ("sa-v", "sav_val"), ("long-video", None)]
)
def test_sets_without_a_server_have_no_zip(run, tmp_path, layout, subset):
    result = run(layout, subset, "--zip")
    assert result.exit_code == 1
    assert "--zip needs a set that a server scores, and none is known for" in said(result)
    assert not (tmp_path / "out").exists()


def test_views_are_part_of_what_made_the_results(run, tmp_path):
    result = run("davis2017", "val", "--flip", "--sizes", "48, 96")
    assert result.exit_code == 0, result.output
    settings = json.loads((tmp_path / "out" / "scores.json").read_text())["settings"]
    assert (settings["flip"], settings["sizes"]) == (True, [48, 96])
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["mean"]["j"] > 0.9
    first = read_mask(tmp_path / "out" / "Annotations" / "480p" / "camel" / "00000.png")
    np.testing.assert_array_equal(first, ids(0, SECOND))  # kept as it was given
    assert "was made with sizes [48, 96], not None" in said(run("davis2017", "val", "--resume", "--flip"))


@pytest.mark.parametrize("sizes", ["", "48,", "48,48", "big", "0"])
def test_sizes_that_are_none(run, sizes):
    assert "--sizes must be different numbers of pixels" in said(run("davis2017", "val", "--sizes", sizes))


def test_sizes_that_are_too_small_leave_no_results(run, tmp_path):
    assert "--sizes must be at least 16 pixels, got 8" in said(run("davis2017", "val", "--sizes", "48,8"))
    assert not (tmp_path / "out").exists()


def test_sizes_exclude_size(run):
    assert "--sizes and --size exclude each other" in said(run("davis2017", "val", "--sizes", "48", "--size", "48"))


def test_a_clip_that_breaks_off_does_not_lose_the_others(run, tmp_path):
    root = MAKERS["davis2017"](tmp_path / "davis2017")
    damaged = root / "JPEGImages" / "480p" / "camel" / "00002.jpg"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"no picture")
    result = run("davis2017", "val")
    assert result.exit_code == 1
    assert "1 of 2 clips could not be segmented (camel): the same command with --resume tries them again" in said(
        result
    )
    report = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert report["clips"]["camel"]["unscored"] == "could not be segmented"
    assert report["clips"]["dog"]["mean"]["jf"] == 1.0
    damaged.write_bytes(whole)
    assert run("davis2017", "val", "--resume").exit_code == 0
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["clips"]["camel"]["mean"]["jf"] == 1.0


def test_a_mask_that_cannot_be_read_does_not_lose_the_scores_of_other_clips(run, tmp_path):
    root = MAKERS["davis2017"](tmp_path / "davis2017")
    damaged = root / "Annotations" / "480p" / "camel" / "00002.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    result = run("davis2017", "val")
    assert result.exit_code == 1
    assert "clip camel cannot be scored: " in said(result)
    assert "1 of 2 clips could not be scored (camel): correct the masks and give the same command" in said(result)
    report = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert "00002.png cannot be read as a mask" in report["clips"]["camel"]["unscored"]
    assert report["clips"]["dog"]["mean"]["jf"] == 1.0
    damaged.write_bytes(whole)
    assert run("davis2017", "val", "--resume").exit_code == 0
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["clips"]["camel"]["mean"]["jf"] == 1.0


def test_a_clip_that_has_new_frames_is_segmented_again(run, tmp_path):
    root = MAKERS["davis2017"](tmp_path / "davis2017")
    assert run("davis2017", "val").exit_code == 0
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        folder = root / kind / "480p" / "camel"
        (folder / f"00005.{suffix}").write_bytes((folder / f"00004.{suffix}").read_bytes())
    result = run("davis2017", "val", "--resume")
    assert result.exit_code == 0, result.output
    runs = tmp_path / "out" / "runs"
    assert [json.loads((runs / f"{clip}.json").read_text())["frames"] for clip in ("camel", "dog")] == [6, 5]


def test_jobs_give_the_scores_of_one_process(stm, tmp_path, one_thread):
    """With the network of the package, which other processes can load."""
    root = MAKERS["davis2017"](tmp_path / "davis2017")
    options = ("--dataset", "davis2017", "--set", "val", "--dtype", "float32", "--size", "0")
    for jobs in (1, 2):
        result = stm("evaluate", root, *options, "--out", f"out{jobs}", "--jobs", jobs)
        assert result.exit_code == 0, result.output
    one, two = (json.loads((tmp_path / f"out{jobs}" / "scores.json").read_text()) for jobs in (1, 2))
    assert one["mean"] == two["mean"]
    assert numbers_of(one) == numbers_of(two)
    assert (one["settings"]["jobs"], two["settings"]["jobs"]) == (1, 2)
    assert two["speed"]["frames"] == 10
    assert two["speed"]["peak_bytes"] > 10_000_000


@pytest.mark.filterwarnings("ignore::stm_fast.media.notices.MediaNotice")
@pytest.mark.parametrize(("layout", "subset"), GOLDEN)
def test_clips_travel_to_other_processes(tmp_path, layout, subset):
    dataset = open_videos(layout, MAKERS[layout](tmp_path / layout), subset)
    for clip in dataset:
        there = pickle.loads(pickle.dumps(clip))
        for name, mask in clip.truth.items():
            np.testing.assert_array_equal(read_mask(there.truth[name]), read_mask(mask))
