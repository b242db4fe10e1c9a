"""Networks to export, and frames with masks for them. The tests of the large networks are slow."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stm_fast import load_model
from stm_fast.models.stm import STM
from tests import colours
from tests.models.conftest import seeded_state


def small(folder: Path) -> STM:
    torch.manual_seed(0)
    network = colours.STM(
        colours.ColourQuery(), colours.ColourMemory(), colours.Split(0), colours.Split(4), colours.Threshold()
    )
    return network.eval()


def compact(folder: Path) -> STM:
    return load_model("compact")


def resnet50(folder: Path) -> STM:
    torch.save({f"module.{name}": tensor for name, tensor in seeded_state().items()}, folder / "STM_weights.pth")
    return load_model(folder / "STM_weights.pth")


SLOW = pytest.mark.slow
NETWORKS = [small, pytest.param(compact, marks=SLOW), pytest.param(resnet50, marks=SLOW)]


@pytest.fixture(scope="session", params=NETWORKS, ids=["small", "compact", "resnet50"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> STM:
    make: Callable[[Path], STM] = request.param
    return make(tmp_path_factory.mktemp("network"))


def scene(rows: int, columns: int, objects: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A frame `(1, 3, H, W)` of blurred blocks, and soft masks of its objects `(O, 1, H, W)`."""
    random = torch.Generator().manual_seed(seed)
    size = (16 * rows, 16 * columns)
    blocks = torch.rand(1, 3, rows, columns, generator=random)
    frame = torch.nn.functional.interpolate(blocks, size, mode="bilinear").clamp(0, 1)
    masks = torch.nn.functional.interpolate(
        torch.softmax(4 * torch.randn(objects + 1, 1, rows, columns, generator=random), 0), size, mode="bilinear"
    )
    return frame, masks[1:]
