"""The objects of a project: how they are called and shown."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from stm_fast.app.refusal import Refusal
from stm_fast.media.palette import DAVIS_PALETTE
from stm_fast.tracking.correction_files import MAX_OBJECT

MAX_NAME = 80
"""Maximum length of a name, in characters."""


@dataclass(frozen=True)
class ProjectObject:
    """An object.

    Attributes:
        name: that the user gave it.
        colour: "#rrggbb".
        visible: whether the page shows it.
    """

    name: str
    colour: str
    visible: bool = True

    @classmethod
    def new(cls, object_id: int) -> "ProjectObject":
        """Return an object that nobody named yet, with its colour of the DAVIS palette."""
        red, green, blue = DAVIS_PALETTE[object_id].tolist()
        return cls(f"Object {object_id}", f"#{red:02x}{green:02x}{blue:02x}")

    def changed(self, given: Mapping[str, Any]) -> "ProjectObject":
        """Return the object with other attributes.

        Raises:
            Refusal: there is no such attribute, or a value is not one of it.
        """
        for key, value in given.items():
            if key == "name":
                good = isinstance(value, str) and 0 < len(value.strip()) <= MAX_NAME and value.isprintable()
                wanted = f"a text of 1 to {MAX_NAME} characters"
            elif key == "colour":
                good = isinstance(value, str) and re.fullmatch("#[0-9a-f]{6}", value) is not None
                wanted = "a colour such as #00ff7f"
            elif key == "visible":
                good, wanted = isinstance(value, bool), "true or false"
            else:
                raise Refusal(400, f"an object has a name, a colour and visible, not {key}")
            if not good:
                raise Refusal(400, f"{key} must be {wanted}, got {value!r}"[:200])
        return replace(self, **given)

    def described(self) -> dict[str, Any]:
        """Return the attributes in types of JSON."""
        return asdict(self)


def check_id(object_id: int) -> int:
    """Return an id; raise `Refusal` if no object can have it."""
    if not 1 <= object_id <= MAX_OBJECT:
        raise Refusal(400, f"object must have an id from 1 to {MAX_OBJECT}, got {object_id}")
    return object_id
