"""`stm-fast export-model`."""

import sys

import pytest

from stm_fast.models import weight_files
from stm_fast.models.stm import STM
from tests.colours import model

__all__ = ["model"]


@pytest.fixture
def asked(monkeypatch, model: STM) -> list:
    """Every model that is loaded is one that follows colours; returns what it was asked for as."""
    asked = []
    monkeypatch.setattr(weight_files, "load_model", lambda name, weights=None: asked.append((name, weights)) or model)
    return asked


def test_programs_are_written_and_listed(stm, asked, tmp_path):
    done = stm("export-model", "models", "--format", "torch", "--model", "resnet50", "--weights", "mine.pth")
    assert done.exit_code == 0, done.output
    assert asked == [("resnet50", "mine.pth")]
    names = ["encode_query.pt2", "encode_memory.pt2", "step.pt2"]
    assert {path.name for path in (tmp_path / "models").iterdir()} == {*names}
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.endswith(" MB")]
    assert listed == [f"models/{name}" for name in names]
    again = stm("export-model", "models", "--format", "torch")
    assert again.exit_code == 1
    assert "models exists" in again.output


def test_a_missing_package_is_named(stm, asked, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    pytest.importorskip("onnx")
    refused = stm("export-model", "models")
    assert refused.exit_code == 1
    assert "needs the package onnxscript" in refused.output
    assert "stm-fast[onnx]" in refused.output
    assert not (tmp_path / "models").exists()
