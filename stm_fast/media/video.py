"""Frames of a video file or of a folder of images, one at a time."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stm_fast.errors import MediaError
from stm_fast.media.notices import notice

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class Frame(NamedTuple):
    """One frame of a clip.

    Attributes:
        name: what its mask is called, without a suffix: the image's stem, or the frame's number as five digits.
        image: RGB uint8 `(H, W, 3)`.
        time: seconds since the first frame; None if the source has no clock.
    """

    name: str
    image: NDArray[np.uint8]
    time: Fraction | None = None


class FrameSource(ABC):
    """A clip that can be iterated any number of times; it is decoded while it is iterated and never held as a whole.

    Iterating raises `MediaError` at the first frame that cannot be read or has another size than the first; all frames
    before it have been delivered by then.

    Attributes:
        path: the video file or the folder.
        size: height and width of every frame, in pixels, after rotation.
        fps: frames a second, or None for images.
        count: number of frames as far as the source tells without being decoded, or None.
        first_name: name of the first frame.
    """

    path: Path
    size: tuple[int, int]
    fps: Fraction | None
    count: int | None
    first_name: str

    @abstractmethod
    def _decode(self) -> Iterator[Frame]:
        """All frames in order, of whatever size they have."""

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._decode():
            height, width = frame.image.shape[:2]
            if (height, width) != self.size:
                raise MediaError(
                    f"frame {frame.name} of {self.path} is {width}×{height} but the clip began at "
                    f"{self.size[1]}×{self.size[0]}: all frames must have one size"
                )
            yield frame

    @abstractmethod
    def may_hold(self, name: str) -> bool:
        """Whether a frame can have this name."""

    def has_file(self, path: Path) -> bool:
        """Whether a file is one of the frames."""
        return False


class ImageFolder(FrameSource):
    """The images of a folder, in natural order of their names: `frame_2` comes before `frame_10`.

    Args:
        path: the folder; files that are not images, and hidden files, are passed over.

    Raises:
        MediaError: no image in the folder, two images of one name, or an unreadable first image.
    """

    fps = None

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._files = list_images(self.path)
        if not self._files:
            raise MediaError(f"{self.path} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        self.count = len(self._files)
        self.first_name, first = next(iter(self._files.items()))
        height, width = read_image(first).shape[:2]
        self.size = (height, width)

    def _decode(self) -> Iterator[Frame]:
        for name, file in self._files.items():
            yield Frame(name, read_image(file))

    def may_hold(self, name: str) -> bool:
        """Whether a frame can have this name."""
        return name in self._files

    def has_file(self, path: Path) -> bool:
        """Whether a file is one of the frames."""
        return path.resolve() in {file.resolve() for file in self._files.values()}


class VideoFile(FrameSource):
    """A video file decoded by FFmpeg, turned as its rotation metadata says.

    Args:
        path: any file that FFmpeg reads.

    Raises:
        MediaError: the file is unreadable, has no video stream or not one frame that can be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with _open_video(self.path) as container:
            stream = _video_stream(container, self.path)
            self.fps = stream.average_rate or stream.guessed_rate
            self._packets = stream.frames or None
            self.count = self._packets or _estimated_count(container, stream)
        first = next(self._decode(), None)
        if first is None:
            raise MediaError(f"{self.path} has no frame that can be decoded")
        self.first_name = first.name
        height, width = first.image.shape[:2]
        self.size = (height, width)

    def _decode(self) -> Iterator[Frame]:
        from av.error import FFmpegError

        with _open_video(self.path) as container:
            stream = _video_stream(container, self.path)
            stream.thread_type = "AUTO"
            index = packets = 0
            try:
                for packet in container.demux(stream):
                    packets += packet.size > 0
                    for frame in packet.decode():
                        yield Frame(f"{index:05d}", _upright(frame))
                        index += 1
            except FFmpegError as error:
                raise MediaError(self._broken_off(index, str(error.strerror))) from error
            if self._packets and packets < self._packets:
                raise MediaError(self._broken_off(index, "the file ends early"))
            if self.count and index < 0.9 * self.count:
                notice(
                    f"{self.path} gave {index} frames where its duration promises about {self.count}: it may be cut off"
                )

    def _broken_off(self, frames: int, reason: str) -> str:
        expected = f" of {self.count}" if self.count else ""
        return f"{self.path} breaks off after {frames}{expected} frames: {reason}"

    def may_hold(self, name: str) -> bool:
        """Whether a frame can have this name."""
        return name.isdecimal() and name == f"{int(name):05d}" and (self._packets is None or int(name) < self._packets)


def open_frames(path: str | Path) -> FrameSource:
    """The frames of a video file, or of a folder of images.

    Args:
        path: a file that FFmpeg reads, or a folder.

    Raises:
        MediaError: nothing is there, or what is there cannot be read as video.
    """
    path = Path(path)
    if path.is_dir():
        return ImageFolder(path)
    if not path.exists():
        raise MediaError(f"{path} does not exist: a video file or a folder of images is needed")
    return VideoFile(path)


def list_images(folder: str | Path) -> dict[str, Path]:
    """The images of a folder by stem, in natural order.

    Raises:
        MediaError: two images have one stem, so their masks would have one name.
    """
    images: dict[str, Path] = {}
    for file in sorted(Path(folder).iterdir(), key=lambda file: _natural_key(file.name)):
        if file.suffix.lower() not in IMAGE_SUFFIXES or file.name.startswith("."):
            continue
        if file.stem in images:
            raise MediaError(f"{file.name} and {images[file.stem].name} in {folder} have one name: keep one of them")
        images[file.stem] = file
    return images


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """An image as RGB uint8 `(H, W, 3)`, turned as its EXIF orientation says; 16-bit grey is scaled to 8 bits.

    Raises:
        MediaError: the file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode == "F":
                raise MediaError(f"{path} has floating pixels: frames have 8 or 16 bits")
            if upright.mode.startswith("I"):
                upright = Image.fromarray((np.asarray(upright) / 257).clip(0, 255).astype(np.uint8))
            return np.array(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"{path} cannot be read as an image: {error}") from error


def _natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts runs of digits by their value; a name that differs only in leading zeros keeps a fixed place."""
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _open_video(path: Path) -> "InputContainer":
    import av
    from av.error import FFmpegError

    try:
        return av.open(str(path.absolute()), metadata_errors="ignore")
    except FFmpegError as error:
        raise MediaError(f"{path} cannot be read as video: {error.strerror}") from error


def _video_stream(container: "InputContainer", path: Path) -> "VideoStream":
    if not container.streams.video:
        raise MediaError(f"{path} has no video stream")
    return container.streams.video[0]


def _estimated_count(container: "InputContainer", stream: "VideoStream") -> int | None:
    """Frames by duration and rate, for formats that do not store their number."""
    import av

    rate = stream.average_rate or stream.guessed_rate
    if stream.duration and stream.time_base:
        seconds = stream.duration * stream.time_base
    elif container.duration:
        seconds = Fraction(container.duration, av.time_base)
    else:
        return None
    return round(seconds * rate) if rate else None


def _upright(frame: "VideoFrame") -> NDArray[np.uint8]:
    """RGB of a decoded frame, turned by the display matrix."""
    image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
