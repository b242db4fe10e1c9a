"""Results as the server or the program that scores a set wants them: a zip, or a JSON file."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from stm_fast.data.clips import Clip, Dataset, Submission
from stm_fast.data.video.burst import predictions
from stm_fast.errors import ArgumentError, MediaError
from stm_fast.media.files import atomic_path, write_text

_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""
_UNIX, _PLAIN_FILE = 3, 0o100644 << 16


def write_submission(folder: str | Path, name: str, dataset: Dataset, masks: str | Path) -> Path:
    """Write `folder/name.zip`, see `write_zip`; or `folder/name.json`, if the set has a JSON form, as BURST.

    Args:
        folder: of the file.
        name: of the set.
        dataset: the set; says what is wanted.
        masks: folder of the results, with one folder per clip.

    Returns:
        The file.

    Raises:
        ArgumentError: no server of the set is known.
        MediaError: a clip has no results.
        OSError: the file cannot be written.
    """
    submission = wanted(dataset)
    if submission.template is None:
        path = Path(folder) / f"{name}.zip"
        write_zip(path, dataset, masks, submission.zip_root)
    else:
        path = Path(folder) / f"{name}.json"
        write_text(path, json.dumps(predictions(submission.template, Path(masks))) + "\n")
    return path


def wanted(dataset: Dataset) -> Submission:
    """Return what the server of a set wants.

    Raises:
        ArgumentError: no server is known.
    """
    if dataset.submission is None:
        raise ArgumentError("zip", f"needs a set that a server scores, and none is known for {dataset.name}")
    return dataset.submission


def write_zip(path: str | Path, clips: Iterable[Clip], masks: str | Path, root: str = "") -> list[str]:
    """Write the masks of clips into a zip: a folder per clip, a PNG per frame, both in the order of their names.

    The same masks give the same bytes, whenever and wherever they are written.

    Args:
        path: the zip; written under a temporary name first.
        clips: their names are the folders.
        masks: folder of the results, with one folder per clip.
        root: folder in the zip that holds the folders of clips; empty for none.

    Returns:
        The names in the zip.

    Raises:
        MediaError: a clip has no results.
        OSError: the zip cannot be written.
    """
    files: dict[str, Path] = {}
    for clip in sorted(clips, key=lambda clip: clip.name):
        found = sorted((Path(masks) / clip.name).glob("*.png"))
        if not found:
            raise MediaError(f"clip {clip.name} has no masks in {masks}: the zip must have those of all clips")
        files |= {str(PurePosixPath(root, clip.name, each.name)): each for each in found}
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, file in files.items():
            entry = zipfile.ZipInfo(name, _TIME)  # stored as it is: a PNG is compressed
            entry.create_system, entry.external_attr = _UNIX, _PLAIN_FILE
            archive.writestr(entry, file.read_bytes())
    return list(files)
