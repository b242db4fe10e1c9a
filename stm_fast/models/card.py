"""The inference settings of a model: at which size it segments best, and how it remembers and reads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelCard:
    """The inference settings of a model.

    Attributes:
        working_size: shorter side, in pixels, of the frames that it segments best.
        max_enlargement: by how much smaller frames may be enlarged towards it; 1 leaves them as they are.
        hole_size: holes and gaps of a given mask up to this many pixels wide are filled in what is remembered of it; 0
            fills none. An object behind spray or leaves has more of them than two memory locations can tell apart, and
            fades where they are.
        top_k: number of best memory tokens that each location reads; None for all of them.
    """

    working_size: int = 480
    max_enlargement: float = 1.0
    hole_size: int = 0
    top_k: int | None = None

    def best_size(self, shorter_side: int) -> int:
        """Return the shorter side, in pixels, at which frames of this shorter side are segmented best."""
        return min(self.working_size, round(shorter_side * self.max_enlargement))
