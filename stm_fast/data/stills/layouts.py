"""Layouts of image datasets on disk: what each holds, what to download for it, and how it is opened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stm_fast.data.downloads import Download, what_to_download
from stm_fast.data.stills.coco import MIN_AREA, CocoStills
from stm_fast.data.stills.pairs import MAX_DEPTH, Pairs, Place
from stm_fast.data.stills.still import StillSet, read_ids, read_image_of, read_salient
from stm_fast.errors import ArgumentError, MediaError
from stm_fast.media.notices import notice


@dataclass(frozen=True)
class StillLayout:
    """A layout of image datasets on disk.

    Attributes:
        name: as in recipes.
        title: the dataset's name.
        about: what the dataset is, with its source.
        holds: what ROOT, the dataset's folder, holds.
        reader: opens sets of the layout, given by their names, in the dataset's folder.
        places: where each set can lie, by its name; the first place with pairs is used. None if any folder is a set.
        default: the sets that are opened together if none is named.
        page: where its authors offer it.
        downloads: the files to download from there; where a file has no published name, the folder that it holds.
    """

    name: str
    title: str
    about: str
    holds: str
    reader: Callable[["StillLayout", Path, tuple[str, ...]], StillSet]
    places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    default: tuple[str, ...] = ()
    page: str = ""
    downloads: tuple[Download, ...] = ()

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets; empty if any folder is one."""
        return tuple(self.places)

    def open(self, root: str | Path, subset: str | None = None) -> StillSet:
        """Open sets of the dataset; see `open_stills`."""
        if self.sets and subset is not None and subset not in self.sets:
            raise ArgumentError("set", f"must be one of {', '.join(self.sets)} for {self.title}, got {subset!r}")
        return self.reader(self, Path(root), self._names(subset))

    def needed(self, root: str | Path, subset: str | None = None) -> str:
        """Return what to download for a set, a line per file, and where it goes; empty if nothing is known."""
        return self._needed(Path(root), self._names(subset))

    def missing(self, root: Path, names: tuple[str, ...]) -> MediaError:
        """Return the error that these sets are not in the dataset's folder."""
        seen = f"lacks {', '.join(names)} of {self.title}" if root.is_dir() else "is not a folder"
        return MediaError(f"{root} {seen}: {self.name} needs {self.holds}\n{self._needed(root, names)}")

    def title_of(self, names: tuple[str, ...]) -> str:
        """Return the name of some sets, for reports."""
        return self.title if len(self.sets) == 1 else f"{self.title} {', '.join(names)}"

    def _names(self, subset: str | None) -> tuple[str, ...]:
        return self.default if subset is None else (subset,)

    def _needed(self, root: Path, names: tuple[str, ...]) -> str:
        return what_to_download(self.title, self.page, self.downloads, root, names)


def open_stills(layout: str, root: str | Path, subset: str | None = None) -> StillSet:
    """Open sets of an image dataset.

    Names of files are compared and the first still is read, so that a folder that is incomplete or has another layout
    is found before a long run.

    Args:
        layout: name of the layout, see `STILL_LAYOUTS`.
        root: the dataset's folder.
        subset: name of a set; for the layout `pairs`, a folder below `root`. None for the sets that are used together.

    Raises:
        ArgumentError: `layout` or `subset` is unknown.
        MediaError: files are missing, with a list of what to download and where it goes; or the first still cannot be
            read.
        StmFastError: COCO needs pycocotools, which is not installed.
    """
    if layout not in STILL_LAYOUTS:
        raise ArgumentError("layout", f"must be one of {', '.join(STILL_LAYOUTS)}, got {layout!r}")
    return STILL_LAYOUTS[layout].open(root, subset)


def _open_salient(layout: StillLayout, root: Path, names: tuple[str, ...]) -> StillSet:
    """Open sets whose masks are those of salient objects."""
    stills = Pairs(read_salient)
    if lost := tuple(name for name in names if not any(stills.add(root, place) for place in layout.places[name])):
        raise layout.missing(root, lost)
    return _checked(layout.title_of(names), root, stills)


def _open_folder(layout: StillLayout, root: Path, names: tuple[str, ...]) -> StillSet:
    """Open a folder of pairs, or one below it."""
    folder, stills = root.joinpath(*names), Pairs(read_ids)
    if not any(stills.add(folder, place) for place in _ANY_PAIRS):
        problem = "holds no image with a mask of its name" if folder.is_dir() else "is not a folder"
        raise MediaError(f"{folder} {problem}: {layout.name} needs {layout.holds}")
    return _checked(folder.resolve().name, folder, stills)


def _open_coco(layout: StillLayout, root: Path, names: tuple[str, ...]) -> StillSet:
    """Open one set of COCO."""
    (name,) = names
    images, annotations = root / name, root / "annotations" / f"instances_{name}.json"
    if not images.is_dir() or not annotations.is_file():
        raise layout.missing(root, names)
    stills = CocoStills(images, annotations)
    stills[0].read()
    return StillSet(layout.title_of(names), stills)


def _checked(name: str, root: Path, stills: Pairs) -> StillSet:
    """Read the first still, with notices, and give one of files that belong to no pair."""
    first = stills[0]
    read_image_of(stills.read_mask(first.mask), first.image, first.mask)
    if stills.images_alone or stills.masks_alone:
        notice(
            f"{name} in {root}: left out are images without a mask ({stills.images_alone}) and masks without an image "
            f"({stills.masks_alone}); pairs that remain: {len(stills)}"
        )
    return StillSet(name, stills)


def _beside(*folders: str, depth: int = 0) -> tuple[Place, ...]:
    """Return places where masks lie beside images."""
    return tuple(Place(each, each, depth=depth) for each in folders)


_ANY_PAIRS = (Place("images", "masks", depth=MAX_DEPTH), *_beside("", depth=MAX_DEPTH))
_SMALL = "static_data.zip of https://github.com/hkchengrex/STCN"

_LAYOUTS = (
    StillLayout(
        "pairs",
        "Pairs",
        "images of your own; masks hold ids, with 255 as void, or one object in white",
        "images/NAME.jpg and masks/NAME.png, or NAME.jpg beside NAME.png, in folders of any depth",
        _open_folder,
    ),
    StillLayout(
        "duts",
        "DUTS",
        "salient objects in 10,553 images for training and 5,019 for testing (Wang et al., CVPR 2017)",
        "SET/SET-Image/NAME.jpg and SET/SET-Mask/NAME.png, or SET/NAME.jpg and SET/NAME.png",
        _open_salient,
        {
            name: (Place(f"{name}/{name}-Image", f"{name}/{name}-Mask"), *_beside(name))
            for name in ("DUTS-TR", "DUTS-TE")
        },
        ("DUTS-TR", "DUTS-TE"),
        "http://saliencydetection.net/duts",
        tuple(Download(f"{name}.zip", f"its folder {name} goes into ROOT", (name,)) for name in ("DUTS-TR", "DUTS-TE")),
    ),
    StillLayout(
        "ecssd",
        "ECSSD",
        "salient objects in 1,000 images (Shi et al., TPAMI 2016)",
        "images/NAME.jpg and ground_truth_mask/NAME.png, or ecssd/NAME.jpg and ecssd/NAME.png",
        _open_salient,
        {"ECSSD": (Place("images", "ground_truth_mask"), *_beside("ecssd", ""))},
        ("ECSSD",),
        "http://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
        (
            Download("images.zip", "its folder images goes into ROOT"),
            Download("ground_truth_mask.zip", "its folder ground_truth_mask goes into ROOT"),
        ),
    ),
    StillLayout(
        "fss1000",
        "FSS-1000",
        "objects of 1,000 classes in 10 images each (Li et al., CVPR 2020)",
        "fewshot_data/CLASS/NUMBER.jpg and NUMBER.png, or fss in place of fewshot_data",
        _open_salient,
        {"FSS-1000": _beside("fewshot_data/fewshot_data", "fewshot_data", "fss", "", depth=1)},
        ("FSS-1000",),
        "https://github.com/HKUSTCV/FSS-1000",
        (Download("fewshot_data.zip", "its folder fewshot_data goes into ROOT"),),
    ),
    StillLayout(
        "hrsod",
        "HRSOD",
        "salient objects in 1,610 large images for training and 400 for testing (Zeng et al., ICCV 2019); HRSOD_small "
        "is the copy that STCN trains on, reduced",
        "SET/NAME.jpg and SET_mask/NAME.png, in HRSOD_release or not, or HRSOD_small/NAME.jpg and NAME.png",
        _open_salient,
        {
            **{
                name: tuple(Place(f"{parent}{name}", f"{parent}{name}_mask") for parent in ("HRSOD_release/", ""))
                for name in ("HRSOD_train", "HRSOD_test")
            },
            "HRSOD_small": _beside("HRSOD_small", ""),
        },
        ("HRSOD_train", "HRSOD_test"),
        "https://github.com/yi94code/HRSOD",
        (
            Download("HRSOD_release", "the folder goes into ROOT", ("HRSOD_train", "HRSOD_test")),
            Download(_SMALL, "its folder HRSOD_small goes into ROOT", ("HRSOD_small",)),
        ),
    ),
    StillLayout(
        "big",
        "BIG",
        "objects in 50 images for validation and 100 for testing, of 2048×1600 to 5000×3600 pixels (Cheng et al., CVPR "
        "2020); BIG_small is the copy that STCN trains on, reduced",
        "SET/NAME_im.jpg and SET/NAME_gt.png, in BIG or not, or BIG_small/NAME.jpg and NAME.png",
        _open_salient,
        {
            **{
                name: tuple(Place(f"{parent}{name}", f"{parent}{name}", "_im", "_gt") for parent in ("BIG/", ""))
                for name in ("val", "test")
            },
            "BIG_small": _beside("BIG_small", ""),
        },
        ("val", "test"),
        "https://github.com/hkchengrex/CascadePSP/blob/master/docs/dataset.md",
        (
            Download("BIG", "its folders val and test go into ROOT/BIG", ("val", "test")),
            Download(_SMALL, "its folder BIG_small goes into ROOT", ("BIG_small",)),
        ),
    ),
    StillLayout(
        "msra10k",
        "MSRA10K",
        "salient objects in 10,000 images (Cheng et al., TPAMI 2015)",
        "MSRA10K_Imgs_GT/Imgs/NAME.jpg and NAME.png",
        _open_salient,
        {"MSRA10K": _beside("MSRA10K_Imgs_GT/Imgs", "MSRA10K_Imgs_GT/MSRA10K_Imgs_GT/Imgs", "Imgs", "MSRA_10K")},
        ("MSRA10K",),
        "https://mmcheng.net/msra10k",
        (Download("MSRA10K_Imgs_GT.zip", "its folder MSRA10K_Imgs_GT goes into ROOT"),),
    ),
    StillLayout(
        "pascal-s",
        "PASCAL-S",
        "objects that at least half of the viewers find salient in 850 images (Li et al., CVPR 2014)",
        "datasets/imgs/pascal/NAME.jpg and datasets/masks/pascal/NAME.png",
        _open_salient,
        {"PASCAL-S": (Place("datasets/imgs/pascal", "datasets/masks/pascal"),)},
        ("PASCAL-S",),
        "http://cbs.ic.gatech.edu/salobj",
        (Download("salObj.zip", "its folder datasets goes into ROOT"),),
    ),
    StillLayout(
        "coco",
        "COCO",
        "instances of 80 categories in 118,287 images for training and 5,000 for validation (Lin et al., ECCV 2014); "
        f"those below {MIN_AREA} pixels are background, and crowds are void",
        "annotations/instances_SET.json and SET/NAME.jpg",
        _open_coco,
        {"train2017": (), "val2017": ()},
        ("train2017",),
        "https://cocodataset.org/#download",
        (
            Download("train2017.zip", "its folder train2017 goes into ROOT", ("train2017",)),
            Download("val2017.zip", "its folder val2017 goes into ROOT", ("val2017",)),
            Download("annotations_trainval2017.zip", "its folder annotations goes into ROOT"),
        ),
    ),
)
STILL_LAYOUTS: Mapping[str, StillLayout] = {layout.name: layout for layout in _LAYOUTS}
"""The layouts by name."""
