"""Autocast regions, on devices that know them and on those that do not."""

import torch


def autocast_enabled(device: str) -> bool:
    """Whether the caller is inside an autocast region for a kind of device; never for one without autocast."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
