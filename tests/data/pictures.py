"""Small pictures for the tests of synthetic data and of training."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from stm_fast.data.synthetic.assets import AssetLibrary
from stm_fast.data.synthetic.objects import smooth_shape


def photo(rng: np.random.Generator, side: int) -> np.ndarray:
    coarse = rng.integers(0, 256, (side // 8 + 2, side // 8 + 2, 3), np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)


def cutout(rng: np.random.Generator, side: int) -> np.ndarray:
    alpha = smooth_shape((side, side), rng).astype(np.uint8) * 255
    return np.dstack([photo(rng, side), alpha])


def asset_library(root: Path, count: int = 4) -> AssetLibrary:
    rng = np.random.default_rng(0)
    for kind, make, suffix in (("cutout", cutout, "png"), ("photo", photo, "png")):
        (root / kind).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(make(rng, 200)).save(root / kind / f"{index}.{suffix}")
    return AssetLibrary.open(root)
