"""Augmentation by name: as in the STM paper, and as in STCN's code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from stm_fast.training.augment.affine import Motion
from stm_fast.training.augment.augmentation import Augmentation
from stm_fast.training.augment.bends import Bend
from stm_fast.training.augment.colour import Jitter
from stm_fast.training.augment.crops import ResizedCrop, SquareCrop

_MEAN_COLOUR = (124, 116, 104)
"""ImageNet's mean, RGB."""


@dataclass(frozen=True)
class Preset:
    """How clips are made of pictures and of videos.

    Attributes:
        stills: augmentation of clips that are made of one picture.
        videos: augmentation of clips of a video.
        pasted: whether objects of other pictures are pasted over a picture, each with a motion of its own.
        pasted_motion: motion of a pasted object from frame to frame.
        reverse: probability that the frames of a video are taken backwards.
    """

    stills: Augmentation
    videos: Augmentation
    pasted: bool = False
    pasted_motion: Motion = field(default_factory=Motion)
    reverse: float = 0.0


_PAPER = Preset(
    stills=Augmentation(crop_each=True, frame_motion=Motion(rotation=20, shear=10, zoom=(0.8, 1.2), shift=0.05)),
    videos=Augmentation(),
    pasted=True,
    pasted_motion=Motion(rotation=20, shear=10, zoom=(0.8, 1.2), shift=0.15),
)

_STCN = Preset(
    stills=Augmentation(
        clip_motion=Motion(zoom=(0.8, 1.5)),
        crop=SquareCrop(smallest=1.0),
        crop_each=True,
        flip=0.5,
        frame_motion=Motion(rotation=20, shear=10, zoom=(0.9, 1.1)),
        frame_bend=Bend(probability=0.33, amount=0.02, points=12),
        clip_colours=Jitter(brightness=0.1, contrast=0.05, saturation=0.05, hue=0.05),
        frame_colours=Jitter(brightness=0.1, contrast=0.05, saturation=0.05),
        grey=0.05,
        fill=_MEAN_COLOUR,
    ),
    videos=Augmentation(
        crop=ResizedCrop(area=(0.36, 1.0)),
        flip=0.5,
        frame_motion=Motion(rotation=15, shear=10),
        clip_colours=Jitter(brightness=0.1, contrast=0.03, saturation=0.03),
        frame_colours=Jitter(brightness=0.01, contrast=0.01, saturation=0.01),
        grey=0.05,
        fill=_MEAN_COLOUR,
    ),
    reverse=0.5,
)

PRESETS: Mapping[str, Preset] = MappingProxyType({"paper": _PAPER, "stcn": _STCN})
"""Presets by name.

- `paper`: section 3.5 of the STM paper (arXiv 1904.00607). Each frame of a picture has a random affine map and crop of
  its own. Videos are cropped, all frames of a clip alike. Colours stay. The paper does not give the ranges of the maps;
  those here are ours. Sizes of crops are the sampling's.
- `stcn`: the figures of STCN's code (github.com/hkchengrex/STCN, `static_dataset.py`, `vos_dataset.py` and `tps.py` in
  `dataset/`). Its maps are composed here and applied once: where its second map shows the mean colour around a crop,
  the picture goes on. Interpolation is linear where theirs is cubic.
"""
