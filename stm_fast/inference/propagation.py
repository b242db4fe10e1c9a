"""A whole clip: from the masks given for some frames to a mask on disk for every frame."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.inference.checkpoint import Checkpoint
from stm_fast.inference.prompts import Prompter
from stm_fast.inference.resumable import ResumableSegmenter
from stm_fast.media.masks import object_ids, read_mask, write_mask
from stm_fast.media.video import FrameSource


@dataclass(frozen=True)
class SegmentedFrame:
    """A frame whose mask is on disk.

    Attributes:
        index: number of the frame in the clip, from 0.
        name: of the frame and its mask.
        image: RGB uint8 `(H, W, 3)`.
        mask: ids uint8 `(H, W)`.
        resumed: the mask is of an earlier run.
    """

    index: int
    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    resumed: bool


def propagate(
    segmenter: ResumableSegmenter,
    frames: FrameSource,
    prompts: Mapping[str, Path],
    out: str | Path,
    *,
    resume: bool = False,
    checkpoint: Checkpoint | None = None,
) -> Iterator[SegmentedFrame]:
    """Segment a clip and write `out/<frame>.png` for each frame.

    Objects join in the frame of the first mask they are in; before any has joined masks are empty. Each mask is whole
    on disk when its frame is yielded: whoever stops iterating can resume later.

    With a checkpoint, resuming goes on after the frame that it was made at, to the very masks of an uninterrupted run;
    masks of later frames are made again. Without one, the masks that are on disk are taken over, up to the first frame
    that has none, and the memory is filled anew from them. They are hard where the memory of an uninterrupted run is
    soft, and the network sees them at its own size, so masks after the seam can differ by some pixels at outlines.

    Args:
        segmenter: started here.
        frames: the clip.
        prompts: mask files by frame name; see `stm_fast.inference.prompts.find_prompts`.
        out: folder of the masks.
        resume: go on with what is there.
        checkpoint: where the state goes from time to time, and is taken from to resume; deleted at the end.

    Yields:
        Every frame in order.

    Raises:
        MediaError: a frame or mask cannot be read or does not fit, or a mask that was given adds an object before the
            frame of the checkpoint; masks written before stay.
        OSError: a mask cannot be written.
    """
    prompter = Prompter(prompts, frames.size)
    follower = _Follower(segmenter)
    resumed = resume
    at = checkpoint.take(segmenter, sum(1 for _ in Path(out).glob("*.png"))) if checkpoint and resume else None
    follower.started = at is not None
    for index, frame in enumerate(frames):
        path = Path(out) / f"{frame.name}.png"
        if at is None:
            resumed = resumed and path.exists()
        elif resumed := index <= at:
            _check_there(path)
        new = prompter.new_objects(frame)
        if resumed:
            if at is not None and new is not None:
                _check_followed(object_ids(new), segmenter.objects, prompts[frame.name])
            mask = _saved(path, frames.size)
            if at is None:
                follower.recall(frame.image, mask, new)
        else:
            mask = follower.segment(frame.image, new)
            write_mask(path, mask)
            if checkpoint and follower.started:
                checkpoint.reach(segmenter, index)
        yield SegmentedFrame(index, frame.name, frame.image, mask, resumed)
    if checkpoint:
        checkpoint.clear()


class _Follower:
    """A segmenter that starts with the first object, and takes frames before it as empty."""

    def __init__(self, segmenter: ResumableSegmenter) -> None:
        self.segmenter = segmenter
        self.started = False

    def segment(self, image: NDArray[np.uint8], new: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """The mask of the next frame, in which the objects of `new` join."""
        if not self.started:
            return np.zeros(image.shape[:2], np.uint8) if new is None else self._start(image, new)
        result = self.segmenter.step(image)
        if new is not None:
            result = self.segmenter.annotate(new, object_ids(new))
        return result.mask.cpu().numpy()

    def recall(self, image: NDArray[np.uint8], mask: NDArray[np.uint8], new: NDArray[np.uint8] | None) -> None:
        """Take the next frame with its known mask, in which the objects of `new` join."""
        if not self.started:
            if new is not None:
                self._start(image, new)
            return
        self.segmenter.recall(image, mask)
        if new is not None:
            self.segmenter.annotate(new, object_ids(new))

    def _start(self, image: NDArray[np.uint8], new: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.started = True
        return self.segmenter.start(image, new).mask.cpu().numpy()


def _check_followed(new: Sequence[int], followed: Sequence[int], path: Path) -> None:
    if missing := set(new) - set(followed):
        raise MediaError(
            f"{path} shows objects {', '.join(map(str, sorted(missing)))}, which the run before did not follow: take "
            "them out, or start the run again"
        )


def _check_there(path: Path) -> None:
    if not path.exists():
        raise MediaError(f"{path} is missing though masks after it are there: put it back, or start the run again")


def _saved(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask of an earlier run."""
    mask = read_mask(path)
    if mask.shape != size:
        raise MediaError(
            f"{path} is {mask.shape[1]}×{mask.shape[0]} but the frames are {size[1]}×{size[0]}: it is not of this clip"
        )
    return mask
