"""Datasets: clips with frames, prompts and masks to score against."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from stm_fast.media.frames import FrameSource
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
        clips: the clips, in the order of the set.
        masks_folder: where this layout keeps masks, one folder per clip, relative to the dataset's root.
        submission: what to send to the server that scores the set, as the object of "send", with `{masks}` for the
            folder of results; None if no server is known.
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
