"""The official network with the seeded weights of the golden outputs."""

import ast
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stm_fast import load_model
from stm_fast.models.encoders import IMAGENET_MEAN, IMAGENET_STD
from stm_fast.models.stm import STM

GOLDEN = Path(__file__).parents[1] / "golden"


def seeded_state() -> dict[str, Tensor]:
    spec = importlib.util.spec_from_file_location("seeded", GOLDEN / "seeded.py")
    seeded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    state = {}
    for line in (GOLDEN / "stm_official_keys.txt").read_text().splitlines():
        name, shape = line.split(" ", 1)
        state[name] = torch.from_numpy(np.asarray(seeded.seeded_tensor(name, ast.literal_eval(shape))))
    for encoder in ("Encoder_Q", "Encoder_M"):
        state[f"{encoder}.mean"] = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
        state[f"{encoder}.std"] = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return state


@pytest.fixture(scope="session")
def official_state() -> dict[str, Tensor]:
    """The official state dict, without `module.`; not to be changed."""
    return seeded_state()


@pytest.fixture(scope="session")
def official_file(official_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "STM_weights.pth"
    torch.save({f"module.{name}": tensor for name, tensor in official_state.items()}, path)
    return path


@pytest.fixture(scope="session")
def official_model(official_file: Path) -> STM:
    """Not to be changed."""
    return load_model(official_file)


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN / "stm_official.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}
