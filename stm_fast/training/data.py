"""From the data entries of a recipe to what clips are drawn from."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stm_fast.data.clips import Dataset
from stm_fast.data.layouts import VIDEO_LAYOUTS, open_videos
from stm_fast.data.stills.layouts import STILL_LAYOUTS, open_stills
from stm_fast.data.synthetic.pool import ClipPool
from stm_fast.errors import MediaError, StmFastError
from stm_fast.evaluation.protocol import DAVIS, Protocol, protocol_of
from stm_fast.training.augment.presets import PRESETS, Preset
from stm_fast.training.recipe import SHAPES, SYNTHETIC, DataEntry, Recipe
from stm_fast.training.sampling import ClipSource
from stm_fast.training.sources.mixed import MixedSource
from stm_fast.training.sources.shapes import ShapeSource
from stm_fast.training.sources.stills import StillSource
from stm_fast.training.sources.synthetic import SyntheticSource
from stm_fast.training.sources.videos import VideoSource

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingData:
    """The open datasets of a recipe.

    Attributes:
        rounds: what the clips of each round are drawn from.
        validation: what the clips of validation are drawn from; None for none.
        videos: the videos that are validated on as a whole; None for none.
        protocol: how these are scored.
    """

    rounds: tuple[ClipSource, ...]
    validation: ClipSource | None = None
    videos: Dataset | None = None
    protocol: Protocol = DAVIS


def open_data(recipe: Recipe, root: Path | None, pools: Mapping[str, Path] | None = None) -> TrainingData:
    """Open the datasets of a recipe.

    Args:
        recipe: names them.
        root: folder of all datasets; None if each entry has its own.
        pools: folders of synthetic clips, by the names of their sets.

    Raises:
        StmFastError: datasets are missing or unknown; the message has a paragraph for each of them, with what to
            download.
    """
    if recipe.augmentation not in PRESETS:
        raise StmFastError(f"augmentation must be one of {', '.join(PRESETS)}, got {recipe.augmentation!r}")
    opener = _Opener(PRESETS[recipe.augmentation], root, pools or {})
    rounds = [opener.mixed(recipe.data_of(part)) for part in recipe.rounds]
    validation = opener.mixed(recipe.validation.data) if recipe.validation.data else None
    videos = recipe.validation.videos
    opened = None if videos is None else opener.noting(videos, opener.videos)
    if opener.faults:
        raise MediaError("\n".join(dict.fromkeys(opener.faults)))
    protocol = DAVIS if videos is None else protocol_of(videos.layout)
    return TrainingData(tuple(source for source in rounds if source is not None), validation, opened, protocol)


class _Opener:
    """Opens datasets, each once, and notes all that are missing.

    Attributes:
        faults: what is missing.
    """

    def __init__(self, preset: Preset, root: Path | None, pools: Mapping[str, Path]) -> None:
        self._preset, self._root, self._pools = preset, root, pools
        self._opened: dict[DataEntry, ClipSource] = {}
        self.faults: list[str] = []

    def mixed(self, entries: Iterable[DataEntry]) -> ClipSource | None:
        """Open entries as one source; None if any of them is missing."""
        parts = [(self.noting(entry, self._source), entry.repeat) for entry in entries]
        opened = [(source, repeat) for source, repeat in parts if source is not None]
        return MixedSource(opened) if len(opened) == len(parts) else None

    def noting(self, entry: DataEntry, open_entry: Callable[[DataEntry], T]) -> T | None:
        """Open an entry; note what is missing and return None."""
        try:
            return open_entry(entry)
        except StmFastError as error:
            self.faults.append(str(error))
            return None

    def _source(self, entry: DataEntry) -> ClipSource:
        if entry not in self._opened:
            self._opened[entry] = self._open(entry)
        return self._opened[entry]

    def _open(self, entry: DataEntry) -> ClipSource:
        if entry.layout == SHAPES:
            return ShapeSource(entry.set or "train")
        if entry.layout == SYNTHETIC:
            name = entry.set or "train"
            if name not in self._pools:
                raise StmFastError(f"set of the layout synthetic must be one of {', '.join(self._pools)}, got {name!r}")
            return SyntheticSource(ClipPool(self._pools[name]))
        if entry.layout in STILL_LAYOUTS:
            return StillSource(open_stills(entry.layout, self._folder(entry), entry.set).stills, self._preset)
        return VideoSource(self.videos(entry), self._preset, entry.interval)

    def videos(self, entry: DataEntry) -> Dataset:
        if entry.layout not in VIDEO_LAYOUTS:
            known = (SYNTHETIC, SHAPES, *STILL_LAYOUTS, *VIDEO_LAYOUTS)
            raise StmFastError(f"layout of a dataset must be one of {', '.join(known)}, got {entry.layout!r}")
        return open_videos(entry.layout, self._folder(entry), entry.set)

    def _folder(self, entry: DataEntry) -> Path:
        if entry.root is not None:
            return Path(entry.root)
        if self._root is None:
            raise StmFastError(
                f"no folder for the dataset {entry.layout}: give --data DIR, which holds {entry.folder}/"
            )
        return self._root / entry.folder
