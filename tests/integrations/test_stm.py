"""The class that takes the official STM's place: called as the official evaluation calls it, equal to its outputs."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stm_fast.integrations.stm import STM
from tests.golden.seeded import seeded_tensor

GOLDEN = Path(__file__).parents[1] / "golden"
SLOTS = 11


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN / "stm_official.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The released file's entries, `module.` prefix and all."""
    state = {}
    for line in (GOLDEN / "stm_official_keys.txt").read_text().splitlines():
        name, shape = line.split(" ", 1)
        state[f"module.{name}"] = torch.from_numpy(np.asarray(seeded_tensor(name, ast.literal_eval(shape))))
    for encoder in ("Encoder_Q", "Encoder_M"):
        state[f"module.{encoder}.mean"] = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        state[f"module.{encoder}.std"] = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return state


@pytest.fixture(scope="module")
def model(state: dict[str, Tensor]) -> nn.Module:
    model = nn.DataParallel(STM())
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def test_evaluation_loop_equals_the_original(model: nn.Module, golden: dict[str, Tensor]) -> None:
    frames, number = golden["frames"], torch.tensor([[2]])
    masks = torch.zeros(1, SLOTS, *frames.shape[2:], dtype=torch.uint8)  # as the official script makes them
    masks.scatter_(1, golden["first_mask"].long()[None, None], 1)
    keys = values = None
    for time in range(1, len(frames)):
        key, value = model(frames[time - 1 : time], masks, number)
        assert key.shape == (1, SLOTS, 128, 1, 5, 7)
        these_keys, these_values = (
            (key, value) if keys is None else (torch.cat([keys, key], 3), torch.cat([values, value], 3))
        )
        logits = model(frames[time : time + 1], these_keys, these_values, number)
        assert logits.shape == (1, SLOTS, *frames.shape[2:])
        masks = logits.softmax(1)
        if (time - 1) % int(golden["memory_every"]) == 0:
            keys, values = these_keys, these_values
        if time == 1:
            torch.testing.assert_close(key[0, 1:3, :, 0], golden["memory_key_0"], rtol=0, atol=1e-4)
            torch.testing.assert_close(value[0, 1:3, :, 0], golden["memory_value_0"], rtol=0, atol=1e-4)
            assert not key[0, 0].any()
            assert not key[0, 3:].any()
        torch.testing.assert_close(logits[0, :3], golden["logits"][time - 1], rtol=0, atol=1e-4)
        torch.testing.assert_close(masks[0, :3], golden["probabilities"][time], rtol=0, atol=1e-4)


def test_state_dict_has_the_official_names(model: nn.Module, state: dict[str, Tensor]) -> None:
    saved = model.state_dict()
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[name], state[name]) for name in state)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_bare_model_takes_both_spellings(state: dict[str, Tensor], prefix: str) -> None:
    entries = {name.replace("module.", prefix, 1): tensor for name, tensor in state.items()}
    model = STM()
    assert model.load_state_dict(entries).missing_keys == []
    assert torch.equal(model.state_dict()["Decoder.pred2.weight"], state["module.Decoder.pred2.weight"])


def test_wrong_entries_are_refused(state: dict[str, Tensor]) -> None:
    entries = {**state, "module.Encoder_X.weight": torch.zeros(1)}
    del entries["module.KV_M_r4.Key.bias"]
    with pytest.raises(RuntimeError, match=r"(?s)network.memory_head.key.bias.*Encoder_X.weight"):
        STM().load_state_dict(entries)


@torch.no_grad()
def test_bad_arguments_are_named(model: nn.Module) -> None:
    masks = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match="num_objects is 3; allowed are 1 to 2"):
        model(torch.rand(1, 3, 32, 32), masks, torch.tensor([3]))
    with pytest.raises(ValueError, match=r"frame has shape \(3, 32, 32\); allowed is \(1, 3, H, W\)"):
        model(torch.rand(3, 32, 32), masks, 1)
