"""Reading NVIDIA machine code: the main loop of a kernel, and what is in it."""

import re
from typing import NamedTuple

MATRIX_INSTRUCTIONS = r"(?:[HIQ]MMA|HGMMA|UTC[A-Z]*MMA)"
"""Products on tensor cores: mma.sync, wgmma, tcgen05."""
DESCRIPTOR_BYTES = 128
"""What a copy by a tensor descriptor (TMA) counts as."""
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*?);")
_LABEL = re.compile(r"^(\.L_x_\d+):")


class Instruction(NamedTuple):
    """An instruction: its name with modifiers, such as `LDGSTS.E.64`, and its arguments."""

    name: str
    arguments: str

    def does(self, pattern: str) -> bool:
        """Whether its name, without modifiers, matches a pattern."""
        return re.fullmatch(pattern, self.name.partition(".")[0]) is not None


class Loop(NamedTuple):
    """What one turn of a kernel's main loop does.

    Attributes:
        instructions: in it.
        matrix: products on tensor cores.
        waits: for products that run asynchronously (wgmma).
        barriers: of all warps.
        copy_bytes: of the narrowest asynchronous copy from global to shared memory; 0 if there is none. A copy by
            descriptor counts as DESCRIPTOR_BYTES.
    """

    instructions: int
    matrix: int
    waits: int
    barriers: int
    copy_bytes: int


def parse(code: str) -> list[Instruction | str]:
    """Instructions and labels of a disassembled kernel, in order; a label is its name."""
    found: list[Instruction | str] = []
    for line in code.splitlines():
        if label := _LABEL.match(line):
            found.append(label[1])
        elif instruction := _INSTRUCTION.match(line):
            found.append(Instruction(instruction[1], instruction[2]))
    return found


def main_loop(code: str) -> Loop:
    """The loop that holds most products; of several such, or without products, the longest innermost one."""
    parsed = parse(code)
    bodies = [
        [item for item in parsed[start:end] if isinstance(item, Instruction)] for start, end in _innermost(parsed)
    ]
    body = max(bodies, key=lambda body: (_count(body, MATRIX_INSTRUCTIONS), len(body)), default=[])
    return Loop(
        instructions=len(body),
        matrix=_count(body, MATRIX_INSTRUCTIONS),
        waits=_count(body, "WARPGROUP", "WARPGROUP.DEPBAR"),
        barriers=_count(body, "BAR"),
        copy_bytes=_narrowest_copy(body),
    )


def _innermost(parsed: list[Instruction | str]) -> list[tuple[int, int]]:
    """Loops that hold no other, from label to backward branch."""
    labels = {item: place for place, item in enumerate(parsed) if isinstance(item, str)}
    loops: dict[int, int] = {}
    for place, item in enumerate(parsed):
        if isinstance(item, Instruction) and item.does("BRA"):
            target = re.search(r"\.L_x_\d+", item.arguments)
            start = labels.get(target[0], place) if target else place
            if start < place - 1:
                loops[start] = max(place + 1, loops.get(start, 0))
    spans = sorted(loops.items())
    return [
        (start, end)
        for start, end in spans
        if not any(start <= other and stop <= end and (start, end) != (other, stop) for other, stop in spans)
    ]


def _count(body: list[Instruction], pattern: str, prefix: str = "") -> int:
    return sum(item.does(pattern) and item.name.startswith(prefix) for item in body)


def _narrowest_copy(body: list[Instruction]) -> int:
    """Bytes of the narrowest copy of tiles; a few of 4 bytes among wider ones are of statistics, a number a query."""
    widths = list(filter(None, map(_copied, body)))
    wider = [width for width in widths if width > 4]
    return min(wider if wider and len(widths) - len(wider) <= 4 else widths, default=0)


def _copied(item: Instruction) -> int:
    """Bytes that a thread copies asynchronously."""
    if item.does("UTMALDG|UBLKCP"):
        return DESCRIPTOR_BYTES
    if not item.does("LDGSTS"):
        return 0
    width = re.search(r"\.(64|128)\b", item.name)
    return int(width[1]) // 8 if width else 4
