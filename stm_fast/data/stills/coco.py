"""COCO: images whose masks are polygons and run lengths in one JSON file."""

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.stills.still import Picture, read_image_of
from stm_fast.errors import MediaError, StmFastError
from stm_fast.media.masks import VOID
from stm_fast.media.notices import notice
from stm_fast.media.run_lengths import decode_runs

MIN_AREA = 500
"""Area in pixels of the smallest instance that becomes an object, as in AFB-URR (Liang et al., NeurIPS 2020)."""

_Shape: TypeAlias = tuple["array[float]", ...] | Mapping[str, Any]
"""Polygons x, y, x, y ..., or run lengths."""


class _Instance(NamedTuple):
    image: int
    area: float
    crowd: bool
    shape: _Shape


class _ImageFile(NamedTuple):
    number: int
    file: str
    size: tuple[int, int]


@dataclass(frozen=True)
class CocoStill:
    """An image of COCO.

    Attributes:
        name: name of the image file without its suffix.
        image: image file.
        size: its height and width, for which the shapes are drawn.
        objects: shapes of the objects in the order of their ids, the largest first.
        crowds: shapes of crowds.
        listed_in: the JSON file, for messages.
    """

    name: str
    image: Path
    size: tuple[int, int]
    objects: tuple[_Shape, ...]
    crowds: tuple[_Shape, ...]
    listed_in: Path

    def read(self) -> tuple[Picture, Picture]:
        """Read the image and draw its mask; see `Still.read`.

        Where instances overlap, the smaller one is in front. Crowds are void where no instance is.
        """
        mask = np.zeros(self.size, np.uint8)
        for shape in self.crowds:
            mask[self._drawn(shape)] = VOID
        for number, shape in enumerate(self.objects, 1):
            mask[self._drawn(shape)] = number
        return read_image_of(mask, self.image, f"in {self.listed_in}"), mask

    def _drawn(self, shape: _Shape) -> NDArray[np.bool_]:
        """Return the pixels of a shape `(H, W)`."""
        from pycocotools import mask as coco

        height, width = self.size
        try:
            if not isinstance(shape, Mapping):
                runs = coco.merge(coco.frPyObjects([list(polygon) for polygon in shape], height, width))
            elif isinstance(shape["counts"], list):
                runs = coco.frPyObjects(dict(shape), height, width)
            else:
                runs = shape
            counts = runs["counts"]
            return decode_runs(counts if isinstance(counts, str) else counts.decode(), self.size)
        except (KeyError, TypeError, ValueError, IndexError, MediaError) as error:
            raise MediaError(f"{self.listed_in} has a shape of {self.name} that cannot be drawn: {error!r}") from error


class CocoStills:
    """The images of COCO that have an object.

    Their shapes are held in memory as they are in the file, which takes about one and a half times its size, and drawn
    when a still is read.
    """

    def __init__(self, images: Path, annotations: Path) -> None:
        """Read the JSON file: alone among the layouts this takes many seconds.

        Instances below `MIN_AREA` are background, and crowds are void.

        Args:
            images: folder of images.
            annotations: JSON file such as `instances_train2017.json`.

        Raises:
            MediaError: the file cannot be read, or none of its images with objects is in the folder.
            StmFastError: pycocotools is not installed.
        """
        _check_pycocotools()
        listed, instances = _read(annotations)
        there = {path.name for path in images.iterdir()}
        self._images, self._annotations = images, annotations
        self._listed = sorted((each for each in listed if each.number in instances), key=lambda each: each.file)
        lost = sum(each.file not in there for each in self._listed)
        self._listed = [each for each in self._listed if each.file in there]
        self._instances = {each.number: instances[each.number] for each in self._listed}
        if not self._listed:
            raise MediaError(f"{images} holds none of the images with objects that {annotations} lists")
        if lost:
            notice(f"{annotations} lists images with objects that are not in {images} and are left out: {lost}")

    def __len__(self) -> int:
        return len(self._listed)

    def __getitem__(self, index: int) -> CocoStill:
        number, file, size = self._listed[index]
        instances = self._instances[number]
        return CocoStill(
            file.rpartition(".")[0],
            self._images / file,
            size,
            tuple(each.shape for each in instances if not each.crowd),
            tuple(each.shape for each in instances if each.crowd),
            self._annotations,
        )


def _read(file: Path) -> tuple[list[_ImageFile], dict[int, list[_Instance]]]:
    """Read images, and by their numbers the instances of images that have an object, the largest instance first."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_hook=_compact)
        images, annotations = content["images"], content["annotations"]
        if not all(isinstance(each, _ImageFile) for each in images):
            raise KeyError("file_name, height or width of an image")
        if not all(isinstance(each, _Instance) for each in annotations):
            raise KeyError("segmentation, image_id or area of an annotation")
    except OSError as error:
        raise MediaError(f"{file} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise MediaError(f"{file} lacks the layout of COCO, images and annotations ({error!r})") from error
    instances: dict[int, list[_Instance]] = {}
    for each in annotations:
        if each.crowd or each.area >= MIN_AREA:
            instances.setdefault(each.image, []).append(each)
    shown = {number: found for number, found in instances.items() if not all(each.crowd for each in found)}
    for found in shown.values():
        found.sort(key=lambda each: -each.area)
        if len(found) >= VOID:
            del found[VOID - 1 :]
    return images, shown


def _compact(item: dict[str, Any]) -> object:
    """Reduce an image or an annotation to what is used of it, as soon as it is read: lists of numbers are large."""
    if "segmentation" in item and "image_id" in item:
        shape = item["segmentation"]
        if not isinstance(shape, Mapping):
            shape = tuple(array("d", polygon) for polygon in shape)
        return _Instance(item["image_id"], item["area"], bool(item.get("iscrowd", 0)), shape)
    if "file_name" in item and "height" in item:
        return _ImageFile(item["id"], item["file_name"], (item["height"], item["width"]))
    return item


def _check_pycocotools() -> None:
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError as error:
        raise StmFastError(f"reading COCO needs pycocotools: pip install 'stm-fast[train]' ({error})") from error
