"""Frames of other videos, or pictures, that show objects before the first frame."""

from collections.abc import Sequence

from stm_fast.inference.frame_state import FrameState
from stm_fast.inference.frames import Geometry, Image, fitted
from stm_fast.inference.network import FrameNetwork
from stm_fast.inference.objects import Mask, annotated_objects, to_ids


def frames_before(
    references: Sequence[tuple[Image, Mask]], geometry: Geometry, network: FrameNetwork
) -> list[FrameState]:
    """Return references as frames before the first, each with the objects of all of them.

    Args:
        references: images of any size with their masks, at least one object in each.
        geometry: of the frames.
        network: that the frames are for.

    Raises:
        TypeError: an image or a mask has another type or dtype than `to_rgb` and `to_ids` take.
        ValueError: it has another shape or range, or a mask holds no object.
    """
    parts = []
    for picture, mask in references:
        rgb = network.rgb(picture)
        ids = to_ids(mask, (rgb.shape[2], rgb.shape[3]), network.device)
        shown = annotated_objects(ids, None)
        parts.append((fitted(rgb, geometry.outer), fitted(ids[None, None], geometry.outer)[0, 0], shown))
    objects = tuple(sorted({object_id for *_, shown in parts for object_id in shown}))
    frames = []
    for index, (rgb, ids, _) in enumerate(parts, start=-len(parts)):
        frame = network.frame(index, rgb, geometry)
        frame.annotate(ids, objects)
        frame.chosen = True
        frames.append(frame)
    return frames
