"""Stand-ins for code of others, loaded anew for each test, and the numbers that the originals gave."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"
OTHERS = "tests.integrations.others"


@pytest.fixture
def other() -> Iterator[object]:
    """Loads a stand-in by name; all are forgotten after the test, patched or not."""

    def load(name: str) -> ModuleType:
        return importlib.import_module(f"{OTHERS}.{name}")

    yield load
    for name in [name for name in sys.modules if name.startswith(OTHERS)]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def reads() -> dict[str, Tensor]:
    with np.load(GOLDEN / "reads.npz") as file:
        return {name: torch.from_numpy(array) for name, array in file.items()}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
