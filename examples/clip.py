"""Render a clip, so that the examples need no file: two shapes cross on a drifting background."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Clip(NamedTuple):
    """Frames and their true masks.

    Attributes:
        frames: RGB `(T, H, W, 3)` uint8.
        masks: object ids `(T, H, W)` uint8: 0 is background, 1 the ball, 2 the card.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]


def render_clip(length: int = 16, height: int = 192, width: int = 320) -> Clip:
    """Render a red ball that rolls right and a blue card that slides left and hides the ball while they cross."""
    rng = np.random.default_rng(0)
    scenery = texture(rng, height, width + 4 * length, colour=(90, 130, 80), grain=24)
    ball_surface = texture(rng, height, width, colour=(200, 60, 40), grain=8)
    card_surface = texture(rng, height, width, colour=(50, 80, 190), grain=10)
    y, x = np.mgrid[:height, :width]
    frames, masks = [], []
    for index in range(length):
        progress = index / (length - 1)
        ball_x, ball_y = round(width * (0.2 + 0.6 * progress)), round(height * 0.5)
        card_x, card_y = round(width * (0.75 - 0.5 * progress)), round(height * (0.35 + 0.3 * progress))
        ball = np.hypot(x - ball_x, y - ball_y) < 0.18 * height
        card = (abs(x - card_x) < 0.11 * width) & (abs(y - card_y) < 0.16 * height)
        frame = scenery[:, 4 * index : 4 * index + width].copy()
        frame[ball] = moved(ball_surface, ball_x, ball_y)[ball]
        frame[card] = moved(card_surface, card_x, card_y)[card]
        frames.append(frame)
        masks.append(np.where(card, 2, np.where(ball, 1, 0)).astype(np.uint8))
    return Clip(np.stack(frames), np.stack(masks))


def texture(
    rng: np.random.Generator, height: int, width: int, colour: tuple[int, int, int], grain: int
) -> NDArray[np.uint8]:
    """Return smooth noise around a colour, `(height, width, 3)` uint8, with blobs about `grain` pixels wide."""
    coarse = rng.normal(size=(height // grain + 2, width // grain + 2))
    noise = np.asarray(Image.fromarray(coarse.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
    return (np.asarray(colour) + 35 * noise[..., None]).clip(0, 255).astype(np.uint8)


def moved(surface: NDArray[np.uint8], x: int, y: int) -> NDArray[np.uint8]:
    """Move the centre of a surface to (x, y), and wrap the rest around."""
    height, width, _ = surface.shape
    return np.roll(surface, (y - height // 2, x - width // 2), axis=(0, 1))


def intersection_over_union(mask: NDArray[np.integer], truth: NDArray[np.integer], object_id: int) -> float:
    """Return J of one object; 1 if it is in neither mask."""
    seen, true = mask == object_id, truth == object_id
    union = (seen | true).sum()
    return float((seen & true).sum() / union) if union else 1.0
