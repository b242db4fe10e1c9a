"""Hints: the boxes and points that a user gives of one object in a frame.

Coordinates are pixels of the frame as it is read: x to the right, y down, (0, 0) is the pixel at the top left. A box
covers the columns x0 to x1 − 1 and the rows y0 to y1 − 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

from stm_fast.errors import ArgumentError


class Point(NamedTuple):
    """A pixel."""

    x: int
    y: int


class Box(NamedTuple):
    """A rectangle of pixels; right and bottom are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Hints:
    """What a user shows of one object.

    Attributes:
        boxes: each holds the object or a part of it; all of the object is in one of them.
        foreground: points on the object.
        background: points beside it.
    """

    boxes: tuple[Box, ...] = ()
    foreground: tuple[Point, ...] = ()
    background: tuple[Point, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", tuple(Box(*box) for box in self.boxes))
        object.__setattr__(self, "foreground", tuple(Point(*point) for point in self.foreground))
        object.__setattr__(self, "background", tuple(Point(*point) for point in self.background))

    def check(self, size: tuple[int, int], name: str = "the object", *, known: bool = False) -> None:
        """Make sure that the hints show an object in frames of a size.

        Args:
            size: height and width of the frame.
            name: of the object, for messages.
            known: whether there is a mask of the object, which background points alone can correct.

        Raises:
            ArgumentError: the hints have neither a box nor a foreground point, a box is empty, something is outside of
                the frame, a foreground point is outside of all boxes, or a point is both foreground and background.
        """
        height, width = size
        if not known and not self.boxes and not self.foreground:
            raise ArgumentError("point", f"must have a box or a foreground point of {name}, got background alone")
        for box in self.boxes:
            shown = ",".join(map(str, box))
            _check_integers("box", box)
            if box.x0 >= box.x1 or box.y0 >= box.y1:
                raise ArgumentError("box", f"must have x0 < x1 and y0 < y1, got {shown} of {name}")
            if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height:
                raise ArgumentError("box", f"must be in the frame, which is {width}×{height}, got {shown} of {name}")
        for point in (*self.foreground, *self.background):
            _check_integers("point", point)
            if not (0 <= point.x < width and 0 <= point.y < height):
                raise ArgumentError(
                    "point", f"must be in the frame, which is {width}×{height}, got {point.x},{point.y} of {name}"
                )
        for point in self.foreground:
            if point in self.background:
                raise ArgumentError("point", f"{point.x},{point.y} of {name} must be + or -, got both")
            if self.boxes and not any(_holds(box, point) for box in self.boxes):
                raise ArgumentError("point", f"{point.x},{point.y} of {name} is + but outside of its boxes")

    @property
    def all_points(self) -> tuple[Point, ...]:
        """Foreground points, then background points."""
        return self.foreground + self.background


def _holds(box: Box, point: Point) -> bool:
    return box.x0 <= point.x < box.x1 and box.y0 <= point.y < box.y1


def _check_integers(argument: str, numbers: Iterable[object]) -> None:
    if not all(isinstance(number, Integral) and not isinstance(number, bool) for number in numbers):
        raise ArgumentError(argument, f"must have whole numbers of pixels, got {tuple(numbers)}")


def parse_hints(boxes: Iterable[str], points: Iterable[str]) -> dict[int, Hints]:
    """Read hints as the command line takes them.

    Args:
        boxes: texts such as "1:40,30,200,180", which are id:x0,y0,x1,y1.
        points: texts such as "1:90,70,+" and "1:10,70,-", which are id:x,y, and + on the object or - beside it.

    Returns:
        The hints of each object, by id, ascending.

    Raises:
        ArgumentError: a text has another form, or an id is not from 1 to 255.
    """
    found: dict[int, dict[str, list[tuple[int, ...]]]] = {}

    def of(object_id: int) -> dict[str, list[tuple[int, ...]]]:
        return found.setdefault(object_id, {"boxes": [], "foreground": [], "background": []})

    for text in boxes:
        object_id, numbers = _split("box", text, "ID:X0,Y0,X1,Y1")
        of(object_id)["boxes"].append(_whole("box", text, numbers, 4, "ID:X0,Y0,X1,Y1"))
    for text in points:
        object_id, numbers = _split("point", text, "ID:X,Y,+ or ID:X,Y,-")
        *place, sign = numbers
        if sign not in ("+", "-"):
            raise ArgumentError("point", f"must be ID:X,Y,+ or ID:X,Y,-, got {text}")
        kind = "foreground" if sign == "+" else "background"
        of(object_id)[kind].append(_whole("point", text, place, 2, "ID:X,Y,+ or ID:X,Y,-"))
    return {object_id: Hints(**found[object_id]) for object_id in sorted(found)}  # type: ignore[arg-type]


def _split(argument: str, text: str, form: str) -> tuple[int, list[str]]:
    name, colon, rest = text.partition(":")
    if not colon or not name.strip().isdecimal():
        raise ArgumentError(argument, f"must be {form}, got {text}")
    if not 1 <= int(name) <= 255:
        raise ArgumentError(argument, f"must have an id from 1 to 255, got {text}")
    return int(name), [part.strip() for part in rest.split(",")]


def _whole(argument: str, text: str, parts: list[str], count: int, form: str) -> tuple[int, ...]:
    if len(parts) != count or not all(part.removeprefix("-").isdecimal() for part in parts):
        raise ArgumentError(argument, f"must be {form}, in whole pixels, got {text}")
    return tuple(int(part) for part in parts)
