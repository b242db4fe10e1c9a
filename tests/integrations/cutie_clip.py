"""The real Cutie on a small clip, with seeded weights: its own network and `InferenceCore`, nothing of ours."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import cutie
import torch
from cutie.inference.inference_core import InferenceCore
from cutie.model.cutie import CUTIE
from cutie.model.utils import resnet
from omegaconf import OmegaConf
from torch import Tensor

from tests.golden import seeded

CONFIG = Path(cutie.__path__[0]) / "config"
seeded_tensor = cache(seeded.seeded_tensor)


def core(**options: object) -> InferenceCore:
    """Cutie's small model, ready for a clip."""
    settings = OmegaConf.load(CONFIG / "eval_config.yaml")
    model = OmegaConf.merge(*(OmegaConf.load(CONFIG / "model" / f"{name}.yaml") for name in ("base", "small")))
    settings = OmegaConf.merge(settings, {"model": model, "mem_every": 3, "use_long_term": False, "top_k": 12}, options)
    with (
        mock.patch.object(resnet.model_zoo, "load_url", return_value={}),
        mock.patch.object(resnet, "load_weights_add_extra_dim"),
    ):
        network = CUTIE(settings).eval()
    network.load_state_dict(
        {name: torch.from_numpy(seeded_tensor(name, tuple(old.shape))) for name, old in network.state_dict().items()}
    )
    return InferenceCore(network, cfg=settings)


def frames(count: int, height: int = 96, width: int = 128) -> Iterator[Tensor]:
    """A textured picture that moves `(3, H, W)`."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 18, generator=generator)
    picture = torch.nn.functional.interpolate(coarse, size=(2 * height, 2 * width), mode="bicubic").clamp(0, 1)[0]
    for time in range(count):
        yield picture[:, time : time + height, 2 * time : 2 * time + width]


def first_mask(height: int = 96, width: int = 128) -> Tensor:
    """Ids of three objects `(H, W)`."""
    mask = torch.zeros(height, width, dtype=torch.int64)
    for found in (1, 2, 3):
        top, left = height * found // 8, width * found // 4 - 8
        mask[top : top + height // 3, left : left + width // 5] = found
    return mask


@torch.inference_mode()
def segment(processor: InferenceCore, count: int, **size: int) -> Tensor:
    """Probabilities `(count, 1 + objects, H, W)` of a clip."""
    clip = frames(count, **size)
    first = processor.step(next(clip), first_mask(**size), [1, 2, 3])
    return torch.stack([first, *(processor.step(frame) for frame in clip)])
