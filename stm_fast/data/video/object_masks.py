"""Masks that are stored object by object, and so may overlap."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


class ObjectMasks(ABC):
    """A `stm_fast.media.masks.StoredMask` with a mask of its own for each object."""

    @abstractmethod
    def objects(self) -> Mapping[int, NDArray[np.bool_]]:
        """Read the mask `(H, W)` of each object that is annotated in the frame, by its id; masks may overlap."""

    @abstractmethod
    def read(self) -> NDArray[np.uint8]:
        """Read the ids `(H, W)`; see `flatten`."""


def flatten(objects: Mapping[int, NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return ids `(H, W)` in which a pixel of several objects belongs to the smallest of them.

    Args:
        objects: masks `(H, W)` by id.
        size: height and width.
    """
    ids = np.zeros(size, np.uint8)
    for object_id in sorted(objects, key=lambda each: (-int(objects[each].sum()), each)):
        ids[objects[object_id]] = object_id
    return ids
