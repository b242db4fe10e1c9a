"""The command as a whole: help, versions, evaluate, demo and doctor."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import stm_fast
from stm_fast.cli import doctor
from stm_fast.data import demo_clip
from stm_fast.errors import StmFastError
from stm_fast.media.masks import read_mask


def test_help_names_all_commands_and_loads_nothing_heavy():
    code = (
        "import sys; from stm_fast.cli.main import main; sys.argv = ['stm-fast', '--help']\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code\n"
        "heavy = {'torch', 'av', 'PIL', 'numpy', 'skimage'} & set(sys.modules); assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for command in ("segment", "suggest", "demo", "evaluate", "doctor"):
        assert command in result.stdout


@pytest.mark.parametrize("command", ["segment", "suggest", "demo", "evaluate", "doctor"])
def test_each_command_has_help(stm, command):
    assert "Usage" in stm(command, "--help").output


def test_version(stm):
    assert stm("--version").output.strip() == stm_fast.__version__


def test_unknown_option_is_a_usage_error(stm):
    assert stm("segment", "--nonsense").exit_code == 2


@pytest.fixture
def evaluate(stm, clip, colour_model):
    pytest.importorskip("vos_benchmark")
    return lambda *options: stm("evaluate", clip, "--dataset", "folder", "--out", "out", "--dtype", "float32", *options)


def test_evaluate_scores_a_folder(evaluate, clip, tmp_path):
    result = evaluate()
    assert result.exit_code == 0, result.output
    assert "1.000" in result.output
    for path in (clip / "masks").iterdir():
        np.testing.assert_array_equal(read_mask(tmp_path / "out" / "masks" / "clip" / path.name), read_mask(path))
    (row,) = csv.DictReader((tmp_path / "out" / "scores.csv").open())
    assert (row["clip"], row["J"], row["F"]) == ("clip", "1.0000", "1.0000")
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["mean"]["jf"] == 1.0


def test_evaluate_resumes_after_the_clips_that_are_done(evaluate, tmp_path):
    assert evaluate().exit_code == 0
    mask = tmp_path / "out" / "masks" / "clip" / "3.png"
    Image.fromarray(np.zeros((32, 64), np.uint8)).save(mask)
    assert "--resume goes on" in evaluate().output
    assert evaluate("--resume").exit_code == 0
    assert not read_mask(mask).any()
    assert evaluate("--overwrite").exit_code == 0
    assert read_mask(mask).any()


def test_evaluate_never_writes_into_the_dataset(stm, clip, colour_model):
    pytest.importorskip("vos_benchmark")
    result = stm("evaluate", clip, "--dataset", "folder", "--out", clip)
    assert result.exit_code == 1
    assert "is the dataset itself" in result.output


def test_evaluate_needs_a_set_for_davis(stm, tmp_path):
    pytest.importorskip("vos_benchmark")
    result = stm("evaluate", tmp_path)
    assert (result.exit_code, "--set is missing" in result.output) == (1, True)
    result = stm("evaluate", tmp_path, "--set", "val")
    assert (result.exit_code, "sets of" in result.output) == (2, True)


def test_evaluate_without_vos_benchmark(stm, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vos_benchmark.evaluator", None)
    result = stm("evaluate", tmp_path, "--set", "val")
    assert result.exit_code == 1
    assert "scoring needs vos-benchmark: pip install 'stm-fast[eval]'" in result.output.replace("\n", " ")


def test_demo_segments_scores_and_shows(stm, colour_model, tmp_path, monkeypatch):
    pytest.importorskip("vos_benchmark")
    frames = []
    for index in range(4):
        mask = np.zeros((32, 64), np.uint8)
        mask[:16, 16 * index : 16 * index + 16], mask[16:, :16] = 1, 2
        image = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)[mask]
        frames.append(demo_clip.DemoFrame(image, mask))
    monkeypatch.setattr(demo_clip, "render", lambda: iter(frames))
    for _ in range(2):
        result = stm("demo", "--out", "demo", "--dtype", "float32")
        assert result.exit_code == 0, result.output
    assert "1.000" in result.output
    there = {path.name for path in (tmp_path / "demo").iterdir()}
    assert there >= {"clip", "masks", "overlay.mp4", "contact_sheet.png", "summary.json", "scores.csv", "scores.json"}


def test_demo_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(StmFastError, match=r"pip install 'stm-fast\[demo\]'"):
        next(demo_clip.render())


def test_doctor_is_healthy(stm):
    result = stm("doctor")
    assert result.exit_code == 0, result.output
    for word in ("torch", "reference", "passed", "H.264", "baseline"):
        assert word in result.output


def test_doctor_reports_a_wrong_backend(stm, monkeypatch):
    monkeypatch.setattr(doctor, "self_test", lambda backend, device: doctor.SelfTest(float("nan"), 1e-6, 0.1))
    result = stm("doctor")
    assert (result.exit_code, "FAILED" in result.output) == (1, True)


def test_doctor_tells_what_a_kernel_failed_with(stm, monkeypatch):
    def fail(backend, device):
        raise RuntimeError("Triton Error [CUDA]: device kernel image is invalid\nand more")

    monkeypatch.setattr(doctor, "self_test", fail)
    result = stm("doctor")
    said = " ".join(result.output.replace("│", " ").split())
    assert result.exit_code == 1
    assert "FAILED: RuntimeError: Triton Error" in said
    assert "[CUDA]" in said
    assert "and more" not in said


def test_doctor_tells_why_a_backend_is_off(stm, monkeypatch):
    from stm_fast.ops.backends import registry

    monkeypatch.setattr(registry, "availability", lambda: {"reference": None, "abacus": "it has no beads"})
    assert "off: it has no beads" in stm("doctor").output
