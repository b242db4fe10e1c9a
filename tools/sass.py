"""Read machine code of NVIDIA GPUs as `cuobjdump -sass` prints it: instructions of kernels, and their loops."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

_CHIP = re.compile(r"arch = (sm_\d+)")
_KERNEL = re.compile(r"Function : (\w+)")
_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)([^;]*);")
_TARGET = re.compile(r"(?:0x|`\(\.L_x_)([0-9a-f]+)\)?\s*$")


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
        address: address of its first byte in the kernel.
        guarded: whether a predicate decides if it is executed.
        name: name with suffixes, such as `LDGSTS.E.BYPASS.128`.
        target: the address that it branches to or calls; a call need not return.
    """

    address: int
    guarded: bool
    name: str
    target: int | None


def kernels_of(listing: str) -> Iterator[tuple[str, str, list[Instruction]]]:
    """Yield chip, mangled name and instructions of each kernel in a listing."""
    chip = kernel = ""
    code: list[Instruction] = []
    for line in listing.splitlines():
        if found := _INSTRUCTION.search(line):
            branch = _TARGET.search(found[4]) if found[3].startswith(("BRA", "CALL")) else None
            guarded = found[2] is not None or re.search(r"\bU?P\d", found[4]) is not None
            code.append(Instruction(int(found[1], 16), guarded, found[3], branch and int(branch[1], 16)))
        elif found := _CHIP.search(line) or _KERNEL.search(line):
            if code:
                yield chip, kernel, code
                code = []
            if found.re is _CHIP:
                chip = found[1]
            else:
                kernel = found[1]
    if code:
        yield chip, kernel, code


def count(code: list[Instruction], mnemonic: str) -> int:
    """Return the number of instructions whose name begins with `mnemonic`."""
    return sum(item.name.startswith(mnemonic) for item in code)


def main_loop(code: list[Instruction], of_loops: list[list[Instruction]], mnemonic: str) -> list[Instruction]:
    """Return the outermost loop with most instructions of a name, or all code if none is in a loop."""
    best = max(of_loops, key=lambda loop: (count(loop, mnemonic), len(loop)), default=[])
    return best if count(best, mnemonic) else code


def loops(code: list[Instruction]) -> list[list[Instruction]]:
    """Return the natural loops of a kernel: all blocks between a backward branch and its target, which dominates it."""
    blocks = _blocks(code)
    successors = _successors(blocks)
    predecessors: dict[int, list[int]] = {index: [] for index in successors}
    for index, following in successors.items():
        for other in following:
            predecessors[other].append(index)
    order = _in_order(successors)
    dominator = _dominators(order, predecessors)
    bodies: dict[int, set[int]] = {}
    for index in order:
        for head in successors[index]:
            if _dominates(dominator, head, index):
                body = bodies.setdefault(head, {head})
                stack = [index]
                while stack:
                    block = stack.pop()
                    if block not in body:
                        body.add(block)
                        stack += predecessors[block]
    return [[item for block in sorted(body) for item in blocks[block]] for body in bodies.values()]


def _blocks(code: list[Instruction]) -> list[list[Instruction]]:
    """Return the basic blocks: instructions between branches and targets of branches."""
    heads = {item.target for item in code}
    blocks: list[list[Instruction]] = [[]]
    for item in code:
        if blocks[-1] and item.address in heads:
            blocks.append([])
        blocks[-1].append(item)
        if item.name.startswith(("BRA", "CALL", "EXIT", "RET")):
            blocks.append([])
    return [block for block in blocks if block]


def _successors(blocks: list[list[Instruction]]) -> dict[int, list[int]]:
    at = {block[0].address: index for index, block in enumerate(blocks)}
    result = {}
    for index, block in enumerate(blocks):
        last = block[-1]
        ends = last.name.startswith(("BRA", "EXIT", "RET")) and not last.guarded
        following = [] if ends or index + 1 == len(blocks) else [index + 1]
        if last.target in at:
            following.append(at[last.target])
        result[index] = following
    return result


def _in_order(successors: dict[int, list[int]]) -> list[int]:
    """Return the blocks that are reached from the first, each after one that leads to it (reverse postorder)."""
    finished: list[int] = []
    seen = {0}
    stack = [(0, iter(successors[0]))]
    while stack:
        index, rest = stack[-1]
        following = next((other for other in rest if other not in seen), None)
        if following is None:
            finished.append(index)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(successors[following])))
    return finished[::-1]


def _dominators(order: list[int], predecessors: dict[int, list[int]]) -> dict[int, int]:
    """Return the immediate dominator of each block (Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm)."""
    rank = {index: place for place, index in enumerate(order)}
    dominator = {order[0]: order[0]}
    changed = True
    while changed:
        changed = False
        for index in order[1:]:
            candidates = [other for other in predecessors[index] if other in dominator]
            best = candidates[0]
            for other in candidates[1:]:
                while best != other:
                    while rank[best] > rank[other]:
                        best = dominator[best]
                    while rank[other] > rank[best]:
                        other = dominator[other]
            if dominator.get(index) != best:
                dominator[index] = best
                changed = True
    return dominator


def _dominates(dominator: dict[int, int], head: int, index: int) -> bool:
    while index != head and dominator[index] != index:
        index = dominator[index]
    return index == head


def widths(code: list[Instruction]) -> Counter[int]:
    """Return the number of asynchronous copies of each width in bytes."""
    return Counter(map(_width, filter(_is_copy, code)))


def _is_copy(item: Instruction) -> bool:
    return item.name.startswith("LDGSTS")


def _width(item: Instruction) -> int:
    return 16 if ".128" in item.name else 8 if ".64" in item.name else 4
