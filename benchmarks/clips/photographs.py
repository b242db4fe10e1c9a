"""Photographs that ship with scikit-image, in any colour, for the objects and scenes of the long clip.

All are CC0 or in the public domain: the astronaut and Hubble's deep field (NASA), bricks, grass and gravel
(CC0Textures), the cameraman (Lav Varshney), Chelsea the cat (Stéfan van der Walt), coffee (Rachel Michetti), a retina
(Mikael Häggström) and the Falcon 9 (SpaceX).
"""

import colorsys
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from stm_fast.errors import StmFastError

Floats = NDArray[np.float32]
Rng = np.random.Generator

COLOURED = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "retina", "rocket")
GREY = ("brick", "camera", "grass", "gravel")
_PATTERNED = (*(name for name in COLOURED if name != "hubble_deep_field"), *GREY)  # without the black sky

# Colours of a grey photograph's dark and light parts in a scene.
_NATURAL = {
    "brick": ("#3a1a12", "#e0a88c"),
    "camera": ("#101820", "#d8dce0"),
    "grass": ("#10240c", "#b8d070"),
    "gravel": ("#2c2824", "#e4dccc"),
}

TEXELS = 112
_CROP = (0.35, 0.6)  # side of a crop, as a share of the photograph's shorter side
_CANDIDATES = 5
_SEAM = 0.03  # width of a side's dark rim, as a share of the side
_BLACK = 0.1  # brightness of a side's darkest parts, so that they are visible in a dark scene

SCENE_SIZE = (480, 720)
_DEFOCUS = 1.2


def scenes() -> list[Floats]:
    """Return every photograph as a scene, a little out of focus: float32 `(480, 720, 3)` in [0, 1]."""
    pictures = {name: _photograph(name) for name in COLOURED}
    pictures |= {name: ImageOps.colorize(_photograph(name).convert("L"), *_NATURAL[name]) for name in GREY}
    fitted = (ImageOps.fit(picture, SCENE_SIZE[::-1], Image.Resampling.LANCZOS) for picture in pictures.values())
    return [_floats(picture.filter(ImageFilter.GaussianBlur(_DEFOCUS))) for picture in fitted]


def sides(count: int, rng: Rng) -> Floats:
    """Return details of `count` different photographs, recoloured, float32 `(count, 112, 112, 3)` in [0, 1].

    Each has a dark rim, which makes a seam between neighbours.
    """
    names = rng.choice(_PATTERNED, count, replace=False)
    edge = 1 - np.abs(2 * (np.arange(TEXELS, dtype=np.float32) + 0.5) / TEXELS - 1)
    rim = np.clip(np.minimum.outer(edge, edge) / (2 * _SEAM), 0.3, 1)[..., None]
    details = (_floats(_recoloured(name, _detail(name, rng), rng)) for name in names)
    return np.stack([(_BLACK + (1 - _BLACK) * detail) * rim for detail in details])


def _detail(name: str, rng: Rng) -> Image.Image:
    """Draw some parts of a photograph and return the one with most contrast."""
    picture = _photograph(name)
    crops = []
    for _ in range(_CANDIDATES):
        side = round(rng.uniform(*_CROP) * min(picture.size))
        left, top = (int(rng.integers(length - side + 1)) for length in picture.size)
        box = (left, top, left + side, top + side)
        crops.append(picture.resize((TEXELS, TEXELS), Image.Resampling.BOX, box=box))
    return max(crops, key=lambda crop: float(np.std(np.asarray(crop.convert("L")))))


def _recoloured(name: str, picture: Image.Image, rng: Rng) -> Image.Image:
    """Shift the hues of a coloured picture; give a grey one two colours."""
    if name in GREY:
        dark, light = rng.random(2)
        black, white = colorsys.hsv_to_rgb(dark, 0.7, 0.25), colorsys.hsv_to_rgb(light, 0.6, 1.0)
        ends = (tuple(round(255 * value) for value in colour) for colour in (black, white))
        return ImageOps.colorize(ImageOps.autocontrast(picture.convert("L"), cutoff=1), *ends)
    hue, *others = ImageOps.autocontrast(picture, cutoff=1).convert("HSV").split()
    turned = (np.asarray(hue) + rng.integers(256)).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned), *others)).convert("RGB")


@cache
def _photograph(name: str) -> Image.Image:
    try:
        from skimage import data
    except ImportError as error:
        raise StmFastError("the long clip needs scikit-image's pictures: pip install 'stm-fast[demo]'") from error
    return Image.fromarray(getattr(data, name)()).convert("RGB")


def _floats(picture: Image.Image) -> Floats:
    return np.asarray(picture, np.float32) / 255
