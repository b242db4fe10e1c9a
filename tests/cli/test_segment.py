"""`stm-fast segment`: what it writes, how it resumes, and what it says about inputs it cannot use."""

import errno
import fcntl
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stm_fast.media.encode import video_writer
from stm_fast.media.masks import read_mask, write_mask
from stm_fast.media.sources import open_frames
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.stores import DiskStore
from stm_fast.tracking import results
from stm_fast.tracking.options import parse_bytes

pytestmark = pytest.mark.usefixtures("colour_model")


@pytest.fixture
def segment(stm, clip):
    """Run `stm-fast segment` on the clip, or with other inputs."""

    def run(*options, source=clip / "frames", mask=clip / "first.png", out="out"):
        return stm("segment", source, "--mask", mask, "--out", out, "--dtype", "float32", *options)

    return run


@pytest.fixture
def break_after(monkeypatch):
    """Raise an error instead of writing the mask after so many."""

    def arm(count, error):
        written = []

        def write(path, mask):
            if len(written) == count:
                raise error
            written.append(path)
            write_mask(path, mask)

        monkeypatch.setattr(results, "write_mask", write)
        return lambda: monkeypatch.setattr(results, "write_mask", write_mask)

    return arm


def masks(folder):
    return {path.name: read_mask(path).tolist() for path in sorted(folder.iterdir())}


def test_everything_is_written(segment, clip, tmp_path):
    result = segment()
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    assert masks(out / "masks") == masks(clip / "masks")
    assert sorted(path.name for path in out.iterdir()) == [
        "contact_sheet.png",
        "frames.jsonl",
        "log.txt",
        "masks",
        "overlay.mp4",
        "summary.json",
    ]
    assert open_frames(out / "overlay.mp4").count == 6
    Image.open(out / "contact_sheet.png").load()
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["frames"], summary["objects"], summary["complete"]) == (6, [1], True)
    assert set(summary["seconds"]) == {"encode_query", "read", "decode", "encode_memory", "media", "total"}
    assert summary["frames_per_second"] > 0
    assert summary["memory_tokens"] == 8 * 2
    assert summary["backend"] == "cpu"
    assert summary["versions"]["torch"]


def test_options_reach_model_and_memory(segment, colour_model, tmp_path):
    result = segment(
        "--model", "m.pth", "--memory-every", 2, "--memory", "window:3", "--size", 16, "--top-k", 4, "--no-overlay"
    )
    assert result.exit_code == 0, result.output
    name, options = colour_model[0]
    assert (name, str(options["dtype"]), options["device"]) == ("m.pth", "torch.float32", "cpu")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["memory_tokens"] == 3 * 2
    assert summary["settings"]["top_k"] == 4
    assert not (tmp_path / "out" / "overlay.mp4").exists()


def test_a_memory_on_disk_leaves_nothing_behind(segment, clip, tmp_path, monkeypatch):
    moved = []
    put = DiskStore.put
    monkeypatch.setattr(DiskStore, "put", lambda self, *tensors: moved.append(self.folder) or put(self, *tensors))
    monkeypatch.setitem(MemoryBank.__init__.__kwdefaults__, "split_bytes", 1)
    result = segment("--offload", "disk", "--memory-every", 1)
    assert result.exit_code == 0, result.output
    assert masks(tmp_path / "out" / "masks") == masks(clip / "masks")
    assert moved == [Path("out")] * 4
    written = {"contact_sheet.png", "frames.jsonl", "log.txt", "masks", "overlay.mp4", "summary.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written


def test_folder_of_masks_and_video(segment, clip, tmp_path):
    frames = [frame.image for frame in open_frames(clip / "frames")]
    with video_writer(tmp_path / "clip.mp4", 12) as encoder:
        for frame in frames:
            encoder.write(frame)
    write_mask(tmp_path / "given" / "00002.png", read_mask(clip / "masks" / "2.png"))
    result = segment(source=tmp_path / "clip.mp4", mask=tmp_path / "given")
    assert result.exit_code == 0, result.output
    found = masks(tmp_path / "out" / "masks")
    assert list(found) == [f"{i:05d}.png" for i in range(6)]
    assert not np.any(found["00001.png"])
    assert found["00002.png"] == masks(clip / "masks")["2.png"]
    assert open_frames(tmp_path / "out" / "overlay.mp4").fps == 12


def test_results_are_not_overwritten_unasked(segment, clip, tmp_path):
    assert segment().exit_code == 0
    (tmp_path / "out" / "masks" / "stale.png").write_bytes(b"of a longer run")
    result = segment()
    assert result.exit_code == 1
    assert "already holds results: resume continues them, overwrite replaces them" in result.output
    assert segment("--overwrite").exit_code == 0
    assert masks(tmp_path / "out" / "masks") == masks(clip / "masks")


def test_masks_of_the_user_are_safe(segment, clip):
    before = masks(clip / "masks")
    result = segment("--overwrite", mask=clip / "masks", out=clip)
    assert result.exit_code == 1
    assert "is or holds the video or a mask: choose another folder" in result.output
    for flags in ((), ("--overwrite",), ("--resume",)):
        assert "no run of stm-fast made" in segment(*flags, out=clip).output
    assert masks(clip / "masks") == before


def test_resume_and_overwrite_exclude_each_other(segment):
    result = segment("--resume", "--overwrite")
    assert result.exit_code == 1
    assert "--resume excludes overwrite" in result.output


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "Interrupted after 3 frames"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/masks/3.png"),
            3,
            "No space left on device: out/masks/3.png",
        ),
    ],
)
def test_stopped_run_is_whole_and_goes_on(segment, clip, tmp_path, break_after, error, code, sentence):
    repair = break_after(3, error)
    result = segment()
    assert (result.exit_code, sentence in result.output) == (code, True), result.output
    out = tmp_path / "out"
    assert list(masks(out / "masks")) == ["0.png", "1.png", "2.png"]
    assert not [path for path in out.rglob("*") if ".part" in path.name]
    assert json.loads((out / "summary.json").read_text())["complete"] is False
    if (out / "overlay.mp4").exists():
        assert len(list(open_frames(out / "overlay.mp4"))) == 3

    repair()
    result = segment("--resume")
    assert result.exit_code == 0, result.output
    assert masks(out / "masks") == masks(clip / "masks")
    assert len(list(open_frames(out / "overlay.mp4"))) == 6
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["complete"], summary["frames"], summary["resumed_frames"]) == (True, 6, 3)


def test_counts_are_told_in_words(segment):
    assert re.search(r"6 frames, 1 object, [0-9.]+ frames/s; results are in out", segment().stdout)
    assert "6 frames, 1 object, all segmented before; results are in out" in segment("--resume").stdout


def test_resume_needs_the_same_options(segment):
    assert segment().exit_code == 0
    result = segment("--resume", "--memory-every", 2)
    assert result.exit_code == 1
    assert "was made with memory_every 5, not 2: resume with the same options" in result.output


def test_what_ran_out_of_memory_goes_on_with_less(segment):
    assert segment().exit_code == 0
    assert segment("--resume", "--memory", "window:2", "--backend", "reference").exit_code == 0


def test_a_limit_that_is_too_small_says_what_it_takes(segment):
    result = segment("--memory-limit", "200 B")
    assert result.exit_code == 1
    assert "--memory-limit must be at least" in result.output
    least = result.output.split("at least ")[1].split()[0]
    assert segment("--overwrite", "--memory-limit", least).exit_code == 0


@pytest.mark.parametrize("memory", ["window:3", "least-used:3", "long-term:4", "diverse", "official"])
def test_each_policy_follows_the_clip(segment, clip, tmp_path, memory):
    result = segment("--memory", memory, "--memory-every", 1)
    assert result.exit_code == 0, result.output
    assert masks(tmp_path / "out" / "masks") == masks(clip / "masks")


@pytest.mark.parametrize(
    ("text", "number"),
    [("4GB", 4 * 10**9), ("1.5 GiB", 3 * 2**29), ("500mb", 5 * 10**8), ("70000", 70000), ("2k", 2000)],
)
def test_bytes_are_read(text, number):
    assert parse_bytes(text) == number


def test_one_run_at_a_time(segment, tmp_path):
    """A folder belongs to another run as long as its process holds it."""
    (tmp_path / "out").mkdir()
    holder = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    result = segment()
    assert (result.exit_code, "another run is writing into" in result.output) == (1, True), result.output
    os.close(holder)
    assert segment().exit_code == 0


@pytest.mark.parametrize("name", ["overlay.mp4", "contact_sheet.png"])
def test_inputs_and_foreign_files_are_not_replaced(segment, clip, tmp_path, name):
    foreign = tmp_path / "out" / name
    foreign.parent.mkdir()
    with video_writer(tmp_path / "clip.mp4", 12) as encoder:
        encoder.write(np.zeros((32, 64, 3), np.uint8))
    (tmp_path / "clip.mp4").rename(foreign)
    before = foreign.read_bytes()
    result = segment()
    assert (result.exit_code, "no run of stm-fast made it" in result.output) == (1, True), result.output
    if name == "overlay.mp4":
        result = segment("--overwrite", source=foreign)
        assert (result.exit_code, "is or holds the video" in result.output) == (1, True), result.output
    assert foreign.read_bytes() == before


def test_out_is_not_the_folder_of_frames(segment, clip):
    result = segment(out=clip / "frames")
    assert (result.exit_code, "is the folder of the frames" in result.output) == (1, True), result.output


def test_a_mask_among_the_frames_is_refused(segment, clip, tmp_path):
    frames = tmp_path / "copy"
    shutil.copytree(clip / "frames", frames)
    shutil.copy(clip / "first.png", frames / "zz_mask.png")
    result = segment(source=frames, mask=frames / "zz_mask.png")
    assert (result.exit_code, "is in the folder of frames" in result.output) == (2, True), result.output


def test_masks_that_would_correct_are_told_of_once(segment, clip, tmp_path):
    result = segment(mask=clip / "masks")
    assert result.exit_code == 0, result.output
    assert result.output.count("masks add objects but do not correct them") == 1


def test_names_with_colons(segment, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with video_writer(tmp_path / "at 12:30.mp4", 12) as encoder:
        for frame in open_frames(clip / "frames"):
            encoder.write(frame.image)
    result = segment(source="at 12:30.mp4", out="run:1")
    assert result.exit_code == 0, result.output
    assert len(list(open_frames("run:1/overlay.mp4"))) == 6


def test_a_model_without_weights_is_refused(segment):
    result = segment("--model", "resnet50")
    assert (result.exit_code, "give weights" in result.output) == (1, True), result.output


def test_resume_without_anything_starts(segment):
    assert segment("--resume").exit_code == 0


def test_truncated_video_gives_what_is_there(segment, clip, tmp_path):
    with video_writer(tmp_path / "clip.mp4", 12) as encoder:
        for index in range(40):
            encoder.write(np.random.default_rng(index).integers(0, 255, (32, 64, 3), np.uint8))
    data = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(data[: len(data) // 2])
    result = segment(source=tmp_path / "clip.mp4")
    assert result.exit_code == 2
    assert "breaks off after" in result.output
    found = masks(tmp_path / "out" / "masks")
    assert 0 < len(found) < 40
    assert len(list(open_frames(tmp_path / "out" / "overlay.mp4"))) == len(found)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["complete"] is False


def test_frame_of_another_size_stops_the_run(segment, clip, tmp_path):
    Image.new("RGB", (20, 20)).save(clip / "frames" / "4.png")
    result = segment()
    assert result.exit_code == 2
    assert "frame 4 of" in result.output
    assert list(masks(tmp_path / "out" / "masks")) == ["0.png", "1.png", "2.png", "3.png"]


@pytest.mark.parametrize(
    ("mask", "code", "sentence"),
    [
        (np.zeros((32, 64), np.uint8), 2, "is empty: the first mask must hold at least one object"),
        (np.ones((32, 32), np.uint8), 2, "is 32×32 but the frames are 64×32"),
        (np.arange(2048, dtype=np.uint16).reshape(32, 64), 2, "has object id 2047 among its 2048 values"),
        (np.random.default_rng(0).integers(0, 255, (32, 64, 3), np.uint8), 2, "colours: a colour mask has those of"),
        (np.kron(np.eye(2, 4, dtype=np.uint8), np.ones((32, 32), np.uint8)), 0, "Note: "),
        (np.full((32, 64, 3), (10, 20, 30), np.uint8), 0, "(10, 20, 30) is object 1"),
    ],
    ids=["empty", "other aspect", "too many ids", "photograph", "other size", "free colours"],
)
def test_masks_of_all_kinds(segment, tmp_path, mask, code, sentence):
    Image.fromarray(mask).save(tmp_path / "mask.png")
    result = segment(mask=tmp_path / "mask.png")
    assert (result.exit_code, sentence in result.output) == (code, True), result.output


@pytest.mark.parametrize(
    ("inputs", "code", "sentence"),
    [
        ({"source": "nowhere.mp4"}, 2, "nowhere.mp4 does not exist: a video file or a folder of images is needed"),
        ({"source": __file__}, 2, "cannot be read as video"),
        ({"mask": "nowhere.png"}, 2, "mask nowhere.png does not exist"),
        ({"mask": __file__}, 2, "cannot be read as a mask"),
    ],
)
def test_inputs_that_are_not_there(segment, tmp_path, inputs, code, sentence):
    result = segment(**inputs)
    assert (result.exit_code, sentence in result.output) == (code, True), result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--device", "abacus"), "--device 'abacus' cannot be used"),
        (("--size", "8"), "--size must be at least 16"),
        (("--memory", "window:1"), "--memory window:N must have N from 2 to 1000000, got window:1"),
        (("--memory", "diverse:10000000000000000"), "--memory diverse:N must have N from 2 to 1000000"),
        (("--memory", "long-term:"), "got long-term:"),
        (("--memory", "best:1"), "--memory must be auto, official, window:N"),
        (("--memory", "window"), "--memory must be auto, official, window:N"),
        (("--memory", "official:3"), "got official:3"),
        (("--memory", "best"), "got best"),
        (("--memory-limit", "much"), "--memory-limit must be a number of bytes such as 4GB"),
        (("--memory-limit", "0GB"), "--memory-limit must be at least 1 byte"),
        (("--memory-limit", "9" * 400), "--memory-limit must be at least 1 byte and at most 2^60"),
        (("--backend", "abacus"), "--backend is 'abacus'; allowed are 'auto', 'cpu'"),
        (("--offload", "host"), "on a CPU the memory is already there; allowed is disk"),
        (("--offload", "disk", "--top-k", "3"), "leave out top-k"),
        (("--offload", "disk", "--memory", "window:3"), "leave out memory and memory limit"),
    ],
)
def test_options_out_of_range(segment, tmp_path, options, sentence):
    result = segment(*options)
    assert (result.exit_code, sentence in result.output) == (1, True), result.output
    assert not (tmp_path / "out").exists()


def test_out_that_cannot_be_a_folder(segment, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert segment(out="file/out").exit_code == 3


def test_debug_shows_the_exception(clip, stm, monkeypatch):
    monkeypatch.setenv("STM_FAST_DEBUG", "1")
    with pytest.raises(AssertionError, match="nowhere"):
        stm("segment", "nowhere.mp4", "--mask", clip / "first.png", "--out", "out")


@pytest.mark.filterwarnings("ignore:reads on cpu take the slower")
def test_the_summary_names_the_backend_that_reads(segment, tmp_path, monkeypatch):
    from stm_fast.ops import dispatch

    failed = {(torch.device("cpu"), "cpu", "top_k_read float32 float32"): "RuntimeError: the launch failed"}
    monkeypatch.setattr(dispatch, "_failed", failed)
    monkeypatch.setattr(dispatch, "_warned", set())
    for options, backend in (((), "cpu"), (("--top-k", 5), "reference"), (("--backend", "cpu"), "cpu")):
        segment(*options, out=backend)
        assert json.loads((tmp_path / backend / "summary.json").read_text())["backend"] == backend
        shutil.rmtree(tmp_path / backend)
