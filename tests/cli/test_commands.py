"""The command as a whole: help, versions, demo and doctor."""

import inspect
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

import stm_fast
from stm_fast.cli import doctor, options
from stm_fast.data import demo_clip
from stm_fast.errors import ArgumentError, StmFastError
from stm_fast.tracking.options import TrackOptions, resolve_device


def test_help_names_all_commands_and_loads_nothing_heavy():
    code = (
        "import sys; from stm_fast.cli.main import main; sys.argv = ['stm-fast', '--help']\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code\n"
        "heavy = {'torch', 'av', 'PIL', 'numpy', 'skimage'} & set(sys.modules); assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for command in ("segment", "suggest", "demo", "evaluate", "export-model", "doctor"):
        assert command in result.stdout


@pytest.mark.parametrize("command", ["segment", "suggest", "demo", "evaluate", "export-model", "doctor"])
def test_each_command_has_help(stm, command):
    assert "Usage" in stm(command, "--help").output


def test_version(stm):
    assert stm("--version").output.strip() == stm_fast.__version__


@pytest.mark.parametrize("device", ["mps", "xla", "meta", "hpu", "nonsense", "cuda:99", ""])
def test_a_device_that_cannot_be_used_is_refused_in_a_sentence(device):
    with pytest.raises(ArgumentError) as refused:
        resolve_device(device)
    said = str(refused.value)
    assert f"{device!r} cannot be used (" in said
    assert said.endswith("); allowed are auto, cpu, cuda, cuda:1 ...")
    assert "\n" not in said
    assert len(said) < 400


def test_tracking_options_are_those_of_stm_fast_track():
    defaults = {field.name: field.default for field in fields(TrackOptions)}
    parameters = inspect.signature(stm_fast.track).parameters
    assert {name: parameters[name].default for name in defaults} == defaults
    assert set(options.ALL) == set(defaults)


def test_unknown_option_is_a_usage_error(stm):
    assert stm("segment", "--nonsense").exit_code == 2


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
