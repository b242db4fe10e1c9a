"""`supervision.Detections` from masks: for its annotators, trackers, zones and datasets."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stm_fast.errors import StmFastError
from stm_fast.export.options import ExportOptions
from stm_fast.inference.segmentation import Segmentation
from stm_fast.media.extent import extent
from stm_fast.tracking.propagation import TrackedFrame

if TYPE_CHECKING:
    from supervision import Detections


def to_detections(
    result: "Segmentation | TrackedFrame | NDArray[np.integer] | Tensor", *, categories: Mapping[int, str] | None = None
) -> "Detections":
    """Return the objects of a frame as `supervision.Detections`.

    ```python
    detections = to_detections(segmenter.step(frame))
    picture = supervision.MaskAnnotator().annotate(frame.copy(), detections)
    ```

    Objects without a pixel are left out. `tracker_id` is the id of the object. Boxes go from the first column and row
    of an object to the end of the last.

    Args:
        result: what `Segmenter.step` returns, a frame of `stm_fast.track`, or ids `(H, W)`, 0 for the background.
        categories: what objects are, by id. `class_id` then counts these names from 0 in the order of ids, objects
            without one are of the category "object", and `data["class_name"]` has the names. None makes every object a
            class of its own, whose `class_id` is its id.

    Returns:
        N objects: `xyxy` `(N, 4)` float32, `mask` `(N, H, W)`, `tracker_id`, `class_id`, and `confidence`, the mean
        probability over the object's pixels; None if the result has no probabilities.

    Raises:
        StmFastError: supervision is not installed.
        TypeError: the result is of another type, or ids are not integers.
        ValueError: ids are not `(H, W)`.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise StmFastError(f"detections need supervision: pip install supervision ({error})") from error
    ids = _ids(result)
    objects = [object_id for object_id in np.unique(ids).tolist() if object_id]
    masks = ids[None] == np.array(objects, ids.dtype).reshape(-1, 1, 1)
    classes = np.array(objects, int)
    data: dict[str, Any] = {}
    if categories is not None:
        options = ExportOptions(categories)
        own = [options.category(object_id) for object_id in objects]
        classes = np.array([options.category_numbers[name] - 1 for name in own], int)
        data["class_name"] = np.array(own, str)
    return Detections(
        xyxy=np.array([_box(mask) for mask in masks], np.float32).reshape(-1, 4),
        mask=masks,
        confidence=_confidence(result, objects, masks),
        class_id=classes,
        tracker_id=np.array(objects, int),
        data=data,
    )


def _ids(result: Any) -> NDArray[np.integer]:
    """Return the ids `(H, W)` of a result."""
    mask = result.mask if isinstance(result, Segmentation | TrackedFrame) else result
    if isinstance(mask, Tensor):
        mask = mask.cpu().numpy()
    if not isinstance(mask, np.ndarray):
        raise TypeError(f"result must be a Segmentation, a TrackedFrame or ids, got {type(result).__name__}")
    if mask.dtype.kind not in "iub":
        raise TypeError(f"result must hold integer ids, got {mask.dtype}")
    if mask.ndim != 2:
        raise ValueError(f"result must be ids (H, W), got {mask.shape}")
    return mask.astype(np.uint8) if mask.dtype.kind == "b" else mask


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = extent(mask)
    return columns.start, rows.start, columns.stop, rows.stop


def _confidence(result: object, objects: list[int], masks: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Return the mean probability of each object over its pixels; None if there are no probabilities."""
    if isinstance(result, Segmentation):
        planes = result.probabilities.cpu().numpy()
        levels = {object_id: planes[row] for row, object_id in enumerate(result.objects, 1)}
    elif isinstance(result, TrackedFrame) and result.soft:
        levels = {object_id: plane / np.iinfo(plane.dtype).max for object_id, plane in result.soft.items()}
    else:
        return None
    return np.array(
        [levels[object_id][mask].mean() for object_id, mask in zip(objects, masks, strict=True)], np.float32
    )
