"""Masks from boxes and points that a user gives in the page; nothing is stored."""

import math
from collections.abc import Mapping
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stm_fast.app.objects import check_id
from stm_fast.app.refusal import Refusal
from stm_fast.prompters.hints import Hints
from stm_fast.prompters.registry import Prompter, available_prompters, make_prompter

MAX_POINTS = 200


class Prompting:
    """Makes masks of hints; prompters are made once, and asked by one thread at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._made = cache(make_prompter)

    def mask(
        self, name: str, image: NDArray[np.uint8], hints: Hints, known: NDArray[np.bool_] | None
    ) -> NDArray[np.bool_]:
        """Return the mask of an object.

        With a box and points, the box gives a mask that the points correct.

        Args:
            name: of the prompter.
            image: RGB `(H, W, 3)`.
            hints: of the object.
            known: the object as it is `(H, W)`, which the points correct; None to begin with nothing.

        Raises:
            ArgumentError: the hints cannot be used, or the prompter needs what is not installed.
            Refusal: there is no such prompter, or it finds nothing.
        """
        if name not in available_prompters():
            raise Refusal(400, f"prompter must be one of {', '.join(available_prompters())}, got {name!r}"[:200])
        hints.check((image.shape[0], image.shape[1]), known=known is not None)
        with self._lock:
            prompter: Prompter = self._made(name)
            if hints.boxes and hints.all_points and known is None:
                known = prompter(image, Hints(hints.boxes))
                hints = Hints((), hints.foreground, hints.background)
            found = prompter(image, hints, known)
        if not found.any():
            raise Refusal(400, "the box and points show nothing: give more points of the object")
        return found


def parse_hints(given: Mapping[str, Any]) -> tuple[int, Hints]:
    """Return the object and its hints, as the page sends them.

    Raises:
        Refusal: a value is missing or is not a number, or there are too many points.
    """
    object_id = given.get("object")
    if not isinstance(object_id, int) or isinstance(object_id, bool):
        raise Refusal(400, f"object must be an id, got {object_id!r}"[:100])
    box, points = given.get("box"), given.get("points") or []
    boxes = () if box is None else (tuple(_pixels(box, 4, "box")),)
    if not isinstance(points, list) or len(points) > MAX_POINTS:
        raise Refusal(400, f"points must be a list of up to {MAX_POINTS}")
    sides: dict[bool, list[tuple[int, ...]]] = {True: [], False: []}
    for point in points:
        if not isinstance(point, list) or len(point) != 3 or not isinstance(point[2], bool):
            raise Refusal(400, f"points must be [x, y, true or false], got {point!r}"[:200])
        sides[point[2]].append(tuple(_pixels(point[:2], 2, "point")))
    return check_id(object_id), Hints(boxes, tuple(sides[True]), tuple(sides[False]))  # type: ignore[arg-type]


def _pixels(numbers: Any, count: int, what: str) -> list[int]:
    """Return coordinates as whole pixels."""
    good = isinstance(numbers, list) and len(numbers) == count
    if not good or not all(type(each) in (int, float) and math.isfinite(each) for each in numbers):
        raise Refusal(400, f"a {what} must be {count} finite numbers, got {numbers!r}"[:200])
    return [math.floor(each) for each in numbers]
