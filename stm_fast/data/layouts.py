"""Layouts of video datasets on disk: what each holds, what to download for it, and the reader that opens it."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from stm_fast.data.downloads import Download, what_to_download
from stm_fast.errors import ArgumentError, MediaError

if TYPE_CHECKING:
    from stm_fast.data.clips import Dataset, SetSummary


class Reader(Protocol):
    """What a module of `stm_fast.data.video` defines. It is imported when a dataset is opened."""

    def open_set(self, layout: "VideoLayout", root: Path, subset: str | None) -> "Dataset":
        """Open one set; see `VideoLayout.open`."""

    def list_sets(self, layout: "VideoLayout", root: Path) -> "list[SetSummary]":
        """List the sets; see `VideoLayout.sets`."""

    def is_set(self, layout: "VideoLayout", root: Path) -> bool:
        """Return whether a folder is one set, so that none need be named."""

    def looks_like(self, layout: "VideoLayout", root: Path) -> bool:
        """Return whether the folders in `root` suggest this layout."""


@dataclass(frozen=True)
class VideoLayout:
    """A layout of video datasets on disk.

    Attributes:
        name: as in `--dataset` and in recipes.
        title: the dataset's name.
        reader: module of `stm_fast.data.video` that reads it.
        holds: what ROOT, the dataset's folder, holds.
        sets_are: what its sets are.
        page: where its authors offer it.
        downloads: the files to download from there.
    """

    name: str
    title: str
    reader: str
    holds: str
    sets_are: str
    page: str = ""
    downloads: tuple[Download, ...] = ()

    def open(self, root: str | Path, subset: str | None = None) -> "Dataset":
        """Open one set.

        Args:
            root: the dataset's folder.
            subset: name of the set; None if `root` is a single set.

        Raises:
            MediaError: the folder has another layout; there is no such set, or several and none is named; or frames or
                masks are missing. The message lists all that is missing, and what to download.
        """
        root = Path(root)
        self._check(root, subset)
        if subset is None and not self._module.is_set(self, root):
            raise MediaError(self._choose(root))
        return self._module.open_set(self, root, subset)

    def sets(self, root: str | Path) -> "list[SetSummary]":
        """List the sets below a folder.

        Raises:
            MediaError: there is none, or a mask cannot be read.
        """
        return self._module.list_sets(self, Path(root))

    def looks_like(self, root: str | Path) -> bool:
        """Return whether the folders in `root` suggest this layout."""
        return self._module.looks_like(self, Path(root))

    def needed(self, root: str | Path, subset: str | None = None) -> str:
        """Return what to download for a set, or for all if none is known, a line per file; empty for a plain folder."""
        return what_to_download(self.title, self.page, self.downloads, root, () if subset is None else (subset,))

    def lack(self, message: str, root: str | Path, subset: str | None = None) -> MediaError:
        """Return an error that ends with what to download; see `needed`."""
        needed = self.needed(root, subset)
        return MediaError(f"{message}\n{needed}" if needed else message)

    @property
    def _module(self) -> Reader:
        return cast("Reader", import_module(f"stm_fast.data.video.{self.reader}"))

    def _check(self, root: Path, subset: str | None) -> None:
        """Raise `MediaError` for a folder that is missing or clearly has another layout."""
        if not root.is_dir():
            raise self.lack(f"{root} is not a folder: {self.name} needs one with {self.holds}", root, subset)
        likely = [each.name for each in VIDEO_LAYOUTS.values() if each.looks_like(root)]
        if likely and self.name not in likely:
            raise MediaError(
                f"{root} does not have the layout {self.name}, which is {self.holds}; it looks like "
                f"{' or '.join(likely)}"
            )

    def _choose(self, root: Path) -> str:
        """Return the message if no set is named."""
        sets = self.sets(root)
        width = max(len(each.name) for each in sets)
        return "\n".join(
            [f"no set is named; the sets of {root} are", *(f"  {each.name:{width}}  {each}" for each in sets)]
        )


_SET_FOLDERS = "SET/JPEGImages/CLIP and SET/Annotations/CLIP"
_FOLDER_IN_ROOT = "a folder in ROOT, such as valid, or ROOT itself"
_YOUTUBE_VOS_PAGE = "https://youtube-vos.org/dataset/vos"
_YOUTUBE_VOS_FILES = (
    Download("train.zip", "its folder train goes into ROOT", ("train",)),
    Download("valid.zip", "its folder valid goes into ROOT", ("valid", "valid_all_frames")),
    Download(
        "valid_all_frames.zip", "its folder valid_all_frames goes into ROOT or ROOT/all_frames", ("valid_all_frames",)
    ),
    Download("test.zip", "its folder test goes into ROOT", ("test", "test_all_frames")),
    Download(
        "test_all_frames.zip", "its folder test_all_frames goes into ROOT or ROOT/all_frames", ("test_all_frames",)
    ),
)


def _davis(year: str, page: str, downloads: tuple[Download, ...]) -> VideoLayout:
    holds = f"ImageSets/{year}/SET.txt, JPEGImages/480p/CLIP and Annotations/480p/CLIP"
    sets_are = "a list in ImageSets, such as val, with another resolution before it, as in Full-Resolution/val"
    return VideoLayout(f"davis{year}", f"DAVIS {year}", "davis", holds, sets_are, page, downloads)


def _youtube_vos(release: str) -> VideoLayout:
    title = f"YouTube-VOS {release}".rstrip()
    holds = f"{_SET_FOLDERS}, and SET/meta.json"
    return VideoLayout(
        f"youtube-vos{release}",
        title,
        "youtube_vos",
        holds,
        _FOLDER_IN_ROOT,
        _YOUTUBE_VOS_PAGE,
        _YOUTUBE_VOS_FILES,
    )


_LAYOUTS = (
    _davis(
        "2016",
        "https://davischallenge.org/davis2016/code.html",
        (Download("DAVIS-data.zip", "its folder DAVIS is ROOT"),),
    ),
    _davis(
        "2017",
        "https://davischallenge.org/davis2017/code.html",
        tuple(
            Download(
                f"DAVIS-2017-{name}-{resolution}.zip", "its folder DAVIS is ROOT", tuple(before + each for each in sets)
            )
            for name, sets in (
                ("trainval", ("train", "val", "trainval")),
                ("test-dev", ("test-dev",)),
                ("test-challenge", ("test-challenge",)),
            )
            for resolution, before in (("480p", ""), ("Full-Resolution", "Full-Resolution/"))
        ),
    ),
    _youtube_vos("2018"),
    _youtube_vos("2019"),
    _youtube_vos(""),
    VideoLayout(
        "mose",
        "MOSE",
        "mose",
        _SET_FOLDERS,
        _FOLDER_IN_ROOT,
        "https://github.com/henghuiding/MOSE-api",
        (
            Download("train.tar.gz", "its folder train goes into ROOT", ("train",)),
            Download("valid.tar.gz", "its folder valid goes into ROOT", ("valid",)),
        ),
    ),
    VideoLayout(
        "lvos",
        "LVOS",
        "lvos",
        f"{_SET_FOLDERS}, and SET/SET_meta.json",
        _FOLDER_IN_ROOT,
        "https://github.com/LingyiHongfd/LVOS",
        tuple(
            Download(
                f"{name}, and {folder}_meta.json", f"JPEGImages, Annotations and the JSON go into ROOT/{folder}", sets
            )
            for name, folder, sets in (
                ("Train", "train", ("train",)),
                ("Eval", "val", ("val", "valid")),
                ("Test", "test", ("test",)),
            )
        ),
    ),
    VideoLayout(
        "long-video",
        "Long Videos",
        "long_video",
        "JPEGImages/CLIP and Annotations/CLIP",
        "a folder in ROOT, such as long_video_x3, or ROOT itself",
        "https://www.kaggle.com/gvclsu/long-videos",
        (Download("long-videos", "JPEGImages and Annotations go into ROOT"),),
    ),
    VideoLayout(
        "burst",
        "BURST",
        "burst",
        "frames/SET/DATASET/CLIP and annotations/SET/all_classes.json",
        "train, val or test",
        "https://github.com/Ali2500/BURST-benchmark, its frames at https://motchallenge.net/tao_download.php",
        (
            Download("annotations.zip", "its folders train, val and test go into ROOT/annotations"),
            Download("1-TAO_TRAIN.zip, and AVA and HACS", "frames/train goes into ROOT", ("train",)),
            Download("2-TAO_VAL.zip, and AVA and HACS", "frames/val goes into ROOT", ("val",)),
            Download("3-TAO_TEST.zip, and AVA and HACS", "frames/test goes into ROOT", ("test",)),
        ),
    ),
    VideoLayout(
        "vost",
        "VOST",
        "vost",
        "ImageSets/SET.txt, JPEGImages/CLIP and Annotations/CLIP",
        "a list in ImageSets: train, val or test",
        "https://www.vostdataset.org/data.html",
        (Download("VOST.zip", "its folder VOST is ROOT"),),
    ),
    VideoLayout(
        "sa-v",
        "SA-V",
        "sa_v",
        "SET/SET.txt, SET/JPEGImages_24fps/CLIP and SET/Annotations_6fps/CLIP/OBJECT",
        "sav_val or sav_test, a folder in ROOT or ROOT itself",
        "https://ai.meta.com/datasets/segment-anything-video-downloads",
        (
            Download("sav_val.tar", "its folder sav_val goes into ROOT", ("sav_val",)),
            Download("sav_test.tar", "its folder sav_test goes into ROOT", ("sav_test",)),
        ),
    ),
    VideoLayout(
        "folder",
        "Folder",
        "folder",
        "frames (or a video) and masks, or frames/CLIP and masks/CLIP",
        "the name of one clip; all clips if none is named",
    ),
)

VIDEO_LAYOUTS: Mapping[str, VideoLayout] = {layout.name: layout for layout in _LAYOUTS}
"""The layouts by name."""


def open_videos(layout: str, root: str | Path, subset: str | None = None) -> "Dataset":
    """Open one set of a video dataset.

    Args:
        layout: name of its layout, see `VIDEO_LAYOUTS`.
        root: its folder.
        subset: name of its set; None if `root` is a single set.

    Raises:
        ArgumentError: there is no such layout.
        MediaError: see `VideoLayout.open`.
    """
    if layout not in VIDEO_LAYOUTS:
        raise ArgumentError("layout", f"must be one of {', '.join(VIDEO_LAYOUTS)}, got {layout!r}")
    return VIDEO_LAYOUTS[layout].open(root, subset)
