"""BURST: masks as run lengths in JSON, for the clips of TAO."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.data.clips import Clip, Dataset, SetSummary, Submission
from stm_fast.data.faults import Faults
from stm_fast.data.layouts import VideoLayout
from stm_fast.data.video.object_masks import ObjectMasks, flatten
from stm_fast.errors import MediaError
from stm_fast.media.images import has_images
from stm_fast.media.masks import VOID, object_ids, read_mask
from stm_fast.media.run_lengths import decode_runs, encode_runs

SETS = ("train", "val", "test")
MASKS = "masks"
_ALL = ("all_classes.json", "train.json", "all_classes_visibility.json", "train_visibility.json")
"""Names of the file with all masks: that of BURST, then those of copies of it."""
_FIRST = "first_frame_annotations.json"


@dataclass(frozen=True)
class RunLengths(ObjectMasks):
    """The mask of a frame: the compressed run lengths of COCO for each object.

    Attributes:
        size: height and width, in pixels.
        counts: run lengths by id.
        where: the file and the frame, for messages.
    """

    size: tuple[int, int]
    counts: Mapping[int, str]
    where: str

    def __str__(self) -> str:
        return self.where

    def objects(self) -> Mapping[int, NDArray[np.bool_]]:
        """Decode the mask `(H, W)` of each object by its id.

        Raises:
            MediaError: run lengths do not fill a mask.
        """
        try:
            return {object_id: decode_runs(counts, self.size) for object_id, counts in self.counts.items()}
        except MediaError as error:
            raise MediaError(f"{self}: {error}") from error

    def read(self) -> NDArray[np.uint8]:
        """Decode the ids `(H, W)`; see `stm_fast.data.video.object_masks.flatten`."""
        return flatten(self.objects(), self.size)


@dataclass(frozen=True)
class _SetFiles:
    """The files of a set; `frames` and `prompts` need not exist."""

    name: str
    frames: Path
    truth: Path | None
    prompts: Path

    @property
    def annotations(self) -> Path:
        return self.truth or self.prompts


def open_set(layout: VideoLayout, root: Path, subset: str | None) -> Dataset:
    """Open one set of BURST (Athar et al., WACV 2023).

    A clip is named `<dataset>-<sequence>`. Val and test have masks once a second, train more often; results are the
    masks of these frames. An object is followed from the first mask that shows it, which `first_frame_annotations.json`
    has for val and test. A pixel of several objects belongs to the smallest of them.

    Args:
        layout: that of BURST.
        root: folder with `frames/<set>/<dataset>/<sequence>` and `annotations/<set>` (or `<set>` alone).
        subset: train, val or test.

    Raises:
        MediaError: there is no such set, its JSON cannot be read, or clips have no frames or no masks; the message
            names all of them.
    """
    found = next((each for each in _sets(root) if each.name == subset), None)
    if found is None:
        there = ", ".join(each.name for each in _sets(root)) or "none"
        raise layout.lack(f"{root} has no annotations of {subset}: there are {there}", root, subset)
    faults = Faults(f"{layout.title} {subset} of {root}", f"put them into {found.frames}", layout.needed(root, subset))
    whole = _read(found.annotations)
    first = _read(found.prompts)["sequences"] if found.prompts.is_file() else ()
    with _form_of(found.annotations.parent):
        given = {_name(each): each for each in first}
        sequences = {_name(each): each for each in whole["sequences"]}
        categories = {int(each["id"]): str(each["name"]) for each in whole.get("categories", ())}

        def make(name: str) -> Clip | str:
            return _clip(found, sequences[name], given.get(name, sequences[name]), categories)

        clips = faults.collect(sequences, make)
    submission = Submission("the JSON file of results", template=found.annotations)
    return Dataset(f"{layout.title} {subset}", clips, PurePath(MASKS), submission)


def list_sets(layout: VideoLayout, root: Path) -> list[SetSummary]:
    """List the sets that have annotations.

    Raises:
        MediaError: there is none, or the JSON of one cannot be read.
    """
    sets = []
    for each in _sets(root):
        there = [_folder(each, sequence).is_dir() for sequence in _read(each.annotations)["sequences"]]
        sets.append(SetSummary(each.name, len(there), there.count(False), each.truth is not None))
    if not sets:
        raise layout.lack(f"{root} holds no annotations, such as annotations/val/{_ALL[0]}", root)
    return sets


def is_set(layout: VideoLayout, root: Path) -> bool:
    """Return False: a folder holds several sets."""
    return False


def looks_like(layout: VideoLayout, root: Path) -> bool:
    """Return whether a folder holds annotations."""
    return bool(_sets(root))


def predictions(template: Path, masks: Path) -> dict[str, Any]:
    """Return results in the form of the annotations, as the evaluation of BURST reads them.

    An object that is not in a frame has no entry there.

    Args:
        template: the set's annotations, see `Submission.template`.
        masks: folder of the results, with one folder per clip.

    Raises:
        MediaError: a file is missing or cannot be read.
    """
    whole = _read(template)
    sequences = []
    for sequence in whole["sequences"]:
        segmentations = []
        for frame in _frames(sequence):
            ids = read_mask(masks / _name(sequence) / f"{frame}.png")
            segmentations.append({str(i): {"rle": encode_runs(ids == i)} for i in object_ids(ids)})
        sequences.append({**sequence, "segmentations": segmentations})
    return {**whole, "sequences": sequences}


def _clip(
    found: _SetFiles, sequence: Mapping[str, Any], given: Mapping[str, Any], categories: Mapping[int, str]
) -> Clip | str:
    """Return the clip, or what it lacks."""
    frames = _folder(found, sequence)
    if not has_images(frames):
        return f"without frames in {found.frames}"
    truth = _masks(found.annotations, sequence)
    prompts = {frame: mask for frame, mask in _masks(found.prompts, given).items() if mask.counts}
    if not prompts:
        return f"without masks in {found.annotations}"
    if max(i for mask in (*prompts.values(), *truth.values()) for i in mask.counts) >= VOID:
        return f"with an object whose id is {VOID} or more"
    of_objects = {
        int(i): categories[int(category)]
        for i, category in sequence.get("track_category_ids", {}).items()
        if int(category) in categories
    }
    wanted = frozenset(_frames(sequence))
    return Clip(_name(sequence), frames, prompts, truth, wanted, of_objects, VOID)


def _masks(file: Path, sequence: Mapping[str, Any]) -> dict[str, RunLengths]:
    """Return the masks of the annotated frames."""
    size = int(sequence["height"]), int(sequence["width"])
    return {
        frame: RunLengths(size, {int(i): str(about["rle"]) for i, about in objects.items()}, f"{frame} of {file}")
        for frame, objects in zip(_frames(sequence), sequence["segmentations"], strict=True)
    }


def _frames(sequence: Mapping[str, Any]) -> Iterable[str]:
    """Return the names of the annotated frames."""
    return [Path(name).stem for name in sequence["annotated_image_paths"]]


def _name(sequence: Mapping[str, Any]) -> str:
    return f"{sequence['dataset']}-{sequence['seq_name']}"


def _folder(found: _SetFiles, sequence: Mapping[str, Any]) -> Path:
    return found.frames / str(sequence["dataset"]) / str(sequence["seq_name"])


def _sets(root: Path) -> list[_SetFiles]:
    """Return the sets that have annotations."""
    found = []
    for name in SETS:
        for folder in (root / "annotations" / name, root / name):
            truth = next((folder / file for file in _ALL if (folder / file).is_file()), None)
            if truth or (folder / _FIRST).is_file():
                found.append(_SetFiles(name, root / "frames" / name, truth, folder / _FIRST))
                break
    return found


def _read(file: Path) -> Any:
    with _form_of(file):
        whole = json.loads(file.read_text(encoding="utf-8"))
        for sequence in whole["sequences"]:
            if len(sequence["segmentations"]) != len(sequence["annotated_image_paths"]):
                raise ValueError("annotated frames and segmentations differ in number")
            _name(sequence)
    if not whole["sequences"]:
        raise MediaError(f"{file} names no clip: download it again")
    return whole


@contextmanager
def _form_of(path: Path) -> Iterator[None]:
    """Tell JSON that lacks something, or has something else in its place, as what it is.

    Raises:
        MediaError: the block found some.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise MediaError(f"{path} lacks the layout of BURST ({error!r}): download it again") from error
