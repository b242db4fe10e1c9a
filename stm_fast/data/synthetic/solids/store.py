"""Files of a package: in a folder, or in an archive inside it."""

import io
import posixpath
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stm_fast.data.synthetic.solids.model import Picture

MAX_TEXTURE_PIXELS = 20_000_000


class Store:
    """The files of a folder or of a ZIP archive, found by names whose case does not count.

    Args:
        root: a folder, or an archive.

    Raises:
        ValueError: the archive is damaged.
    """

    def __init__(self, root: Path) -> None:
        self._archive: zipfile.ZipFile | None = None
        if root.is_dir():
            self._paths = {
                path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()
            }
            names = list(self._paths)
        else:
            try:
                self._archive = zipfile.ZipFile(root)
            except zipfile.BadZipFile as error:
                raise ValueError(f"{root}: {error}") from error
            names = [name for name in self._archive.namelist() if not name.endswith("/")]
        self._names = {name.lower(): name for name in names}

    def names(self, suffix: str) -> list[str]:
        """Return the names that end with `suffix`, sorted."""
        return sorted(name for key, name in self._names.items() if key.endswith(suffix))

    def find(self, *names: str) -> str | None:
        """Return the first of several names that there is, or None."""
        for name in names:
            found = self._names.get(posixpath.normpath(name.replace("\\", "/")).lower())
            if found is not None:
                return found
        return None

    def read(self, name: str) -> bytes:
        """Return a file's contents.

        Raises:
            ValueError: there is no such file, or it cannot be read.
        """
        found = self.find(name)
        if found is None:
            raise ValueError(f"no file {name}")
        try:
            return self._archive.read(found) if self._archive is not None else self._paths[found].read_bytes()
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:
            raise ValueError(f"{name}: {error}") from error

    def picture(self, name: str) -> Picture:
        """Return a picture as `(h, w, 3)` uint8, or `(h, w, 4)` if it is not opaque.

        Raises:
            ValueError: there is no such file, or it is no picture.
        """
        try:
            image = Image.open(io.BytesIO(self.read(name)))
            if image.width * image.height > MAX_TEXTURE_PIXELS:
                raise ValueError(f"{name} has {image.width} × {image.height} pixels")
            picture = np.asarray(image.convert("RGBA"))
        except (
            UnidentifiedImageError,
            OSError,
            SyntaxError,
            NotImplementedError,
            Image.DecompressionBombError,
        ) as error:
            raise ValueError(f"{name}: {error}") from error
        return picture if (picture[..., 3] < 128).any() else np.ascontiguousarray(picture[..., :3])


def numbers(data: bytes, kind: str, count: int, place: int) -> NDArray[Any]:
    """Return `count` numbers of a NumPy type that begin at byte `place`.

    Raises:
        ValueError: the data ends before them.
    """
    if place < 0 or count < 0 or place + count * np.dtype(kind).itemsize > len(data):
        raise ValueError(f"{count} numbers at byte {place} do not fit into {len(data)} bytes")
    return np.frombuffer(data, kind, count, place)


def flat_colour(red: float, green: float, blue: float) -> Picture:
    """Return a texture of one colour, whose parts are in [0, 1]."""
    return np.full((4, 4, 3), np.clip(np.array([red, green, blue]) * 255, 0, 255), np.uint8)
