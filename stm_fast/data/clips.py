"""Datasets: clips with frames, prompts and masks to score against or to train on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.clip_masks import ClipMasks
from stm_fast.media.frames import FrameSource
from stm_fast.media.images import ImageFiles, list_images
from stm_fast.media.masks import MaskFile, fit_mask
from stm_fast.media.sources import open_frames


@dataclass(frozen=True)
class Clip:
    """One annotated clip.

    Attributes:
        name: the clip's name in its dataset and the name of its folder of results.
        frames: a folder of images or a video file.
        prompts: masks for the segmenter, by frame name; an object is followed from the first one that shows it.
        truth: masks to score against, by frame name; frames without one are not scored. If they show only the first
            appearance of each object, nothing can be scored; see `stm_fast.data.truth`.
        wanted: names of the frames whose masks are results; None for all.
        categories: what each object is, by its id; empty if the dataset does not say.
        void: id of pixels in `prompts` and `truth` that belong to no object and are not scored, or None.
    """

    name: str
    frames: Path
    prompts: Mapping[str, MaskFile]
    truth: Mapping[str, MaskFile]
    wanted: frozenset[str] | None = None
    categories: Mapping[int, str] = field(default_factory=dict)
    void: int | None = None

    def open(self) -> FrameSource:
        """Open the clip's frames in their order; see `stm_fast.media.sources.open_frames`."""
        return open_frames(self.frames)

    def frame_names(self) -> list[str]:
        """List the names of all frames, in order.

        Raises:
            MediaError: the frames are not a folder of images, so they cannot be read one by one.
        """
        return list(self._images)

    def read_frame(self, name: str) -> NDArray[np.uint8]:
        """Read one frame by its name, RGB uint8 `(H, W, 3)`.

        Raises:
            KeyError: there is no frame of this name.
            MediaError: the frames are not a folder of images, or the image cannot be read.
        """
        return self._source.read(name)

    def read_truth(self, name: str) -> NDArray[np.uint8]:
        """Read the true ids of one frame, uint8 `(H, W)`. 0 is background; pixels that are void keep the id `void`.

        An object has the same id in all frames. A mask that differs in size from the frames is resized, with a notice.

        Raises:
            KeyError: the frame has no true mask.
            MediaError: the frames are not a folder of images, or the mask differs from them in aspect or cannot be
                read; see `stm_fast.media.clip_masks`.
        """
        return fit_mask(self._masks.read(name), self._source.size, self.truth[name])

    @cached_property
    def _images(self) -> Mapping[str, Path]:
        """The images of the clip, by frame name."""
        if not self.frames.is_dir():
            raise MediaError(f"{self.frames} is not a folder of images: save the frames as images to read them singly")
        return list_images(self.frames)

    @cached_property
    def _source(self) -> ImageFiles:
        return ImageFiles(self.frames, self._images)

    @cached_property
    def _masks(self) -> ClipMasks:
        return ClipMasks(self.truth, self.void)


@dataclass(frozen=True)
class Submission:
    """What the server that scores a set wants.

    Attributes:
        text: what to send, as the object of "send", with `{masks}` for the folder of results.
        zip_root: folder inside the zip that holds the folders of clips; empty if they are not in a folder.
        template: a JSON file whose form the results take instead of a zip, as in BURST; see
            `stm_fast.data.video.burst.predictions`.
    """

    text: str
    zip_root: str = ""
    template: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """A named set of clips.

    Attributes:
        name: dataset and set, for reports.
        clips: the clips, in the order of the set.
        masks_folder: where this layout keeps masks, one folder per clip, relative to the dataset's root.
        submission: what to send to the server that scores the set; None if no server is known.
        unseen: categories that the training set of the same dataset lacks.
        unseen_clips: clips whose objects the training set of the same dataset lacks, where this is said of clips.
    """

    name: str
    clips: tuple[Clip, ...]
    masks_folder: PurePath
    submission: Submission | None = None
    unseen: frozenset[str] = frozenset()
    unseen_clips: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    @property
    def void(self) -> int | None:
        """The void of the clips, 255 in most sets; None if there is none, as in DAVIS 2016, where 255 is the object."""
        return self.clips[0].void if self.clips else None

    def is_unseen(self, clip: Clip, object_id: int) -> bool | None:
        """Return whether an object is one that the training set lacks; None if the dataset does not say."""
        if self.unseen_clips:
            return clip.name in self.unseen_clips
        category = clip.categories.get(object_id)
        return category in self.unseen if self.unseen and category is not None else None


@dataclass(frozen=True)
class SetSummary:
    """A set of a dataset on disk.

    Attributes:
        name: the `subset` argument of the dataset's reader.
        clips: number of clips in the set.
        missing: number of clips without frames or masks on disk.
        has_truth: whether the first clips have masks to score against.
    """

    name: str
    clips: int
    missing: int
    has_truth: bool

    def __str__(self) -> str:
        clips = f"{self.clips} clip{'s' if self.clips != 1 else ''}"
        if self.missing == self.clips:
            return f"{clips}, all missing"
        missing = f", {self.missing} of them missing" if self.missing else ""
        holds = "masks to score against" if self.has_truth else "only masks of first appearances, nothing to score"
        return f"{clips}{missing}; {holds}"
