"""The masks of single objects, their boxes, and their run lengths by pycocotools."""

from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import StmFastError
from stm_fast.export.result import MaskedFrame
from stm_fast.media.extent import extent


class Box(NamedTuple):
    """The smallest box around an object: its first column and row, and how many of each it has."""

    left: int
    top: int
    width: int
    height: int


def box_of(mask: NDArray[np.bool_]) -> Box:
    """Return the box of a mask `(H, W)` that is not empty."""
    rows, columns = extent(mask)
    return Box(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)


class RunLength(NamedTuple):
    """An object in a frame as COCO has it.

    Attributes:
        segmentation: `size` (height, width) and compressed `counts`.
        box: around it.
        area: in pixels.
    """

    segmentation: dict[str, object]
    box: Box
    area: int


class RunLengths:
    """Encodes masks as the run lengths of COCO.

    Raises:
        StmFastError: pycocotools is not installed.
    """

    def __init__(self) -> None:
        try:
            import pycocotools.mask
        except ImportError as error:
            raise StmFastError(f"this format needs pycocotools: pip install 'stm-fast[export]' ({error})") from error
        self._coder: ModuleType = pycocotools.mask

    def of(self, frame: MaskedFrame, object_id: int) -> RunLength:
        """Return the run length of an object that is in a frame."""
        mask = frame.mask == object_id
        encoded = self._coder.encode(np.asfortranarray(mask.astype(np.uint8)))
        segmentation = {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}
        return RunLength(segmentation, box_of(mask), int(np.count_nonzero(mask)))
