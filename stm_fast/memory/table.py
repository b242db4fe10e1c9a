"""What is in a memory, for people to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stm_fast.memory.arena import Arena

_HEADER = ("frame", "role", "objects", "tokens", "MB", "usage")


@dataclass(frozen=True)
class MemoryRow:
    """A frame in memory, or the prototypes of frames that have gone.

    Attributes:
        frame: its number; None for prototypes.
        role: why it is there, see `stm_fast.memory.arena.Role`.
        objects: whose memory it is.
        tokens: of each object.
        nbytes: of all these objects.
        usage: share of what a location reads that comes from here, on average since it came; None if the policy does
            not measure it.
    """

    frame: int | None
    role: str
    objects: tuple[object, ...]
    tokens: int
    nbytes: int
    usage: float | None


@dataclass(frozen=True)
class MemoryTable:
    """Rows of `MemoryBank.table`; printed, it is a table."""

    rows: tuple[MemoryRow, ...]

    def __str__(self) -> str:
        """Columns of equal width, numbers to the right."""
        lines = [_HEADER, *map(_cells, self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column in (1, 2) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


def rows_of(arena: "Arena", objects: Sequence[object]) -> list[MemoryRow]:
    """The rows of objects that share an arena, in order of time, prototypes last."""
    return [
        MemoryRow(
            held.frame,
            held.role.value,
            tuple(objects),
            held.tokens,
            held.tokens * arena.objects * arena.bytes_per_token,
            held.usage,
        )
        for held in arena.holdings
    ]


def _cells(row: MemoryRow) -> tuple[str, ...]:
    return (
        "" if row.frame is None else str(row.frame),
        row.role,
        ", ".join(map(str, row.objects)),
        str(row.tokens),
        f"{row.nbytes / 1e6:.1f}",
        "" if row.usage is None else f"{row.usage:.3f}",
    )
