"""Images as frames: files in a folder, pages of a stack or pictures of an animation."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.frames import Frame, FrameSource, is_number, numbered
from stm_fast.media.levels import Pixels, Scaler
from stm_fast.media.pictures import check_hyperstack, frame_pages, open_image, read_pixels, shown_seconds

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
SAMPLES = 8  # frames from which the range of deep pixels is found

T = TypeVar("T")


class ImageFiles(FrameSource):
    """Images, each of them a frame.

    Args:
        path: folder or pattern of the files, for messages.
        files: image files by the name of their frame, in order.

    Raises:
        MediaError: there is no image, or the first one is unreadable or has several pages.
    """

    fps = None

    def __init__(self, path: Path | str, files: Mapping[str, Path]) -> None:
        self.path = path
        self._files = files
        self._names = list(files)
        self._numbers = {name: number for number, name in enumerate(files)}
        self._scaler = Scaler(path)
        self.count = len(files)
        self.first_name, first = next(iter(files.items()))
        pixels = _read_single(first)
        if pixels.dtype != np.uint8:
            others = _spread(list(files.values())[1:])
            self._scaler.look([pixels, *_readable(_read_single, others)])
        self.size = (pixels.shape[0], pixels.shape[1])

    def _decode(self) -> Iterator[Frame]:
        return self._decode_some(range(len(self._names)))

    def _decode_some(self, numbers: range) -> Iterator[Frame]:
        for number in numbers:
            if number >= len(self._names):
                return
            name = self._names[number]
            yield Frame(name, self.read(name))

    def name_of(self, number: int) -> str | None:
        """Return the name of a frame, given its number from 0; None if there is none."""
        return self._names[number] if number < len(self._names) else None

    def number_of(self, name: str) -> int | None:
        """Return the number of a frame, given its name; None if there is none."""
        return self._numbers.get(name)

    def read(self, name: str) -> NDArray[np.uint8]:
        """Read one frame, RGB uint8 `(H, W, 3)`, as iterating yields it.

        Raises:
            KeyError: there is no frame of this name.
            MediaError: the file cannot be read.
        """
        return self._scaler.rgb(_read_single(self._files[name]))

    def may_hold(self, name: str) -> bool:
        """Return whether a frame can have this name."""
        return name in self._files

    def has_file(self, path: Path) -> bool:
        """Return whether a file is one of the frames."""
        return path.resolve() in {file.resolve() for file in self._files.values()}

    def file_of(self, name: str) -> Path | None:
        """Return the image file of a frame; None if there is no such frame."""
        return self._files.get(name)


class ImageStack(FrameSource):
    """The pages of a TIFF, or the pictures of an animated WebP, PNG or GIF. A single picture is a clip of one frame.

    Pages that are marked as thumbnails or masks of others are skipped. Animations have time stamps.

    Args:
        path: the file.

    Raises:
        MediaError: the file is unreadable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._scaler = Scaler(path)
        with open_image(path) as image:
            self._pages = frame_pages(image, path)
            check_hyperstack(image, len(self._pages), path)
            first = read_pixels(image, self._pages[0], path)
            duration = shown_seconds(image) if len(self._pages) > 1 else None
            if first.dtype != np.uint8:
                others = _spread(self._pages[1:])
                self._scaler.look([first, *_readable(lambda page: read_pixels(image, page, path), others)])
        self.count = len(self._pages)
        self.fps = 1 / duration if duration else None
        self.first_name = numbered(0)
        self.size = (first.shape[0], first.shape[1])

    def _decode(self) -> Iterator[Frame]:
        time = Fraction(0)
        with open_image(Path(self.path)) as image:
            for index, page in enumerate(self._pages):
                pixels = read_pixels(image, page, self.path)
                yield Frame(numbered(index), self._scaler.rgb(pixels), time if self.fps else None)
                time += shown_seconds(image) or 0

    def _decode_some(self, numbers: range) -> Iterator[Frame]:
        if numbers.step > 0:
            yield from super()._decode_some(numbers)
            return
        times = self._times()
        with open_image(Path(self.path)) as image:
            for number in numbers:
                pixels = self._scaler.rgb(read_pixels(image, self._pages[number], self.path))
                yield Frame(numbered(number), pixels, times[number] if self.fps else None)

    def frame(self, number: int) -> Frame:
        """Return one frame; see `FrameSource.frame`. The frame has no time."""
        if not 0 <= number < len(self._pages):
            return super().frame(number)
        with open_image(Path(self.path)) as image:
            return Frame(numbered(number), self._scaler.rgb(read_pixels(image, self._pages[number], self.path)))

    def _times(self) -> list[Fraction]:
        """Return the time stamps of all pictures."""
        times = [Fraction(0)]
        if self.fps:
            with open_image(Path(self.path)) as image:
                for page in self._pages:
                    read_pixels(image, page, self.path)
                    times.append(times[-1] + (shown_seconds(image) or 0))
        return times

    def may_hold(self, name: str) -> bool:
        """Return whether a frame can have this name."""
        return is_number(name, self.count)

    def has_file(self, path: Path) -> bool:
        """Return whether a file is this one."""
        return path.resolve() == Path(self.path).resolve()


def count_pages(path: str | Path) -> int:
    """Return the number of frames that an image file holds.

    Raises:
        MediaError: the file cannot be read as an image.
    """
    with open_image(Path(path)) as image:
        return len(frame_pages(image, path))


def list_images(folder: str | Path) -> dict[str, Path]:
    """List the images of a folder by stem, in natural order: `frame_2` comes before `frame_10`.

    Files that are not images, and hidden files, are skipped.

    Raises:
        MediaError: two images have the same stem, so their masks would have the same name.
    """
    return by_stem(
        file for file in sorted(Path(folder).iterdir(), key=lambda file: natural_key(file.name)) if _is_image(file)
    )


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")


def has_images(folder: str | Path) -> bool:
    """Return whether a folder exists and holds an image."""
    folder = Path(folder)
    return folder.is_dir() and any(_is_image(file) for file in folder.iterdir())


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Return files by stem, in the order given.

    Raises:
        MediaError: two files have the same stem, so their masks would have the same name.
    """
    images: dict[str, Path] = {}
    for file in files:
        if file.stem in images:
            raise MediaError(
                f"{file.name} and {images[file.stem].name} in {file.parent} have the same name: keep one of them"
            )
        images[file.stem] = file
    return images


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts digits by value, and names that differ only in leading zeros by text."""
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image as RGB uint8 `(H, W, 3)`, turned as its EXIF orientation says and scaled to 8 bits by `Scaler`.

    Raises:
        MediaError: the file cannot be read as an image, or has several pages.
    """
    return Scaler(path).rgb(_read_single(Path(path)))


def _read_single(path: Path) -> Pixels:
    with open_image(path) as image:
        pages = frame_pages(image, path)
        if len(pages) > 1:
            raise MediaError(
                f"{path} has {len(pages)} pages, but each image of a folder is one frame: give the file itself as the "
                "video, or one image for each frame"
            )
        return read_pixels(image, pages[0], path)


def _spread(items: list[T]) -> list[T]:
    """Return some of the items, evenly spaced."""
    step = -(-len(items) // SAMPLES) or 1
    return items[step - 1 :: step]


def _readable(read: Callable[[T], Pixels], items: Iterable[T]) -> Iterator[Pixels]:
    """Yield those of the items that can be read; the others raise later, when they are decoded."""
    for item in items:
        with suppress(MediaError):
            yield read(item)
