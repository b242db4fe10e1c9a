"""What can be chosen of an export."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stm_fast.errors import ArgumentError

OBJECT = "object"
"""Category of objects that have none."""
BITS = (8, 16)


@dataclass(frozen=True)
class ExportOptions:
    """How masks are exported. A format takes some of these; the others must have their defaults.

    Attributes:
        categories: what objects are, by id; those without an entry are of the category "object".
        images: write the frames as well: copies of image files, or JPEG files of a video's frames.
        image_root: what is put before the names of image files, such as a folder or URL that ends in "/".
        tolerance: maximum distance, in pixels, by which outlines may cut corners; 0 for exact outlines, None for what
            suits the format.
        soft: the alpha channel is the probability of the objects, which `stm-fast segment --soft` keeps.
        bits: of soft masks, 8 or 16; None for those of the run.
        fps: frames per second of a video; None for the times of the frames, or 24 for images.

    Raises:
        ArgumentError: one of them is out of range.
    """

    categories: Mapping[int, str] = field(default_factory=dict)
    images: bool = False
    image_root: str = ""
    tolerance: float | None = None
    soft: bool = False
    bits: int | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        for object_id, category in self.categories.items():
            if not 1 <= object_id <= 255 or not category.strip():
                raise ArgumentError(
                    "category", f"must give ids from 1 to 255 a name, got {object_id}={category or 'nothing'}"
                )
        if self.tolerance is not None and not 0 <= self.tolerance <= 100:
            raise ArgumentError("tolerance", f"must be from 0 to 100 pixels, got {self.tolerance}")
        if self.bits is not None and self.bits not in BITS:
            raise ArgumentError("bits", f"must be 8 or 16, got {self.bits}")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ArgumentError("fps", f"must be above 0 and at most 1000, got {self.fps}")

    def category(self, object_id: int) -> str:
        """Return the category of an object."""
        return self.categories.get(object_id, OBJECT)

    @property
    def category_numbers(self) -> dict[str, int]:
        """Numbers of the categories, from 1: those that are given, in order, then "object"."""
        names = dict.fromkeys((*(self.categories[each] for each in sorted(self.categories)), OBJECT))
        return {name: number for number, name in enumerate(names, 1)}

    def given(self) -> list[str]:
        """Return the names of the options that differ from their defaults."""
        defaults = ExportOptions()
        return [name for name in self.__dataclass_fields__ if getattr(self, name) != getattr(defaults, name)]
