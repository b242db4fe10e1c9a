"""The tables of docs/gpu.md, written from the budgets: run it after `make budgets` has changed them.

    python -m tools.docs_tables

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`; what is between them is replaced.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.read.gpu import model as gpu_model
from benchmarks.read.gpu.model import OPERATIONS, PASSES, pinned
from stm_fast.kernels.launch import blocks
from tools import triton_budgets

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gpu.md"
BEFORE = Path(__file__).parent / "budgets_before.json"
"""What the kernels needed at an earlier commit, read from the binaries with the same tools. Of nested loops, what the
inner one does is counted as often as it runs for a tile."""
CHIP = "sm_90"
READS = ("STM", "STCN", "XMem")
COLUMNS = {
    "registers": "registers",
    "spilled": "spilled bytes",
    "shared": "shared KB",
    "instructions": "instructions a turn",
    "matrix": "matrix",
    "waits": "waits",
    "barriers": "barriers",
    "copy_bytes": "bytes a copy",
}
_MARKED = re.compile(r"(<!-- table: ([\w ]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def page(text: str) -> str:
    """The text of a page with its tables written anew.

    Raises:
        ValueError: the page asks for a table that is none of `TABLES`.
    """

    def written(found: re.Match[str]) -> str:
        if found[2] not in TABLES:
            raise ValueError(f"a table {found[2]!r} is asked for; there are {', '.join(TABLES)}")
        return f"{found[1]}{TABLES[found[2]]()}\n{found[3]}"

    return _MARKED.sub(written, text)


def resources() -> str:
    """What each kernel needs on `CHIP`, by all versions of triton that the budgets know."""
    known = json.loads(triton_budgets.FILE.read_text())
    versions = [version for version in sorted(known) if re.fullmatch(r"[\d.]+", version)]
    rows = []
    for read in READS:
        for kernel in OPERATIONS:
            needs = [known[version][CHIP][read][f"{kernel}_kernel"] for version in versions]
            rows.append([read, kernel, *(_joined(_spoken(name, each) for each in needs) for name in COLUMNS)])
    said = f"{CHIP}, triton {' / '.join(versions)}; one figure where they agree."
    return f"{said}\n\n{_markdown(['read', 'kernel', *COLUMNS.values()], rows)}"


def before_and_after() -> str:
    """What each kernel needed at an earlier commit, and what it needs now."""
    before = json.loads(BEFORE.read_text())
    after = triton_budgets.budgets_of(pinned())[CHIP]
    shapes = {shape.name: shape for shape in triton_budgets.SHAPES}
    rows = []
    for read, kernels in before["reads"].items():
        for name, old in kernels.items():
            kernel = name.removesuffix("_kernel")
            tile, passes = gpu_model.tile_of(kernel, CHIP, shapes[read]), PASSES.get(kernel, 1)
            now = after[read][name]
            new = now | {counted: passes * now[counted] for counted in ("instructions", "waits", "barriers")}
            sizes = old["tile"], [tile.queries, tile.tokens, tile.value_channels]
            costs = (
                _per_thousand(kernel, size, needs, shapes[read]) for size, needs in zip(sizes, (old, new), strict=True)
            )
            cells = [" → ".join(_tile(kernel, size) for size in sizes), " → ".join(f"{cost:.0f}" for cost in costs)]
            compared = ("instructions", "waits", "barriers", "copy_bytes", "registers", "shared")
            cells += [f"{_spoken(column, old)} → {_spoken(column, new)}" for column in compared]
            rows.append([read, kernel, *cells])
    heads = ["read", "kernel", "tile", "instructions for 1000 scores", "a tile", "waits", "barriers", "bytes a copy"]
    said = f"{before['chip']}, triton {before['triton']}; commit {before['commit']} → now."
    return f"{said}\n\n{_markdown([*heads, 'registers', 'shared KB'], rows)}"


def model() -> str:
    """What `benchmarks.read.gpu.model` predicts."""
    return f"H100 SXM, microseconds.\n\n{gpu_model.table(gpu_model.GPUS['H100 SXM'], ['STM'])}"


def _per_thousand(kernel: str, tile: list[int], needs: dict[str, int], shape: triton_budgets.Shape) -> float:
    """Instructions of all warps for 1000 scores and all value channels, whatever slices these are cut into."""
    queries, tokens, value_channels = tile
    slices = blocks(shape.value_channels, value_channels) if kernel in ("dense", "value_gradient") else 1
    return 1000 * needs["instructions"] * needs["warps"] * slices / (queries * tokens)


def _tile(kernel: str, tile: list[int]) -> str:
    return " x ".join(map(str, tile[:2] if kernel in ("usage", "candidates") else tile))


def _spoken(column: str, needs: dict[str, Any]) -> str:
    """A need, as a table tells it; ptxas makes some products wait for one another."""
    if column == "shared":
        return f"{needs[column] / 1024:.0f}"
    if column == "copy_bytes":
        return triton_budgets.spoken(needs[column])
    return f"{needs[column]}{' serialized' if column == 'waits' and needs['serialized'] else ''}"


def _joined(cells: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(cells))


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))


TABLES: dict[str, Callable[[], str]] = {"resources": resources, "before and after": before_and_after, "model": model}


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
