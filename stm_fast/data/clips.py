"""Datasets: clips with frames, masks to start from and masks to score against."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from stm_fast.media.frames import FrameSource
from stm_fast.media.sources import open_frames


@dataclass(frozen=True)
class Clip:
    """One annotated clip.

    Attributes:
        name: the clip's name in its dataset, and of the folder its results go to.
        frames: a folder of images or a video file.
        prompts: masks by frame name that a segmenter is given; an object is followed from the first one that shows it.
        truth: masks by frame name to score against; frames without one are not scored. Where they show nothing but the
            first appearance of each object there is nothing to score, see `stm_fast.data.truth`.
        wanted: names of the frames whose masks are results; None for all.
    """

    name: str
    frames: Path
    prompts: Mapping[str, Path]
    truth: Mapping[str, Path]
    wanted: frozenset[str] | None = None

    def open(self) -> FrameSource:
        """Open the clip's frames; see `stm_fast.media.sources.open_frames`."""
        return open_frames(self.frames)


@dataclass(frozen=True)
class Dataset:
    """A named set of clips.

    Attributes:
        name: dataset and set, for reports.
        clips: in the order of the set.
        masks_folder: where this layout keeps masks, one folder per clip, relative to the dataset's root.
        submission: what a server that scores such a set accepts, in words that follow "send" and with `{masks}` for the
            folder of results; None where no server is known.
    """

    name: str
    clips: tuple[Clip, ...]
    masks_folder: PurePath
    submission: str | None = None

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)


@dataclass(frozen=True)
class SetSummary:
    """One of the sets that a dataset on disk has.

    Attributes:
        name: the `subset` that its readers accept.
        clips: how many clips it names.
        missing: how many of them have no frames or no masks here.
        has_truth: whether the first clips have masks to score against.
    """

    name: str
    clips: int
    missing: int
    has_truth: bool
