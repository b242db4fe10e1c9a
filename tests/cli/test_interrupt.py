"""Ctrl-C and termination of a real process."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from stm_fast.media.masks import read_mask, write_mask
from stm_fast.media.sources import open_frames

FRAMES = 300
PATIENCE = 300


@pytest.fixture
def command(tmp_path):
    """A run of some seconds with a compact model of random weights."""
    from stm_fast.models.compact import compact_stm
    from stm_fast.models.weight_files import save_model

    save_model(compact_stm(), tmp_path / "random.safetensors", architecture="compact")
    (tmp_path / "frames").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    for index in range(FRAMES):
        Image.fromarray(np.roll(noise, index, 1)).save(tmp_path / "frames" / f"{index:03d}.png")
    write_mask(tmp_path / "first.png", np.eye(64, 96, dtype=np.uint8))
    options = ["--mask", "first.png", "--out", "out", "--model", "random.safetensors", "--dtype", "float32"]
    return [sys.executable, "-m", "stm_fast.cli.main", "segment", "frames", *options]


def interrupt(command, folder, when, by):
    """Start a command, send it a signal when a file is there, and return its exit code and what it said."""
    # Where the tests run in the background SIGINT is ignored, and a child would inherit that.
    restore = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, restore)
    try:
        until = time.monotonic() + PATIENCE
        while not when.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(by)
        return process.wait(PATIENCE), process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_process_leaves_valid_files_and_says_how_to_go_on(tmp_path, command, by):
    masks = tmp_path / "out" / "masks"
    code, said = interrupt(command, tmp_path, masks / "004.png", by)
    assert code == 130, said
    assert "Traceback" not in said
    assert "--resume continues" in said.replace("\n", " ")

    written = sorted(masks.iterdir())
    assert 5 <= len(written) < FRAMES
    assert all(read_mask(path).shape == (64, 96) for path in written)
    assert len(list(open_frames(tmp_path / "out" / "overlay.mp4"))) in {len(written), len(written) - 1}
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["complete"] is False
    assert not [path for path in (tmp_path / "out").rglob("*") if ".part" in path.name]

    for path in sorted((tmp_path / "frames").iterdir())[len(written) + 3 :]:
        path.unlink()
    again = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert again.returncode == 0, again.stderr
    assert len(list(masks.iterdir())) == len(written) + 3


@pytest.mark.parametrize(
    ("how", "places"),
    [
        (["--memory", "official"], [[9, 17], [25, 41]]),
        (["--memory", "long-term:4"], [[9, 17], [25, 41]]),
        (["--direction", "both", "--from-frame", "30"], [[35, 47], [26, 11]]),
    ],
    ids=["official", "long-term", "both directions"],
)
def test_a_killed_run_goes_on_to_the_same_masks(tmp_path, command, how, places):
    """Killed twice, at points of no one's choosing, with states written as often as they can be."""
    for path in sorted((tmp_path / "frames").iterdir())[60:]:
        path.unlink()
    options = ["--no-overlay", *how, "--memory-every", "1", "--checkpoint-every", "0.001"]
    whole = [*command, *options, "--out", "whole"]
    subprocess.run(whole, cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)
    masks, state = tmp_path / "out" / "masks", tmp_path / "out" / ".checkpoint.safetensors"
    resume = []
    for kill_at in np.random.default_rng().permuted(places, axis=1)[:, 0]:
        code, said = interrupt([*command, *options, *resume], tmp_path, masks / f"{kill_at:03d}.png", signal.SIGKILL)
        assert code == -signal.SIGKILL, said
        assert state.exists()
        resume = ["--resume"]
    again = subprocess.run(
        [*command, *options, *resume], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert again.returncode == 0, again.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["complete"], summary["frames"]) == (True, 60)
    assert summary["resumed_frames"] > 0
    for path in sorted((tmp_path / "whole" / "masks").iterdir()):
        assert (masks / path.name).read_bytes() == path.read_bytes(), path.name
    assert not state.exists()
    assert not [path for path in (tmp_path / "out").rglob("*") if ".part" in path.name]


def test_an_interrupted_evaluation_in_processes_keeps_the_clips_that_are_done(tmp_path, command):
    for number in range(6):
        clip = tmp_path / "set" / "frames" / f"clip{number}"
        clip.mkdir(parents=True)
        for path in sorted((tmp_path / "frames").iterdir())[: 8 if number < 2 else 60]:
            shutil.copy(path, clip / path.name)
        (tmp_path / "set" / "masks" / clip.name).mkdir(parents=True)
        shutil.copy(tmp_path / "first.png", tmp_path / "set" / "masks" / clip.name / "000.png")
    options = ["--dataset", "folder", "--out", "out", "--jobs", "2", *command[command.index("--model") :]]
    evaluate = [*command[:3], "evaluate", "set", *options]
    code, said = interrupt(evaluate, tmp_path, tmp_path / "out" / "runs" / "clip0.json", signal.SIGINT)
    assert code == 130, said
    assert "Traceback" not in said
    assert "of 6 clips; the same command with --resume continues" in said.replace("\n", " ")
    done = {path.stem for path in (tmp_path / "out" / "runs").iterdir()}
    assert "clip0" in done
    assert len(done) < 6
    assert all(len(list((tmp_path / "out" / "masks" / name).iterdir())) in {8, 60} for name in done)
    assert not [path for path in (tmp_path / "out").rglob("*") if ".part" in path.name]
    again = subprocess.run([*evaluate, "--resume"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert again.returncode == 0, again.stderr
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 6
