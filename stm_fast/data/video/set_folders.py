"""Sets of clips as folders: `SET/JPEGImages/<clip>` with frames and `SET/Annotations/<clip>` with masks.

YouTube-VOS has this layout, and MOSE, LVOS, Long Videos and VOST share it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from stm_fast.data.clips import Clip, SetSummary
from stm_fast.data.faults import Faults, name_some
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.truth import summarize
from stm_fast.media.images import has_images, list_images
from stm_fast.media.masks import VOID
from stm_fast.media.notices import notice

FRAMES, MASKS = "JPEGImages", "Annotations"
MASKS_FOLDER = PurePath(MASKS)
_ALL_FRAMES = "_all_frames"


@dataclass(frozen=True)
class SetFolder:
    """A set on disk.

    Attributes:
        layout: of the dataset.
        name: the set's name.
        folder: holds `JPEGImages`.
        masks: holds a folder of masks for each clip.
        listed: the clips, if there is a list of them.
        home: folder of the dataset, where other sets may lie.
    """

    layout: VideoLayout
    name: str
    folder: Path
    masks: Path
    listed: tuple[str, ...]
    home: Path

    @property
    def frames(self) -> Path:
        """Holds a folder of frames for each clip."""
        return self.folder / FRAMES

    def names(self, others: Sequence[str] = ()) -> list[str]:
        """Return the names of the clips: those that are listed, else those with a folder of masks, and `others`.

        Gives a notice of clips with frames that are left out.

        Raises:
            MediaError: there is none.
        """
        names = list(self.listed) or sorted({*_folders(self.masks), *others})
        if not names:
            message = f"{self.masks} holds no folder of masks: it needs one for each clip"
            raise self.layout.lack(message, self.home, self.name)
        if not self.listed and (left := sorted(set(_folders(self.frames)) - set(names))):
            notice(f"{len(left)} clips of {self.frames} have no masks and were left out: {name_some(left)}")
        return names

    def faults(self, root: Path | None = None) -> Faults:
        """Return an empty list of faults of this set; `root` is where downloads go, by default `home`."""
        remedy = f"put them there, or remove the clips from {self.masks} and from lists of clips"
        return Faults(f"{self.layout.title} in {self.folder}", remedy, self.layout.needed(root or self.home, self.name))

    def clip(
        self, name: str, *, first_mask_only: bool = False, categories: Mapping[int, str] | None = None
    ) -> Clip | str:
        """Return a clip whose masks are truth and prompts, or what it lacks.

        Args:
            name: of the clip.
            first_mask_only: whether only the first mask is a prompt; otherwise each object is followed from the first
                mask that shows it.
            categories: of its objects.
        """
        frames, masks = self.frames / name, self.masks / name
        if not has_images(frames):
            return f"without frames in {self.frames}"
        truth = list_images(masks) if masks.is_dir() else {}
        if not truth:
            return f"without masks in {self.masks}"
        prompts = dict(list(truth.items())[:1]) if first_mask_only else truth
        return Clip(name, frames, prompts, truth, categories=categories or {}, void=VOID)


def find_set(layout: VideoLayout, root: Path, subset: str | None) -> SetFolder:
    """Find a set.

    Args:
        layout: of the dataset.
        root: folder of a set; with `subset`, the folder that holds the set, directly or in `all_frames`.
        subset: name of the set's folder, or of a list of clips `ImageSets/<subset>.txt` in `root`.

    Raises:
        MediaError: there is no such set.
    """
    if subset is not None:
        file = root / "ImageSets" / f"{subset}.txt"
        if file.is_file():
            return SetFolder(layout, subset, root, root / MASKS, read_list(file), root)
        for folder in (root / subset, root / "all_frames" / subset):
            if (folder / FRAMES).is_dir():
                return _set(layout, folder, root)
    if subset in {None, root.resolve().name} and (root / FRAMES).is_dir():
        return _set(layout, root.resolve(), root.resolve().parent)
    there = ", ".join(each.name for each in list_sets(layout, root))
    raise layout.lack(f"{root} has no set {subset} with a folder {FRAMES} in it: there are {there}", root, subset)


def list_sets(layout: VideoLayout, root: Path) -> list[SetSummary]:
    """List the sets below a folder, lists of clips first, in the order of their names.

    Raises:
        MediaError: there is none, or a mask cannot be read.
    """
    lists = sorted((root / "ImageSets").glob("*.txt"))
    sets = [summarize(file.stem, read_list(file), root / FRAMES, root / MASKS) for file in lists]
    for folder in _set_folders(root):
        masks = _set(layout, folder, root).masks
        sets.append(summarize(folder.name, sorted(_folders(masks)), folder / FRAMES, masks))
    if not sets:
        raise layout.lack(f"{root} holds neither {FRAMES} nor folders of sets with {FRAMES} in them", root)
    return sets


def is_set(layout: VideoLayout, root: Path) -> bool:
    """Return whether a folder is a single set."""
    return (root / FRAMES).is_dir() and not any((root / "ImageSets").glob("*.txt"))


def looks_like(layout: VideoLayout, root: Path) -> bool:
    """Return whether a folder is or holds sets. One with a folder per resolution, as in DAVIS, does not count."""
    return any(
        (each / FRAMES).is_dir() and not (each / FRAMES / "480p").is_dir() for each in (root, *_set_folders(root))
    )


def read_list(file: Path) -> tuple[str, ...]:
    """Return the names of clips in a text file, each once."""
    return tuple(dict.fromkeys(file.read_text(encoding="utf-8", errors="replace").split()))


def given_by(folder: Path) -> Path:
    """Return the set that holds the masks: for a set of all frames it is the one without the suffix."""
    parent = folder.parent.parent if folder.parent.name == "all_frames" else folder.parent
    return parent / folder.name.removesuffix(_ALL_FRAMES)


def _set(layout: VideoLayout, folder: Path, home: Path) -> SetFolder:
    masks = folder / MASKS
    if folder.name.endswith(_ALL_FRAMES) and not masks.is_dir():
        masks = given_by(folder) / MASKS
    return SetFolder(layout, folder.name, folder, masks, (), home)


def _set_folders(root: Path) -> list[Path]:
    folders = [parent / name for parent in (root, root / "all_frames") for name in _folders(parent)]
    return sorted((each for each in folders if (each / FRAMES).is_dir()), key=lambda each: each.name)


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
