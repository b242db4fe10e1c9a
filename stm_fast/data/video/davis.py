"""DAVIS 2016 and 2017, in their original layout."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

from stm_fast.data.clips import Clip, Dataset, SetSummary, Submission
from stm_fast.data.faults import Faults
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.truth import summarize
from stm_fast.errors import MediaError
from stm_fast.media.images import list_images
from stm_fast.media.masks import VOID, object_ids, read_mask
from stm_fast.media.notices import MediaNotice, notice

SUBMISSION = Submission("the folders of clips in {masks}, zipped without a folder around them")
"""For the server of 2017: the truth of 2016 is public."""
_DEFAULT_RESOLUTION = "480p"
_TRAINVAL = "trainval"


@dataclass(frozen=True)
class _Release:
    """A year at a resolution, whose folders need not exist."""

    layout: VideoLayout
    root: Path
    resolution: str

    @property
    def year(self) -> str:
        return self.layout.name.removeprefix("davis")

    @property
    def frames(self) -> Path:
        return self.root / "JPEGImages" / self.resolution

    @property
    def masks_folder(self) -> PurePath:
        return PurePath("Annotations", self.resolution)

    @property
    def masks(self) -> Path:
        return self.root / self.masks_folder

    @property
    def lists(self) -> Path:
        """The folder of lists of sets: in the first release of 2016 it is named like the resolution."""
        of_year, first_release = self.root / "ImageSets" / self.year, self.root / "ImageSets" / self.resolution
        return first_release if not of_year.is_dir() and first_release.is_dir() and self.year == "2016" else of_year

    def sets(self) -> list[str]:
        names = {file.stem for file in self.lists.glob("*.txt")}
        return sorted(names | {_TRAINVAL} if {"train", "val"} <= names else names)

    def clips(self, subset: str) -> tuple[str, ...]:
        """Return the clip names of a set. A line is a frame and its mask in 2016, and a clip's name in 2017."""
        file = self.lists / f"{subset}.txt"
        if subset == _TRAINVAL and not file.is_file():
            return self.clips("train") + self.clips("val")
        if not file.is_file():
            there = ", ".join(self.sets()) or "none"
            raise self.layout.lack(f"{file} does not exist: sets of {self.lists} are {there}", self.root, subset)
        text = file.read_text(encoding="utf-8", errors="replace")
        lines = [line.split()[0] for line in text.splitlines() if line.strip()]
        names = [PurePath(line).parent.name if "/" in line else line for line in lines]
        if not names:
            raise MediaError(f"{file} names no clip")
        return tuple(dict.fromkeys(names))


def open_set(layout: VideoLayout, root: Path, subset: str | None) -> Dataset:
    """Open one set of DAVIS (Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv 1704.00675).

    The mask of the first frame is the prompt, and all masks are the truth; "test-dev" and "test-challenge" have only
    the first mask. The 0/255 masks of 2016 are read as object 1; 255 is void in 2017.

    Args:
        layout: davis2016 or davis2017.
        root: folder that holds `JPEGImages`, `Annotations` and `ImageSets`.
        subset: name of a list in `ImageSets/<year>` (or `ImageSets/480p` in the first release of 2016), such as "val",
            or "trainval" for the lists of train and val together. A folder of another resolution comes before it:
            "Full-Resolution/val". Without one it is 480p, or the only resolution on disk, with a notice.

    Raises:
        MediaError: the layout is different, or clips of the list have no frames or no first mask; the message names all
            of them.
    """
    *before, listed = (subset or "").rsplit("/", 1)
    release = _Release(layout, root, before[0] if before else _resolution(root))
    if not before and release.resolution != _DEFAULT_RESOLUTION:
        notice(f"{root} has no {_DEFAULT_RESOLUTION}: {release.resolution} is used")
    name = f"{layout.title} {subset}"
    faults = Faults(
        f"{name} of {root}",
        f"put them there, or list the complete clips in a file in {release.lists} and use that as the set",
        layout.needed(root, subset),
    )
    void = None if release.year == "2016" else VOID
    clips = faults.collect(release.clips(listed), partial(_clip, release, void))
    if void is None:
        _notice_several(clips)
    submission = None if release.year == "2016" else SUBMISSION
    return Dataset(name, clips, release.masks_folder, submission)


def list_sets(layout: VideoLayout, root: Path) -> list[SetSummary]:
    """List the sets of a year by resolution, in the order of their names; see `open_set`.

    Raises:
        MediaError: there is no list, or a mask cannot be read.
    """
    default = _resolution(root)
    found = []
    for resolution in dict.fromkeys([default, *_resolutions(root)]):
        release = _Release(layout, root, resolution)
        if not release.sets():
            raise layout.lack(f"{release.lists} holds no list of clips such as val.txt", root)
        found += [
            summarize(
                name if resolution == default else f"{resolution}/{name}",
                release.clips(name),
                release.frames,
                release.masks,
            )
            for name in release.sets()
        ]
    return found


def is_set(layout: VideoLayout, root: Path) -> bool:
    """Return False: a folder holds several lists."""
    return False


def looks_like(layout: VideoLayout, root: Path) -> bool:
    """Return whether a folder holds lists of the year."""
    return bool(_Release(layout, root, _resolution(root)).sets())


def _resolutions(root: Path) -> list[str]:
    """Return the resolutions on disk, that of most evaluations first."""
    frames = root / "JPEGImages"
    there = sorted(folder.name for folder in frames.iterdir() if folder.is_dir()) if frames.is_dir() else []
    return sorted(there, key=lambda name: name != _DEFAULT_RESOLUTION)


def _resolution(root: Path) -> str:
    """Return the resolution of sets that are named without one."""
    there = _resolutions(root)
    return there[0] if len(there) == 1 else _DEFAULT_RESOLUTION


def _clip(release: _Release, void: int | None, name: str) -> Clip | str:
    """Return the clip, or what it lacks."""
    frames, masks = release.frames / name, release.masks / name
    for folder in (frames, masks):
        if not folder.is_dir():
            return f"without a folder in {folder.parent}"
    first = next(iter(list_images(frames)), None)
    truth = list_images(masks)
    if first is None:
        return f"without an image in {frames.parent}"
    if first not in truth:
        return f"without a mask of the first frame in {masks.parent}"
    return Clip(name, frames, {first: truth[first]}, truth, void=void)


def _notice_several(clips: Iterable[Clip]) -> None:
    """Give a notice if masks of 2016 show several objects, as those of 2017 do; the first one decides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaNotice)  # given when the masks are used
        shown = (object_ids(read_mask(mask)) for clip in clips for mask in clip.prompts.values())
        several = next((len(ids) > 1 for ids in shown if ids), False)
    if several:
        notice("the masks show several objects, which are those of DAVIS 2017: each of them is followed and scored")
