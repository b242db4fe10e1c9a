"""DAVIS 2016 and 2017 in the layout they are distributed in."""

from collections.abc import Sequence
from pathlib import Path, PurePath

from stm_fast.data.clips import Clip, Dataset
from stm_fast.errors import MediaError
from stm_fast.media.video import list_images


def davis(root: str | Path, subset: str, year: int, resolution: str = "480p") -> Dataset:
    """One set of DAVIS (Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv 1704.00675).

    The mask of the first frame is the prompt, all masks are the truth. The 0/255 masks of 2016 are read as object 1.

    Args:
        root: folder that holds `JPEGImages`, `Annotations` and `ImageSets`.
        subset: name of a list in `ImageSets/<year>`, for instance "val".
        year: 2016 or 2017.
        resolution: folder below `JPEGImages` and `Annotations`.

    Raises:
        MediaError: the layout is not there, or a clip of the list has no frames or no first mask.
    """
    root = Path(root)
    masks_folder = PurePath("Annotations", resolution)
    names = _read_list(root / "ImageSets" / str(year), subset)
    clips = [_clip(name, root / "JPEGImages" / resolution / name, root / masks_folder / name) for name in names]
    return Dataset(f"DAVIS {year} {subset}", tuple(clips), masks_folder)


def _read_list(folder: Path, subset: str) -> Sequence[str]:
    """Clip names of a set. The lists of 2016 hold a frame and its mask a line, those of 2017 a clip's name."""
    file = folder / f"{subset}.txt"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in folder.glob("*.txt"))) or "none"
        raise MediaError(f"{file} does not exist: sets of {folder} are {there}")
    lines = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = [PurePath(line).parent.name if "/" in line else line for line in lines]
    if not names:
        raise MediaError(f"{file} names no clip")
    return list(dict.fromkeys(names))


def _clip(name: str, frames: Path, masks: Path) -> Clip:
    for folder in (frames, masks):
        if not folder.is_dir():
            raise MediaError(f"clip {name} has no folder {folder}")
    first = next(iter(list_images(frames)), None)
    truth = list_images(masks)
    if first not in truth:
        raise MediaError(f"clip {name} has no mask for its first frame {first} in {masks}")
    return Clip(name, frames, {first: truth[first]}, truth)
