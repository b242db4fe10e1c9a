"""The asset library: cut-outs and photographs in one size and format on disk."""

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stm_fast.data.synthetic.sources import SOURCES, source_files
from stm_fast.errors import StmFastError

CUTOUT_SIDE = 448
PHOTO_SIDE = 1120
MIN_SIDE = 96
MIN_PHOTO_DETAIL = 4.0
MAX_PIXELS = 50_000_000

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class AssetLibrary:
    """Paths of prepared pictures and models: RGBA cut-outs, RGBA clip art, RGB photographs, models of solids."""

    cutouts: tuple[Path, ...]
    clipart: tuple[Path, ...]
    photos: tuple[Path, ...]
    models: tuple[Path, ...] = ()
    _cache: dict[Path, Picture] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, root: Path) -> "AssetLibrary":
        """Open a library made by `prepare_assets`."""
        kinds = ("cutout", "clipart", "photo", "model")
        cutouts, clipart, photos, models = (tuple(sorted((root / kind).glob("*"))) for kind in kinds)
        if not cutouts or not photos:
            raise StmFastError(f"{root} holds no cut-outs or no photographs; `stm-fast train compact` prepares them")
        return cls(cutouts, clipart, photos, models)

    def load(self, path: Path) -> Picture:
        """Return a picture as uint8 `(H, W, 3 or 4)`; keep it in memory for later calls."""
        if path not in self._cache:
            self._cache[path] = _read(path)
        return self._cache[path]


def prepare_assets(sources: Path, out: Path) -> AssetLibrary:
    """Convert every usable picture under `sources` to one size and format under `out`, and open the library.

    Args:
        sources: folder of unpacked packages, from `fetch_packages`.
        out: folder of the library. It appears when all pictures are ready.

    Raises:
        StmFastError: a package is missing, or there are no cut-outs or no photographs.
    """
    absent = [source.package for source in SOURCES if not (sources / source.package).is_dir()]
    if absent:
        raise StmFastError(f"{sources} lacks the unpacked packages {', '.join(absent)}")
    scratch = out.with_name(f".{out.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    for source in SOURCES:
        for index, image in enumerate(_pictures(source.kind, source_files(source, sources))):
            kind = source.kind if source.kind != "archive" else ("cutout" if image.mode == "RGBA" else "photo")
            prepared = _prepare_photo(image) if kind == "photo" else _prepare_cutout(image)
            if prepared is not None:
                _save(prepared, scratch / kind, f"{source.package}_{index:05d}")
    AssetLibrary.open(scratch)
    scratch.rename(out)
    return AssetLibrary.open(out)


def _save(image: Image.Image, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if image.mode == "RGB":
        image.save(folder / f"{name}.jpg", quality=92)
    else:
        image.save(folder / f"{name}.png")


def _pictures(kind: str, paths: Iterator[Path]) -> Iterator[Image.Image]:
    for path in paths:
        for data in carve_webp(path.read_bytes()) if kind == "archive" else [path.read_bytes()]:
            try:
                image = Image.open(io.BytesIO(data))
                if image.width * image.height > MAX_PIXELS:
                    continue
                has_alpha = "A" in image.getbands() or "transparency" in image.info
                yield image.convert("RGBA" if has_alpha else "RGB")
            except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
                continue


def carve_webp(data: bytes) -> Iterator[bytes]:
    """Yield WebP pictures that are stored uncompressed inside another file; their RIFF headers show where."""
    start = data.find(b"RIFF")
    while start >= 0:
        if data[start + 8 : start + 12] == b"WEBP":
            size = 8 + int.from_bytes(data[start + 4 : start + 8], "little")
            yield data[start : start + size]
        start = data.find(b"RIFF", start + 4)


def _prepare_cutout(image: Image.Image) -> Image.Image | None:
    """Crop a picture to its object and shrink it; return None if it is not a clean cut-out."""
    if image.mode != "RGBA":
        return None
    box = image.getchannel("A").point(lambda a: 255 * (a > 127)).getbbox()
    if box is None:
        return None
    image = image.crop(box)
    cover = float((np.asarray(image)[..., 3] > 127).mean())
    if max(image.size) < MIN_SIDE or min(image.size) < MIN_SIDE // 4 or not 0.12 < cover < 0.97:
        return None
    image.thumbnail((CUTOUT_SIDE, CUTOUT_SIDE), Image.Resampling.LANCZOS)
    return image


def _prepare_photo(image: Image.Image) -> Image.Image | None:
    """Shrink a picture; return None if it is too small or too flat for a background."""
    image = image.convert("RGB")
    if min(image.size) < 2 * MIN_SIDE:
        return None
    image.thumbnail((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS)
    grey = np.asarray(image.convert("L"), np.float32)
    detail = float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
    return image if detail * 3 > MIN_PHOTO_DETAIL else None


def _read(path: Path) -> Picture:
    with Image.open(path) as image:
        return np.asarray(image)
