"""Autocast regions: keys and values are cast as for a matrix product, and nothing inside the op is cast again.

`stm_fast.ops.api.read_memory` casts; `stm_fast.ops.dispatch.run_flat` turns autocast off inside an op.
"""

import torch
from torch import Tensor


def autocast_enabled(device: str) -> bool:
    """Return whether the caller is inside an autocast region for a type of device; never for one without autocast."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def autocast(tensor: Tensor) -> Tensor:
    """Cast a tensor as its autocast region casts it for a matrix product; leave float64 as it is."""
    device = tensor.device.type
    if tensor.dtype == torch.float64 or not autocast_enabled(device):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))
