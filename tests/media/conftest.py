"""Small videos and pictures, made on the spot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Frames = list[NDArray[Any]]


@pytest.fixture
def scene() -> Callable[[int, int, int], Frames]:
    """(count, height, width) -> frames with a bright square that moves right over a dark gradient."""

    def make(count: int, height: int, width: int) -> Frames:
        ground = np.linspace(20, 90, width).astype(np.uint8)[None, :, None].repeat(height, 0).repeat(3, 2)
        frames = []
        for index in range(count):
            frame = ground.copy()
            frame[height // 4 : height // 2, index : index + width // 4] = (230, 120, 40)
            frames.append(frame)
        return frames

    return make


@pytest.fixture
def encode() -> Callable[..., Path]:
    """(path, frames, ...) -> a video file at 25 frames a second, a key frame in every four.

    Frames are RGB, RGBA or 16-bit grey. `prepare` is called with the stream before it is opened, other names are
    options of the container.
    """
    import av

    def write(
        path: Path,
        frames: Frames,
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        prepare: Callable[[av.VideoStream], None] = lambda stream: None,
        **options: str,
    ) -> Path:
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = pix_fmt
            stream.gop_size = 4
            prepare(stream)
            kind = {2: "gray16le", 3: "rgb24", 4: "rgba"}[frames[0].ndim if frames[0].ndim == 2 else frames[0].shape[2]]
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=kind)))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """(pixels, mode, name, **options) -> an image file."""

    def save(pixels: NDArray[np.generic], mode: str | None = None, name: str = "mask.png", **options: object) -> Path:
        image = Image.fromarray(np.asarray(pixels))
        (image if mode is None else image.convert(mode)).save(tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture
def discs() -> NDArray[np.uint8]:
    """Ids of two discs, 1 and 2, `(64, 96)`."""
    return np.array(Image.open(Path(__file__).parent / "data" / "mask_truth.png"))
