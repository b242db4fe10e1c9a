"""The video of tracked frames with their masks drawn in."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from stm_fast.errors import ArgumentError
from stm_fast.media.encode import VideoEncoder, video_writer
from stm_fast.media.frames import FrameSource
from stm_fast.media.overlay import blend
from stm_fast.tracking.propagation import TrackedFrame

IMAGES_FPS = Fraction(24)


@dataclass(frozen=True)
class Overlay:
    """How the overlay of a video is drawn.

    Attributes:
        opacity: of the tint over objects, 0 to 1.
        fps: frames per second; None for the video's own times, or 24 for images.

    Raises:
        ArgumentError: one of them is out of range.
    """

    opacity: float = 0.4
    fps: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise ArgumentError("opacity", f"must be from 0 to 1, got {self.opacity}")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ArgumentError("fps", f"must be above 0 or None, got {self.fps}")

    @contextmanager
    def writer(self, path: Path, frames: FrameSource, *, step: int = 1) -> Iterator["OverlayWriter"]:
        """Write the overlay of a video, see `video_writer`.

        Args:
            path: the mp4 file.
            frames: the video.
            step: distance between frames that are shown, which last as long as those of the video that they stand for.

        Yields:
            What takes the tracked frames, in the order of the video.
        """
        rate = Fraction(self.fps) if self.fps else (frames.fps or IMAGES_FPS) / step
        with video_writer(path, rate, frames.pixel_aspect) as encoder:
            yield OverlayWriter(encoder, self)


class OverlayWriter:
    """Draws tracked frames into a video; see `Overlay.writer`."""

    def __init__(self, encoder: VideoEncoder, overlay: Overlay) -> None:
        self._encoder = encoder
        self._overlay = overlay
        self._begin: Fraction | None = None

    def write(self, frame: TrackedFrame, objects: Sequence[int]) -> None:
        """Append a frame.

        Args:
            frame: with its mask.
            objects: ids in the legend.

        Raises:
            OSError: the file cannot be written.
        """
        picture = blend(frame.image, frame.mask, self._overlay.opacity, labels=True, legend=objects)
        if self._overlay.fps or frame.time is None:
            self._encoder.write(picture)
            return
        self._begin = frame.time if self._begin is None else self._begin
        self._encoder.write(picture, frame.time - self._begin)
