"""project.json: what is known of a project's objects, and its revision."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stm_fast.app.objects import ProjectObject
from stm_fast.errors import MediaError
from stm_fast.media.files import write_text
from stm_fast.tracking.correction_files import MAX_OBJECT


@dataclass
class Noted:
    """What the file notes.

    Attributes:
        revision: number of changes so far.
        objects: by id.
        deleted: ids of deleted objects that masks may still show.
    """

    revision: int = 0
    objects: dict[int, ProjectObject] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)


def read_project(path: Path) -> Noted:
    """Read the file of a project; a new project has none.

    Ids that no object can have, which earlier versions noted, are left out: 255 is void in most masks.

    Raises:
        MediaError: it is damaged.
    """
    if not path.exists():
        return Noted()
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        objects = {int(each): ProjectObject(**found) for each, found in noted["objects"].items()}
        deleted = {int(each) for each in noted["deleted"]}
        possible = range(1, MAX_OBJECT + 1)
        objects = {each: found for each, found in objects.items() if each in possible}
        return Noted(int(noted["revision"]), objects, deleted.intersection(possible))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MediaError(f"{path} is damaged ({error}): delete it, and objects get new names and colours") from error


def write_project(path: Path, video: str, noted: Noted) -> None:
    """Write the file of a project.

    Raises:
        OSError: it cannot be written.
    """
    objects: Mapping[str, object] = {str(each): found.described() for each, found in sorted(noted.objects.items())}
    content = {"video": video, "revision": noted.revision, "objects": objects, "deleted": sorted(noted.deleted)}
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
