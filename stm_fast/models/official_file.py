"""Weights in the layout of the original's release, for code that loads `STM_weights.pth`."""

from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from stm_fast.errors import WeightsError
from stm_fast.media.files import atomic_path
from stm_fast.models.layouts import official_name
from stm_fast.models.stm import STM

PREFIX = "module."
"""What the original's names begin with: it was trained and released inside a `DataParallel`."""
_A_NAME = "KV_M_r4.Key.weight"


def save_official(model: STM, path: str | PathLike[str]) -> None:
    """Write a resnet50 STM as the original's state dict, which `load_model` and the original's code read.

    Args:
        model: made by `resnet50_stm`, on any device and in any dtype.
        path: a file such as `STM_weights.pth`.

    Raises:
        WeightsError: the model is not a resnet50 STM.
        OSError: the file cannot be written.
    """
    tensors = {f"{PREFIX}{official_name(name)}": _for_disk(tensor) for name, tensor in model.state_dict().items()}
    if f"{PREFIX}{_A_NAME}" not in tensors or f"{PREFIX}Encoder_M.conv1_m.weight" not in tensors:
        raise WeightsError(f"{path}: only the resnet50 model has the original's layout")
    with atomic_path(Path(path)) as partial:
        torch.save(tensors, partial)


def _for_disk(tensor: Tensor) -> Tensor:
    """Return a copy in float32 on the CPU; counts of batches stay integers."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous().clone()
