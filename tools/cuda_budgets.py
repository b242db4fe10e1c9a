"""The resources of every CUDA kernel on every chip, compared with `cuda_budgets.json`. This needs nvcc but no GPU.

    python -m tools.cuda_budgets            compile everything and compare with the file
    python -m tools.cuda_budgets --write    compile everything and write the file
    python -m tools.cuda_budgets --table    print the file as a table

Shared memory is not in the binaries: `csrc/cuda/launch_read.cu` takes for every read the kernel that fits the GPU.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stm_fast.ops.compiled import recipe
from tools import sass

ROOT = Path(__file__).parents[1]
FILE = ROOT / "tools" / "cuda_budgets.json"
WIDTHS = (16, 8, 4)
"""Widths in bytes of an asynchronous copy from global to shared memory."""
LOOP_MAY_GROW = 1.03
"""Factor by which the instructions of the loop over tiles may exceed their budget: compilers differ a little."""

COLUMNS = {
    "registers": "registers",
    "spilled": "spilled bytes",
    "instructions": "instructions",
    "matrix": "matrix",
    "copies_16": "copies of 16 bytes",
    "copies_8": "of 8",
    "copies_4": "of 4",
    "per_copy": "instructions per copy",
    "loop": "instructions of the tile loop",
    "barriers": "barriers per tile",
    "divisions": "divisions in the loop",
}
"""Recorded numbers of a kernel and their headings. `matrix` counts products on tensor cores. `per_copy` is the
minimum over loops of instructions per 16-byte copy. The tile loop is the outermost loop with products."""


def measure(nvcc: str) -> dict[str, Any]:
    """Return the resources of each kernel by chip; see `COLUMNS`."""
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in recipe.cuda_sources(ROOT / "csrc"):
            binary = str(Path(folder) / f"{source.stem}.o")
            _run(nvcc, *recipe.cuda_flags(ROOT / "csrc"), "-c", str(source), "-o", binary)
            for chip, kernels in read(binary).items():
                table.setdefault(chip, {}).update(kernels)
    names = sorted({kernel for kernels in table.values() for kernel in kernels})
    spoken = dict(zip(names, _run("c++filt", *names).splitlines(), strict=True))
    return {
        chip: dict(sorted((_short(spoken[kernel]), needs) for kernel, needs in kernels.items()))
        for chip, kernels in sorted(table.items(), key=lambda item: int(item[0][3:]))
    }


def read(binary: str) -> dict[str, dict[str, dict[str, float]]]:
    """Return the resources of the kernels in an object file, by chip and mangled name."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    chip = kernel = ""
    for line in _run(_tool("cuobjdump"), "--dump-resource-usage", binary).splitlines():
        if found := re.search(r"arch = (sm_\d+)", line):
            chip = found[1]
        elif found := re.search(r"Function (\w+):", line):
            kernel = found[1]
        elif found := re.search(r"REG:(\d+) STACK:(\d+)", line):
            table.setdefault(chip, {})[kernel] = {"registers": int(found[1]), "spilled": int(found[2])}
    for chip, kernel, code in sass.kernels_of(_run(_tool("cuobjdump"), "-sass", binary)):
        table[chip][kernel] |= instructions_of(code)
    return table


def instructions_of(code: list[sass.Instruction]) -> dict[str, float]:
    """Return the recorded numbers of a kernel's instructions."""
    all_loops = sass.loops(code)
    tiles = sass.main_loop(code, all_loops, "HMMA")
    copies = sass.widths(code)
    return {
        "instructions": len(code),
        "matrix": sass.count(code, "HMMA"),
        **{f"copies_{width}": copies[width] for width in WIDTHS},
        "per_copy": min(
            (round(len(loop) / found, 1) for loop in all_loops if (found := sass.widths(loop)[16])), default=0
        ),
        "loop": len(tiles),
        "barriers": sass.count(tiles, "BAR"),
        "divisions": sass.count(tiles, "I2F"),
    }


def _short(signature: str) -> str:
    """Shorten a kernel's signature, as to `dense<float, float, 256>`."""
    return re.sub(r"^void |stm::cuda::|stm::|_kernel|\([\w:]+\)$", "", signature).replace("> >", ">>")


def _tool(name: str) -> str:
    """One of CUDA's tools: beside nvcc, or in triton's package."""
    nvcc = shutil.which(recipe.find_nvcc())
    beside = Path(nvcc or "").with_name(name)
    if beside.exists():
        return str(beside)
    import triton

    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name)


def _run(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{run.stdout}{run.stderr}")
    return run.stdout


def faults(found: dict[str, Any], budgets: dict[str, Any]) -> Iterator[str]:
    """Yield one sentence for each exceeded or missing budget and each missing kernel."""
    for chip, kernels in budgets.items():
        if chip != "nvcc":
            yield from (f"{kernel} on {chip} is missing" for kernel in kernels if kernel not in found.get(chip, {}))
    for chip, kernels in found.items():
        for kernel, needs in kernels.items():
            allowed = budgets.get(chip, {}).get(kernel)
            if allowed is None:
                yield f"{kernel} on {chip} has no budget"
                continue
            for name in ("registers", "spilled", "per_copy", "barriers", "divisions"):
                if needs[name] > allowed[name]:
                    yield f"{kernel} on {chip}: {name} {needs[name]}, budget {allowed[name]}"
            if needs["loop"] > allowed["loop"] * LOOP_MAY_GROW:
                yield f"{kernel} on {chip}: loop {needs['loop']}, budget {allowed['loop']}"
            for name in ("matrix", *(f"copies_{width}" for width in WIDTHS)):
                if bool(needs[name]) != bool(allowed[name]):
                    yield f"{kernel} on {chip}: {needs[name]} {name} instructions, budget {allowed[name]}"


def table_of(budgets: dict[str, Any]) -> str:
    """Return the budgets as a Markdown table."""
    lines = ["| chip | kernel | " + " | ".join(COLUMNS.values()) + " |", "|---|---|" + "---|" * len(COLUMNS)]
    lines += [
        f"| {chip} | {kernel} | " + " | ".join(str(needs[name]) for name in COLUMNS) + " |"
        for chip, kernels in budgets.items()
        if chip != "nvcc"
        for kernel, needs in kernels.items()
    ]
    return "\n".join(lines)


def text_of(budgets: dict[str, Any]) -> str:
    """Return the budgets as JSON, one kernel per line."""
    chips = [
        f" {json.dumps(chip)}: {{\n"
        + ",\n".join(f"  {json.dumps(kernel)}: {json.dumps(needs)}" for kernel, needs in kernels.items())
        + "\n }"
        for chip, kernels in budgets.items()
        if chip != "nvcc"
    ]
    return "{\n" + ",\n".join([*chips, f' "nvcc": {json.dumps(budgets["nvcc"])}']) + "\n}\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write tools/cuda_budgets.json")
    parser.add_argument("--table", action="store_true", help="print tools/cuda_budgets.json as a table")
    arguments = parser.parse_args()
    if arguments.table:
        print(table_of(json.loads(FILE.read_text())))
        return
    try:
        nvcc = recipe.find_nvcc()
    except recipe.BuildError as error:
        print(f"the budgets of the CUDA kernels are not checked: {error}")
        return
    found = measure(nvcc)
    version = re.search(r"release ([\d.]+)", _run(nvcc, "--version"))
    if arguments.write:
        FILE.write_text(text_of({**found, "nvcc": version[1] if version else ""}))
        return
    budgets = json.loads(FILE.read_text())
    broken = list(faults(found, budgets))
    print("\n".join([*broken, f"{len(broken)} faults"]))
    if broken and version and version[1] != budgets["nvcc"]:
        print(f"the budgets are those of nvcc {budgets['nvcc']}; this is {version[1]}")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
