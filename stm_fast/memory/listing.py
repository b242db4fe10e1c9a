"""A table of what is in a memory, for people to read."""

from dataclasses import dataclass

_HEADER = ("frame", "role", "objects", "tokens", "MB", "usage")


@dataclass(frozen=True)
class MemoryRow:
    """A frame in memory, or the prototypes of evicted frames.

    Attributes:
        frame: its number; None for prototypes.
        role: why it is in memory, see `stm_fast.memory.frames.Role`.
        objects: names of the objects that remember it.
        tokens: number of tokens of each object.
        nbytes: bytes, for all these objects together.
        usage: share of what a location reads that comes from this row, averaged over objects and over reads since it
            came; None if the policy does not measure it.
    """

    frame: int | None
    role: str
    objects: tuple[object, ...]
    tokens: int
    nbytes: int
    usage: float | None


@dataclass(frozen=True)
class MemoryTable:
    """Rows of `MemoryBank.table`; prints as a table."""

    rows: tuple[MemoryRow, ...]

    def __str__(self) -> str:
        """Return columns of equal width, numbers aligned right."""
        lines = [_HEADER, *map(_cells, self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column in (1, 2) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


def _cells(row: MemoryRow) -> tuple[str, ...]:
    return (
        "" if row.frame is None else str(row.frame),
        row.role,
        ", ".join(map(str, row.objects)),
        str(row.tokens),
        f"{row.nbytes / 1e6:.1f}",
        "" if row.usage is None else f"{row.usage:.3f}",
    )
