"""Datasets of a few tiny frames in each layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def image():
    """Save a picture with a square of `value` in a corner."""

    def save(path: Path, value: int = 255) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((24, 32), np.uint8)
        pixels[2:12, 2:12] = value
        Image.fromarray(pixels).save(path)
        return path

    return save
