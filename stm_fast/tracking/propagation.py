"""A whole clip: from prompts for some frames to a mask for every frame."""

from collections.abc import Collection, Generator, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.inference.frames import Image
from stm_fast.inference.objects import Mask, annotated_objects, to_ids
from stm_fast.inference.segmentation import Segmentation
from stm_fast.media.frames import Frame
from stm_fast.media.masks import object_ids
from stm_fast.tracking.soft import SoftMask, soft_masks

Ids = NDArray[np.uint8] | NDArray[np.int32]


class Correction(NamedTuple):
    """Where objects are in a frame.

    Attributes:
        mask: ids `(H, W)`, 0 for the background.
        objects: the ids that are corrected; one without a pixel is not in the frame. None for those in the mask.
    """

    mask: Mask
    objects: Collection[int] | None = None


@dataclass(frozen=True)
class TrackedFrame:
    """A frame and the objects in it.

    Attributes:
        index: number of the frame in the clip, from 0.
        name: of the frame; its mask is called `<name>.png`.
        image: RGB uint8 `(H, W, 3)`.
        mask: ids `(H, W)`, 0 for the background; uint8, or int32 with ids above 255.
        objects: ids of the objects that are followed, visible or not.
        uncertainty: of each object, see `stm_fast.memory.policies.uncertainty`; None for one that is not found or
            whose mask was given.
        time: seconds since the first frame; None if the source has no time stamps.
        resumed: whether the mask was made by an earlier run.
        soft: probability of each object `(H, W)`, if it was asked for: uint8 from 0 to 255, or uint16 to 65535.
    """

    index: int
    name: str
    image: NDArray[np.uint8]
    mask: Ids
    objects: tuple[int, ...]
    uncertainty: dict[int, float | None]
    time: Fraction | None
    resumed: bool = False
    soft: dict[int, SoftMask] = field(default_factory=dict)


class FrameSegmenter(Protocol):
    """Follows objects from frame to frame: a `Segmenter`, or something that does what it does."""

    @property
    def started(self) -> bool:
        """Whether there is a video."""
        ...

    @property
    def objects(self) -> tuple[int, ...]:
        """Ids of the objects followed now."""
        ...

    def clear(self) -> None:
        """Forget the video."""
        ...

    def start(self, frame: Image, mask: "Mask | None" = None) -> Segmentation:
        """Begin a video."""
        ...

    def step(self, frame: Image) -> Segmentation:
        """Segment the next frame."""
        ...

    def recall(self, frame: Image, mask: Mask) -> None:
        """Take the next frame with a known mask."""
        ...

    def annotate(self, mask: Mask, objects: Collection[int] | None = None) -> Segmentation:
        """Say where objects are in the current frame."""
        ...


class Prompts(Protocol):
    """The prompts of a clip."""

    def new_objects(self, frame: Frame) -> "Mask | None":
        """Return a mask of the objects that join in a frame; None if there are none."""
        ...


class Earlier(Protocol):
    """The masks of an earlier run over the same clip.

    Attributes:
        restored: number of the frame whose state the segmenter has been given; None if it has none.
    """

    restored: int | None

    def mask(self, name: str) -> NDArray[np.uint8] | None:
        """Return the mask of a frame; None if there is none."""
        ...


Corrected = Generator[TrackedFrame, "Correction | Mask | None", None]


def propagate(
    segmenter: FrameSegmenter,
    frames: Iterable[Frame],
    prompts: Prompts,
    *,
    earlier: Earlier | None = None,
    soft: int | None = None,
) -> Corrected:
    """Segment a clip frame by frame.

    Objects join in the frame of the first mask they are in; until then masks are empty. A mask that is sent to the
    generator corrects the last frame, which is yielded again.

    If an earlier run is given, its masks are kept up to the restored frame, and the masks after it are those of an
    uninterrupted run. Without a restored state, the memory is filled from the earlier masks, up to the first frame that
    has none. These masks are hard, while the memory of an uninterrupted run is soft, so the masks after them can differ
    by some pixels at outlines.

    Args:
        segmenter: is started here.
        frames: the clip.
        prompts: that show the objects.
        earlier: what an earlier run has done.
        soft: bits of the probabilities that frames have, 8 or 16; None for none.

    Yields:
        Every frame in order.

    Raises:
        MediaError: a frame or mask cannot be read or does not fit, or a prompt adds an object before the restored
            frame.
        ValueError: a correction is of a frame before the restored one, or differs in size from the frames.
    """
    restored = None if earlier is None else earlier.restored
    if restored is None:
        segmenter.clear()
    recalling = earlier is not None
    for index, frame in enumerate(frames):
        new = prompts.new_objects(frame)
        known = _known_mask(earlier, index, frame.name) if earlier is not None and recalling else None
        recalling = known is not None
        if known is None:
            tracked = _tracked(index, frame, _segment(segmenter, frame.image, new), soft)
        else:
            if restored is None:
                _recall(segmenter, frame.image, known, new)
            elif new is not None:
                _check_followed(new, segmenter.objects, frame.name)
            tracked = TrackedFrame(
                index, frame.name, frame.image, known, object_ids(known), {}, frame.time, resumed=True
            )
        correction = yield tracked
        while correction is not None:
            if restored is not None and index < restored:
                raise ValueError(
                    f"a correction must be of frame {restored} or later in this resumed run, got frame {index}"
                )
            correction = yield replace(
                _tracked(index, frame, _correct(segmenter, frame.image, correction), soft), resumed=tracked.resumed
            )


def check_correction(correction: "Correction | Mask", size: tuple[int, int]) -> None:
    """Make sure that a correction can be used for frames of a size.

    Raises:
        TypeError: the mask is of another type or does not hold integers.
        ValueError: it has another size than the frames or holds no object, or the objects are not ids or none.
    """
    mask, objects = correction if isinstance(correction, Correction) else Correction(correction)
    annotated_objects(to_ids(mask, size, torch.device("cpu")), objects)


def _known_mask(earlier: Earlier, index: int, name: str) -> NDArray[np.uint8] | None:
    """Return the mask that an earlier run made of a frame; None if the frame is to be segmented."""
    if earlier.restored is not None and index > earlier.restored:
        return None
    known = earlier.mask(name)
    if known is None and earlier.restored is not None:
        raise MediaError(
            f"the mask of frame {name} is missing though masks after it are there: put it back, or start the run again"
        )
    return known


def _segment(segmenter: FrameSegmenter, image: NDArray[np.uint8], new: "Mask | None") -> Segmentation | None:
    """Segment the next frame, in which the objects of `new` join; return None before there is one."""
    if not segmenter.started:
        return None if new is None else segmenter.start(image, new)
    result = segmenter.step(image)
    return result if new is None else segmenter.annotate(new)


def _recall(segmenter: FrameSegmenter, image: NDArray[np.uint8], known: NDArray[np.uint8], new: "Mask | None") -> None:
    """Take the next frame with its known mask, in which the objects of `new` join."""
    if segmenter.started:
        segmenter.recall(image, known)
        if new is not None:
            segmenter.annotate(new)
    elif new is not None:
        segmenter.start(image, new)


def _correct(segmenter: FrameSegmenter, image: NDArray[np.uint8], correction: "Correction | Mask") -> Segmentation:
    """Segment the last frame again with a correction."""
    mask, objects = correction if isinstance(correction, Correction) else Correction(correction)
    return segmenter.annotate(mask, objects) if segmenter.started else segmenter.start(image, mask)


def _tracked(index: int, frame: Frame, found: Segmentation | None, soft: int | None) -> TrackedFrame:
    """A frame with what the segmenter found in it; None for nothing."""
    if found is None:
        empty = np.zeros(frame.image.shape[:2], np.uint8)
        return TrackedFrame(index, frame.name, frame.image, empty, (), {}, frame.time)
    unsure = (None if number != number else number for number in found.uncertainty.tolist())
    uncertainty = dict(zip(found.objects, unsure, strict=True))
    mask = found.mask.cpu().numpy()
    planes = {} if soft is None else soft_masks(found, soft)
    return TrackedFrame(index, frame.name, frame.image, mask, found.objects, uncertainty, frame.time, soft=planes)


def _check_followed(new: Mask, followed: Collection[int], name: str) -> None:
    if missing := set(np.unique(np.asarray(new)).tolist()) - {0, *followed}:
        raise MediaError(
            f"the mask that is given for frame {name} shows objects {', '.join(map(str, sorted(missing)))}, which the "
            "run before did not follow: take them out, or start the run again"
        )
