"""A whole clip: from prompts for some frames to a mask for every frame."""

from collections.abc import Callable, Collection, Generator, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import count
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.inference.frames import Image
from stm_fast.inference.objects import Mask
from stm_fast.inference.segmentation import Segmentation
from stm_fast.media.frames import Frame
from stm_fast.media.masks import object_ids
from stm_fast.tracking.correction import Correction, as_correction
from stm_fast.tracking.soft import SoftMask, soft_masks

Ids = NDArray[np.uint8] | NDArray[np.int32]


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
    """The prompts and corrections of a clip."""

    def new_objects(self, frame: Frame) -> "Mask | None":
        """Return a mask of the objects that join in a frame; None if there are none."""
        ...

    def correction(self, frame: Frame, seen: Collection[int]) -> Correction | None:
        """Return the correction of a frame in which some objects are seen; None if there is none."""
        ...


class Earlier(Protocol):
    """The masks of an earlier run over the same frames.

    Attributes:
        restored: position of the frame whose state the segmenter has been given, from 0; None if it has none.
        uncorrected: whether that frame has a correction which its state lacks.
    """

    restored: int | None
    uncorrected: bool

    def mask(self, name: str) -> NDArray[np.uint8] | None:
        """Return the mask of a frame; None if there is none."""
        ...


Corrected = Generator[TrackedFrame, "Correction | Mask | None", None]


def propagate(
    segmenter: FrameSegmenter,
    frames: Iterable[Frame],
    prompts: Prompts,
    *,
    numbers: Iterable[int] | None = None,
    earlier: Earlier | None = None,
    begin: int = 0,
    soft: int | None = None,
) -> Corrected:
    """Segment frames in the order in which they come.

    Objects join in the frame of the first mask they are in; until then masks are empty. Corrections change the frames
    that they belong to. A mask that is sent to the generator corrects the last frame, which is yielded again.

    If an earlier run is given, its masks are kept up to the restored frame, and the masks after it are those of an
    uninterrupted run. Without a restored state, the memory is filled from the earlier masks, up to the first frame that
    has none. These masks are hard, while the memory of an uninterrupted run is soft, so the masks after them can differ
    by some pixels at outlines.

    Args:
        segmenter: is started here.
        frames: the clip, or some of its frames in any order.
        prompts: that show the objects.
        numbers: of the frames in the clip; None for 0, 1, 2 and so on.
        earlier: what an earlier run has done.
        begin: position of the first of the frames, up to the restored one.
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
    for position, (index, frame) in enumerate(
        zip(count() if numbers is None else numbers, frames, strict=False), begin
    ):
        new = prompts.new_objects(frame)
        known = _known_mask(earlier, position, frame.name) if earlier is not None and recalling else None
        recalling = known is not None
        if known is None:
            tracked = _tracked(index, frame, _segment(segmenter, frame.image, new), soft)
            if (given := prompts.correction(frame, object_ids(tracked.mask))) is not None:
                tracked = _tracked(index, frame, _correct(segmenter, frame.image, given), soft)
        else:
            given = prompts.correction(frame, object_ids(known))
            tracked = _kept(index, frame, known)
            corrected = None
            if restored is None:
                corrected = _recall(segmenter, frame.image, known, new, given)
            elif new is not None:
                check_followed(new, segmenter.objects, frame.name)
            if given is not None and position == restored and earlier is not None and earlier.uncorrected:
                corrected = _correct(segmenter, frame.image, given)
            if corrected is not None:
                again = _tracked(index, frame, corrected, soft)
                # After a recall, which is of hard masks, the probabilities on disk are the better ones.
                same = np.array_equal(again.mask, known) and (soft is None or restored is None)
                tracked = tracked if same else again
        sent = yield tracked
        while sent is not None:
            if restored is not None and position < restored:
                raise ValueError(
                    f"a correction must be of frame {restored} or later in this resumed run, got frame {position}"
                )
            sent = yield replace(
                _tracked(index, frame, _correct(segmenter, frame.image, sent), soft), resumed=tracked.resumed
            )


def revisit(
    frames: Iterable[Frame], numbers: Iterable[int], mask: Callable[[str], NDArray[np.uint8] | None]
) -> Corrected:
    """Yield frames with masks that were made before, all of them; they cannot be corrected.

    Args:
        frames: some frames of a clip.
        numbers: of the frames in the clip.
        mask: returns the mask of a frame, given by its name; None if there is none.

    Raises:
        MediaError: a frame or mask cannot be read, or a mask is missing.
    """
    for index, frame in zip(numbers, frames, strict=False):
        if (known := mask(frame.name)) is None:
            raise missing_mask(frame.name)
        yield _kept(index, frame, known)


def _known_mask(earlier: Earlier, position: int, name: str) -> NDArray[np.uint8] | None:
    """Return the mask that an earlier run made of a frame; None if the frame is to be segmented."""
    if earlier.restored is not None and position > earlier.restored:
        return None
    known = earlier.mask(name)
    if known is None and earlier.restored is not None:
        raise missing_mask(name)
    return known


def missing_mask(name: str) -> MediaError:
    """Return the error that a mask is not on disk though an earlier run made it."""
    return MediaError(
        f"the mask of frame {name} is missing though masks after it are there: put it back, or start the run again"
    )


def _kept(index: int, frame: Frame, known: NDArray[np.uint8]) -> TrackedFrame:
    """A frame with the mask that an earlier run made of it."""
    return TrackedFrame(index, frame.name, frame.image, known, object_ids(known), {}, frame.time, resumed=True)


def _segment(segmenter: FrameSegmenter, image: NDArray[np.uint8], new: "Mask | None") -> Segmentation | None:
    """Segment the next frame, in which the objects of `new` join; return None before there is one."""
    if not segmenter.started:
        return None if new is None else segmenter.start(image, new)
    result = segmenter.step(image)
    return result if new is None else segmenter.annotate(new)


def _recall(
    segmenter: FrameSegmenter,
    image: NDArray[np.uint8],
    known: NDArray[np.uint8],
    new: "Mask | None",
    given: Correction | None,
) -> Segmentation | None:
    """Take the next frame with its known mask, in which the objects of `new` join and that `given` corrects.

    Returns:
        What it is with the correction; None if there is none.
    """
    if segmenter.started:
        segmenter.recall(image, known)
        if new is not None:
            segmenter.annotate(new)
    elif new is not None:
        segmenter.start(image, new)
    return None if given is None else _correct(segmenter, image, given)


def _correct(segmenter: FrameSegmenter, image: NDArray[np.uint8], correction: "Correction | Mask") -> Segmentation:
    """Segment the last frame again with a correction."""
    mask, objects = as_correction(correction)
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


def check_followed(new: Mask, followed: Collection[int], name: str) -> None:
    """Raise `MediaError` if a mask adds an object before the restored frame that is not followed.

    Args:
        new: the mask.
        followed: ids of the objects that are followed.
        name: of the frame of the mask.
    """
    if missing := set(np.unique(np.asarray(new)).tolist()) - {0, *followed}:
        raise MediaError(
            f"the mask that is given for frame {name} shows objects {', '.join(map(str, sorted(missing)))}, which the "
            "run before did not follow: take them out, or start the run again"
        )
