import re
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from stm_fast import load_model
from stm_fast.errors import WeightsError
from stm_fast.models.layouts import official_name, torchvision_name
from stm_fast.models.resnet50 import resnet50_stm
from stm_fast.models.stm import STM
from stm_fast.models.weight_files import save_model


def altered(state: dict[str, Tensor], path: Path, **changes: Tensor | None) -> Path:
    """Saves a state dict with entries (dots spelled as `__`) replaced, added, or dropped where None."""
    state = {**state, **{name.replace("__", "."): value for name, value in changes.items()}}
    torch.save({name: value for name, value in state.items() if value is not None}, path)
    return path


def trunk_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision ResNet-50 with the query encoder's weights."""
    layers = {"res2": "layer1", "res3": "layer2", "res4": "layer3"}
    trunk = {}
    for name, tensor in state.items():
        encoder, _, rest = name.partition(".")
        if encoder == "Encoder_Q" and rest not in ("mean", "std"):
            head, _, tail = rest.partition(".")
            trunk[f"{layers.get(head, head)}.{tail}"] = tensor
    return {**trunk, "layer4.0.conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1000)}


def test_names_cover_the_official_layout(official_state: dict[str, Tensor], official_model: STM) -> None:
    ours = official_model.state_dict()
    spelled = {official_name(name): tensor.shape for name, tensor in ours.items()}
    assert spelled == {name: tensor.shape for name, tensor in official_state.items()}
    assert len(spelled) == len(ours) == 558


def test_every_official_entry_arrives(official_state: dict[str, Tensor], official_model: STM) -> None:
    for name, tensor in official_model.state_dict().items():
        assert torch.equal(tensor, official_state[official_name(name)]), name


def test_module_prefix_is_optional(official_state: dict[str, Tensor], official_model: STM, tmp_path: Path) -> None:
    model = load_model(altered(official_state, tmp_path / "plain.pth"))
    assert all(map(torch.equal, model.state_dict().values(), official_model.state_dict().values()))
    assert not model.training


def test_dtype_and_name_with_weights(official_file: Path) -> None:
    model = load_model("resnet50", weights=official_file, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16, torch.int64}


def test_wrong_entries_are_listed_by_their_official_names(official_state: dict[str, Tensor], tmp_path: Path) -> None:
    path = altered(
        official_state,
        tmp_path / "broken.pth",
        Decoder__pred2__bias=None,
        KV_Q_r4__Key__weight=torch.zeros(64, 1024, 3, 3),
        Decoder__extra=torch.zeros(1),
    )
    with pytest.raises(WeightsError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "1 missing: Decoder.pred2.bias" in message
    assert "1 unknown: Decoder.extra" in message
    assert "1 of another shape: KV_Q_r4.Key.weight (64, 1024, 3, 3) instead of (128, 1024, 3, 3)" in message


def test_nothing_is_loaded_from_a_broken_file(official_state: dict[str, Tensor], tmp_path: Path) -> None:
    from stm_fast.models.weight_files import load_weights

    model = resnet50_stm()
    before = model.decoder.predict.weight.clone()
    path = altered(official_state, tmp_path / "broken.pth", Decoder__pred2__bias=None)
    with pytest.raises(WeightsError):
        load_weights(model, path, architecture="resnet50")
    assert torch.equal(model.decoder.predict.weight, before)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_unreadable_file(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(f"{path}: cannot be read as weights")):
        load_model(path)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"Encoder_M.mean": print}, tmp_path / "code.pth")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_model(tmp_path / "code.pth")


@pytest.mark.parametrize(
    ("content", "seen"), [([1, 2], "it holds list"), ({"a": 1, "b": torch.zeros(1)}, "not tensors: a")]
)
def test_not_a_state_dict(tmp_path: Path, content: object, seen: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=seen):
        load_model(tmp_path / "other.pth")


def test_missing_file_names_the_models() -> None:
    with pytest.raises(
        WeightsError,
        match=r"resnet51: no such file, and no model of that name .*'compact', 'compact-two-trunks', 'resnet50'",
    ):
        load_model("resnet51")


def test_tensors_of_something_else(tmp_path: Path) -> None:
    torch.save({"layer1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"not the weights of an STM network .* layer1.weight"):
        load_model(tmp_path / "other.pth")


def test_bad_arguments(official_file: Path) -> None:
    with pytest.raises(ValueError, match="weights go with a model's name"):
        load_model(official_file, weights=official_file)
    with pytest.raises(ValueError, match=r"dtype must be a floating type, got torch\.int32"):
        load_model("resnet50", dtype=torch.int32)


def test_random_weights_warn() -> None:
    with pytest.warns(UserWarning, match=r"load_model\('resnet50'\) without weights: they are random") as caught:
        load_model("resnet50")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model("compact")


def test_trunk_fills_both_encoders_alone(official_state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(trunk_of(official_state), tmp_path / "resnet50.pth")
    model = load_model("resnet50", weights=tmp_path / "resnet50.pth")
    for encoder in (model.query_encoder, model.memory_encoder):
        loaded = encoder.stages.res4[5].spatial[0].weight
        assert torch.equal(loaded, official_state["Encoder_Q.res4.5.conv2.weight"])
    assert torch.equal(model.memory_encoder.stem.rgb.weight, official_state["Encoder_Q.conv1.weight"])
    assert torch.equal(model.memory_encoder.stem.norm.running_var, official_state["Encoder_Q.bn1.running_var"])
    assert torchvision_name("memory_encoder.stem.mask.weight") is None
    assert torchvision_name("decoder.predict.bias") is None


def test_old_trunk_without_counters_and_broken_trunk(official_state: dict[str, Tensor], tmp_path: Path) -> None:
    trunk = {name: tensor for name, tensor in trunk_of(official_state).items() if "num_batches" not in name}
    torch.save(trunk, tmp_path / "old.pth")
    load_model("resnet50", weights=tmp_path / "old.pth")
    del trunk["layer3.5.conv2.weight"]
    torch.save(trunk, tmp_path / "broken.pth")
    with pytest.raises(WeightsError, match=r"1 missing: layer3\.5\.conv2\.weight"):
        load_model("resnet50", weights=tmp_path / "broken.pth")


def test_save_and_load(official_model: STM, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "model.safetensors"
    save_model(official_model, path, architecture="resnet50", metadata={"seed": "7"})
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"architecture": "resnet50", "seed": "7"}
        assert file.get_tensor("decoder.predict.weight").dtype == torch.float16
        assert file.get_tensor("decoder.predict.bias").dtype == torch.float32
    loaded = load_model(path).state_dict()
    for name, tensor in official_model.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        torch.testing.assert_close(loaded[name], tensor, rtol=1e-3, atol=1e-4)


def test_save_in_float32_is_exact_and_leaves_nothing_else(official_model: STM, tmp_path: Path) -> None:
    save_model(official_model, tmp_path / "m.safetensors", architecture="resnet50", dtype=torch.float32)
    loaded = load_model(tmp_path / "m.safetensors")
    assert all(map(torch.equal, loaded.state_dict().values(), official_model.state_dict().values()))
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    with pytest.raises(
        ValueError, match="architecture must be one of 'compact', 'compact-two-trunks', 'resnet50', got 'tiny'"
    ):
        save_model(official_model, tmp_path / "n.safetensors", architecture="tiny")


def test_architecture_must_fit(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", {"architecture": "compact"})
    with pytest.raises(WeightsError, match="weights of 'compact-two-trunks', not of 'resnet50'"):
        load_model("resnet50", weights=tmp_path / "m.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "n.safetensors", {"architecture": "unheard"})
    with pytest.raises(WeightsError, match="not the weights of an STM network"):
        load_model(tmp_path / "n.safetensors")
