"""Read a folder of results: frames in order, their masks one at a time, and the video they belong to."""

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.errors import MediaError
from stm_fast.media.frames import Frame, FrameSource
from stm_fast.media.images import list_images
from stm_fast.media.masks import VOID, Colour, check_void, object_ids, read_mask
from stm_fast.media.notices import notice
from stm_fast.media.sources import open_frames
from stm_fast.tracking.journal import read_journal
from stm_fast.tracking.output import OutputFolder

_NO_FILES = {"standard input": "a video from standard input", "the frames": "frames from a Python program"}
"""Sources that a run notes although they are no files, and what they were."""


@dataclass(frozen=True)
class MaskedFrame:
    """A frame of a result.

    Attributes:
        index: number of the frame among those of the result, from 0.
        name: of the frame.
        mask: ids `(H, W)`, 0 for the background.
        objects: ids in the mask, ascending.
        image: RGB uint8 `(H, W, 3)`; None if frames were not asked for.
        time: seconds since the first frame; None if it is unknown.
    """

    index: int
    name: str
    mask: NDArray[np.uint8]
    objects: tuple[int, ...]
    image: NDArray[np.uint8] | None = None
    time: Fraction | None = None


Each = Callable[[MaskedFrame], None]
"""Called with each frame once it is written."""


class Result:
    """The results of `stm-fast segment` in a folder, or a folder of masks alone.

    Masks and frames are read as they are iterated, and never held as a whole.

    Args:
        folder: of the results; or one with `masks/`, or with the masks themselves.
        frames: the video; None for the one that the run noted.
        objects: ids to keep; empty for all.
        void: pixels of this id are background.

    Attributes:
        folder: of the results.
        names: of the frames, in order.
        size: height and width of the frames, in pixels.

    Raises:
        MediaError: there is no result, or the first mask cannot be read.
        TypeError, ValueError: `void` is not an id.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        frames: str | Path | None = None,
        objects: Collection[int] = (),
        void: int | None = None,
    ) -> None:
        check_void(void)
        self.folder = OutputFolder(Path(folder))
        self._given = frames
        self._wanted = frozenset(objects)
        self._void = void
        self._summary = _read_summary(self.folder.summary)
        self._files = self._find_masks()
        self.names = tuple(self._files)
        self._colours: dict[Colour, int] = {}
        first = self._read(self.names[0])
        self.size = (first.shape[0], first.shape[1])

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[MaskedFrame]:
        """Yield the frames in order, without images.

        Raises:
            MediaError: a mask cannot be read, or differs in size from the first.
        """
        seen: set[int] = set()
        for index, name in enumerate(self.names):
            mask = self._mask(name)
            found = object_ids(mask)
            seen.update(found)
            yield MaskedFrame(index, name, mask, found)
        if missing := self._wanted - seen:
            notice(f"no mask of {self.folder.root} shows objects {', '.join(map(str, sorted(missing)))}")
        if VOID in seen and not self._tracked(VOID):
            notice(f"id {VOID} is exported as an object; void {VOID} ignores it")

    def with_images(self) -> Iterator[MaskedFrame]:
        """Yield the frames in order, with their images and times.

        Raises:
            MediaError: the video is not there or cannot be read, lacks a frame or differs in size; or see `__iter__`.
        """
        source = self._frames_of_size()
        pictures = iter(source)
        for frame in self:
            picture = _find(pictures, frame.name, source)
            yield MaskedFrame(frame.index, frame.name, frame.mask, frame.objects, picture.image, picture.time)

    @property
    def title(self) -> str:
        """Name of the video, or else of the folder."""
        path = self._given if self._given is not None else self._noted_path
        name = "" if path is None or path in _NO_FILES else Path(path).stem
        return name if re.fullmatch(r"[^%*]*\w[^%*]*", name) else self.folder.root.resolve().name

    @property
    def kept(self) -> tuple[Path, ...]:
        """What an export must not replace: the results, and the video."""
        videos = (path for path in (self._given, self._noted_path) if path is not None)
        records = self.folder.summary, self.folder.journal, self.folder.run_state
        return self.folder.root, *self.folder.pictures, *records, *map(Path, videos)

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames per second of the video; None if it does not say."""
        return self.source.fps

    @cached_property
    def source(self) -> FrameSource:
        """The video.

        Raises:
            MediaError: it is not known, not there, or cannot be read.
        """
        if self._given is not None:
            return open_frames(self._given)
        path = self._noted_path
        if path is None:
            raise MediaError(f"{self.folder.root} does not say which video its masks are of: give frames")
        if path in _NO_FILES:
            raise MediaError(
                f"the masks in {self.folder.root} are of {_NO_FILES[path]}, which cannot be read again: give frames, a "
                "file or folder"
            )
        try:
            source = open_frames(path)
        except MediaError as error:
            raise MediaError(f"{error}; if the video of {self.folder.root} was moved, give it as frames") from error
        self._notice_if_changed()
        return source

    @cached_property
    def _images(self) -> FrameSource | None:
        """The video if its frames are image files that are there."""
        try:
            source = self.source
        except MediaError:
            if self._given is not None:
                raise
            source = None
        if source is not None and source.file_of(self.names[0]) is not None:
            return source
        reason = "the frames have no image files" if source is not None else "the video of the masks is not there"
        notice(f"{reason}, so images are named {self.names[0]}.jpg and so on; frames of a folder keep their names")
        return None

    def image_name(self, name: str) -> str:
        """Return the name of a frame's image file: that of the file itself, or else `<name>.jpg`."""
        path = self.image_file(name)
        return f"{name}.jpg" if path is None else path.name

    def image_file(self, name: str) -> Path | None:
        """Return the image file of a frame; None if it has none."""
        return None if self._images is None else self._images.file_of(name)

    def soft_mask(self, name: str, object_id: int) -> Path:
        """Return where the probability of an object in a frame is, which need not be there."""
        return self.folder.soft_mask(object_id, name)

    def soft_objects(self) -> tuple[int, ...]:
        """Return the ids of the objects that have soft masks, as far as they are wanted, ascending.

        Raises:
            MediaError: there are none.
        """
        folder = self.folder.soft
        found = {int(path.name) for path in folder.iterdir() if path.name.isdecimal()} if folder.is_dir() else set()
        if not found:
            raise MediaError(
                f"{folder} holds no probabilities: they are kept by stm-fast segment with --soft 8 or --soft 16"
            )
        if self._wanted and not found & self._wanted:
            raise MediaError(f"{folder} has objects {_listed(found)}, but not {_listed(self._wanted)}")
        return tuple(sorted(found & self._wanted if self._wanted else found))

    @property
    def _noted_path(self) -> str | None:
        inputs = self._summary.get("inputs")
        source = inputs.get("source") if isinstance(inputs, dict) else None
        path = source.get("path") if isinstance(source, dict) else None
        return path if isinstance(path, str) else None

    def _find_masks(self) -> dict[str, Path]:
        root = self.folder.root
        if not root.is_dir():
            raise MediaError(f"{root} does not exist: give the folder of the results of stm-fast segment")
        folder = self.folder.masks if self.folder.masks.is_dir() else root
        files = list_images(folder)
        if not files:
            raise MediaError(f"{folder} holds no masks: give the folder of the results of stm-fast segment")
        names = read_journal(self.folder.journal)
        if not names or folder is root:
            return files
        if self._summary and not self._summary.get("complete"):
            # The journal has the order in which frames were segmented, and frames that are to be segmented again.
            notice(f"the run of {root} is not complete: the frames so far are exported")
            return {name: file for name, file in files.items() if name in names}
        if lost := [name for name in names if name not in files]:
            raise MediaError(f"{folder} lacks the mask of frame {lost[0]}, and of {len(lost) - 1} others: restore them")
        if strays := len(files) - len(names):
            notice(f"{strays} masks in {folder} are not of the frames in {self.folder.journal.name} and are left out")
        return {name: files[name] for name in names}

    def _tracked(self, object_id: int) -> bool:
        objects = self._summary.get("objects")
        return isinstance(objects, list) and object_id in objects

    def _read(self, name: str) -> NDArray[np.uint8]:
        return read_mask(self._files[name], self._colours, void=self._void)

    def _mask(self, name: str) -> NDArray[np.uint8]:
        mask = self._read(name)
        if mask.shape != self.size:
            raise MediaError(
                f"{self._files[name]} is {mask.shape[1]}×{mask.shape[0]} but the first mask is "
                f"{self.size[1]}×{self.size[0]}: all must have one size"
            )
        if self._wanted:
            kept = np.isin(np.arange(256), list(self._wanted))
            mask = np.where(kept[mask], mask, 0).astype(np.uint8)
        return mask

    def _frames_of_size(self) -> FrameSource:
        source = self.source
        if source.size != self.size:
            raise MediaError(
                f"{source.path} is {source.size[1]}×{source.size[0]} but the masks are {self.size[1]}×{self.size[0]}: "
                "give the frames that they were made of"
            )
        return source

    def _notice_if_changed(self) -> None:
        """Give a notice if the file of the video is not as large as it was."""
        inputs = self._summary.get("inputs")
        noted = inputs["source"].get("bytes") if isinstance(inputs, dict) else None
        path = Path(self._noted_path or "")
        if noted is not None and path.is_file() and path.stat().st_size != noted:
            notice(f"{path} has changed since the masks were made: they may not belong to its frames")


def _find(pictures: Iterator[Frame], name: str, source: FrameSource) -> Frame:
    """Return the next frame of a name; frames before it have no masks."""
    for picture in pictures:
        if picture.name == name:
            return picture
    raise MediaError(
        f"{source.path} has no frame {name} where the masks have it: give the frames that the masks were made of"
    )


def _read_summary(path: Path) -> dict[str, Any]:
    """Read what a run noted; empty if there is nothing that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _listed(ids: Collection[int]) -> str:
    return ", ".join(map(str, sorted(ids)))
