"""DAVIS 2016 and 2017, in their original layout."""

from collections.abc import Sequence
from pathlib import Path, PurePath

from stm_fast.data.clips import Clip, Dataset, SetSummary, Submission
from stm_fast.data.faults import Faults
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.truth import summarize
from stm_fast.errors import MediaError
from stm_fast.media.images import list_images
from stm_fast.media.masks import VOID

SUBMISSION = Submission("the folders of clips in {masks}, zipped without a folder around them")
RESOLUTION = "480p"
_YEARS = {"davis2016": 2016, "davis2017": 2017}


def open_set(layout: VideoLayout, root: Path, subset: str | None) -> Dataset:
    """Open one set of DAVIS (Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv 1704.00675).

    The mask of the first frame is the prompt, and all masks are the truth; "test-dev" and "test-challenge" have only
    the first mask. The 0/255 masks of 2016 are read as object 1; 255 is void in 2017.

    Args:
        layout: davis2016 or davis2017.
        root: folder that holds `JPEGImages`, `Annotations` and `ImageSets`.
        subset: name of a list in `ImageSets/<year>`, for instance "val", or in `ImageSets/480p` in the first release
            of 2016.

    Raises:
        MediaError: the layout is different, or clips of the list have no frames or no first mask; the message names all
            of them.
    """
    if subset is None:
        raise MediaError(f"no set of {root} is named")
    year, masks_folder = _YEARS[layout.name], PurePath("Annotations", RESOLUTION)
    void = None if year == 2016 else VOID
    lists = _lists_folder(root, year)
    names = _read_list(lists, subset)
    name = f"{layout.title} {subset}"
    faults = Faults(
        f"{name} of {root}",
        f"put them there, or list the complete clips in a file in {lists} and use that as the set",
        layout.needed(root, subset),
    )
    clips = []
    for clip in names:
        made = _clip(clip, root / "JPEGImages" / RESOLUTION / clip, root / masks_folder / clip, void)
        if isinstance(made, str):
            faults.add(clip, made)
        else:
            clips.append(made)
    faults.check()
    return Dataset(name, tuple(clips), masks_folder, SUBMISSION, void)


def list_sets(layout: VideoLayout, root: Path) -> list[SetSummary]:
    """List the sets of a year in the order of their names; see `open_set`.

    Raises:
        MediaError: there is no list, or a mask cannot be read.
    """
    lists = _lists_folder(root, _YEARS[layout.name])
    files = sorted(lists.glob("*.txt"))
    if not files:
        raise MediaError(f"{lists} holds no list of clips such as val.txt")
    frames, masks = root / "JPEGImages" / RESOLUTION, root / "Annotations" / RESOLUTION
    return [summarize(file.stem, _read_list(lists, file.stem), frames, masks) for file in files]


def is_set(layout: VideoLayout, root: Path) -> bool:
    """Return False: a folder holds several lists."""
    return False


def looks_like(layout: VideoLayout, root: Path) -> bool:
    """Return whether a folder holds lists of the year."""
    return any(_lists_folder(root, _YEARS[layout.name]).glob("*.txt"))


def _lists_folder(root: Path, year: int) -> Path:
    """Return the folder of a release's lists of sets, which need not exist."""
    of_year, of_2016 = root / "ImageSets" / str(year), root / "ImageSets" / RESOLUTION
    return of_2016 if year == 2016 and not of_year.is_dir() and of_2016.is_dir() else of_year


def _read_list(folder: Path, subset: str) -> Sequence[str]:
    """Read the clip names of a set. A line is a frame and its mask in 2016, and a clip's name in 2017."""
    file = folder / f"{subset}.txt"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in folder.glob("*.txt"))) or "none"
        raise MediaError(f"{file} does not exist: sets of {folder} are {there}")
    text = file.read_text(encoding="utf-8", errors="replace")
    lines = [line.split()[0] for line in text.splitlines() if line.strip()]
    names = [PurePath(line).parent.name if "/" in line else line for line in lines]
    if not names:
        raise MediaError(f"{file} names no clip")
    return list(dict.fromkeys(names))


def _clip(name: str, frames: Path, masks: Path, void: int | None) -> Clip | str:
    """Return the clip, or what it lacks."""
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
