"""Networks in folders of the Hugging Face Hub, offline."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("huggingface_hub")

from stm_fast import Segmenter, load_model
from stm_fast.errors import ArgumentError, WeightsError
from stm_fast.models.hub import HubSTM


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        pytest.fail("a local folder needs no network")

    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", refuse)
    monkeypatch.setattr("stm_fast.models.hub.hf_hub_download", refuse)


def test_a_folder_holds_all_of_a_network(tmp_path: Path) -> None:
    saved = HubSTM.from_file("compact")
    saved.save_pretrained(tmp_path / "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert json.loads((tmp_path / "mine" / "config.json").read_text()) == {"architecture": "compact"}
    loaded = HubSTM.from_pretrained(tmp_path / "mine")
    plain = load_model("compact")
    assert (loaded.card, loaded.guided, loaded.training) == (plain.card, plain.guided, False)
    for network in (loaded, load_model(tmp_path / "mine" / "model.safetensors")):
        for name, tensor in plain.state_dict().items():
            assert torch.equal(network.state_dict()[name], tensor), name
    assert Segmenter(loaded).model.shares_keys


def test_the_card_of_the_shipped_weights_goes_with_them(tmp_path: Path) -> None:
    HubSTM.from_file("compact").save_pretrained(tmp_path / "shipped")
    card = (tmp_path / "shipped" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "library_name: stm-fast" in card
    assert "license: apache-2.0" in card
    assert "## Measured" in card
    assert "](../" not in card
    HubSTM("compact").save_pretrained(tmp_path / "other")
    other = (tmp_path / "other" / "README.md").read_text()
    assert "## Measured" not in other
    assert "license:" not in other


def test_what_is_no_network_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="architecture must be one of compact"):
        HubSTM("vgg")
    with pytest.raises(WeightsError, match=r"no config\.json"):
        HubSTM.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "compact"}')
    with pytest.raises(WeightsError, match="no such file"):
        HubSTM.from_pretrained(tmp_path)
