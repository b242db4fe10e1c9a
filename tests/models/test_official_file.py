"""Weights in the original's layout: written, and read again."""

from pathlib import Path

import pytest
import torch

from stm_fast import load_model
from stm_fast.errors import WeightsError
from stm_fast.models.compact import compact_stm
from stm_fast.models.official_file import save_official
from stm_fast.models.resnet50 import resnet50_stm
from tests.checkout import ROOT


def test_names_shapes_and_dtypes_are_the_originals(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = resnet50_stm().half()
    save_official(model, tmp_path / "STM_weights.pth")
    state = torch.load(tmp_path / "STM_weights.pth", weights_only=True)
    lines = (ROOT / "tests" / "golden" / "stm_official_keys.txt").read_text().splitlines()
    golden = {f"module.{name}": shape for name, shape in (line.split(" ", 1) for line in lines)}
    assert {name: str(tuple(tensor.shape)) for name, tensor in state.items()} == golden
    counts = {name for name in state if name.endswith("num_batches_tracked")}
    assert {tensor.dtype for name, tensor in state.items() if name not in counts} == {torch.float32}
    read = load_model(tmp_path / "STM_weights.pth").state_dict()
    assert all(torch.equal(read[name], tensor.to(read[name].dtype)) for name, tensor in model.state_dict().items())


def test_other_models_have_no_such_layout(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="only the resnet50 model has the original's layout"):
        save_official(compact_stm(), tmp_path / "w.pth")
    assert not list(tmp_path.iterdir())
