"""What the CUDA kernels need on every chip, held against tools/cuda_budgets.json. No GPU is needed, but nvcc.

    python -m tools.cuda_budgets            compile everything and compare with the file
    python -m tools.cuda_budgets --write    compile everything and write the file
    python -m tools.cuda_budgets --table    print the file as a table

Shared memory is not in the binaries: `csrc/cuda/engine.cu` takes for every read the kernel that fits the GPU.
"""

import argparse
import json
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILE = ROOT / "tools" / "cuda_budgets.json"
RECIPE = runpy.run_path(str(ROOT / "stm_fast" / "ops" / "compiled" / "recipe.py"))
INSTRUCTIONS = {"matrix": "HMMA", "copies": "LDGSTS"}
"""Products on tensor cores, and asynchronous copies from global to shared memory."""


def measure(nvcc: str) -> dict[str, Any]:
    """Registers, bytes in local memory and instructions of each kernel, by chip."""
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "engine.o"
        flags = [*RECIPE["cuda_flags"](ROOT / "csrc")]
        _run(nvcc, *flags, "-c", str(ROOT / "csrc" / "cuda" / "engine.cu"), "-o", str(binary))
        resources = _run(_tool("cuobjdump"), "--dump-resource-usage", str(binary))
        code = _run(_tool("cuobjdump"), "-sass", str(binary))
    table: dict[str, Any] = {}
    chip = kernel = ""
    for line in resources.splitlines():
        if found := re.search(r"arch = (sm_\d+)", line):
            chip = found[1]
        elif found := re.search(r"Function (\w+):", line):
            kernel = found[1]
        elif found := re.search(r"REG:(\d+) STACK:(\d+)", line):
            needs = {"registers": int(found[1]), "spilled": int(found[2]), **dict.fromkeys(INSTRUCTIONS, 0)}
            table.setdefault(chip, {})[kernel] = needs
    of_instruction = {mnemonic: name for name, mnemonic in INSTRUCTIONS.items()}
    for found in re.finditer(rf"arch = (sm_\d+)|Function : (\w+)|\b({'|'.join(of_instruction)})\b", code):
        chip, kernel = found[1] or chip, found[2] or kernel
        if found[3]:
            table[chip][kernel][of_instruction[found[3]]] += 1
    names = sorted({kernel for kernels in table.values() for kernel in kernels})
    spoken = dict(zip(names, _run("c++filt", *names).splitlines(), strict=True))
    return {
        chip: dict(sorted((_short(spoken[kernel]), needs) for kernel, needs in kernels.items()))
        for chip, kernels in sorted(table.items(), key=lambda item: int(item[0][3:]))
    }


def _short(signature: str) -> str:
    """`dense<float, float, 256>` of a kernel's signature."""
    name = re.sub(
        r"\(stm::cuda::Side\)(\d)", lambda found: ("query", "key", "value", "usage")[int(found[1])], signature
    )
    return re.sub(r"^void |stm::cuda::|stm::|_kernel|\([\w:]+\)$", "", name)


def _tool(name: str) -> str:
    """One of CUDA's tools: beside nvcc, or in triton's package."""
    nvcc = shutil.which(RECIPE["find_nvcc"]())
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
    """What is worse than the budgets allow, or missing, one sentence each."""
    for chip, kernels in budgets.items():
        if chip != "nvcc":
            yield from (f"{kernel} on {chip} is missing" for kernel in kernels if kernel not in found.get(chip, {}))
    for chip, kernels in found.items():
        for kernel, needs in kernels.items():
            allowed = budgets.get(chip, {}).get(kernel)
            if allowed is None:
                yield f"{kernel} on {chip} has no budget"
                continue
            for name in ("registers", "spilled"):
                if needs[name] > allowed[name]:
                    yield f"{kernel} on {chip}: {name} {needs[name]}, budget {allowed[name]}"
            for name in INSTRUCTIONS:
                if bool(needs[name]) != bool(allowed[name]):
                    yield f"{kernel} on {chip}: {needs[name]} {name} instructions, budget {allowed[name]}"


def table_of(budgets: dict[str, Any]) -> str:
    """The budgets as a Markdown table."""
    lines = ["| chip | kernel | registers | spilled bytes | matrix instructions | asynchronous copies |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [
        f"| {chip} | {kernel} | {needs['registers']} | {needs['spilled']} | {needs['matrix']} | {needs['copies']} |"
        for chip, kernels in budgets.items()
        if chip != "nvcc"
        for kernel, needs in kernels.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write tools/cuda_budgets.json")
    parser.add_argument("--table", action="store_true", help="print tools/cuda_budgets.json as a table")
    arguments = parser.parse_args()
    if arguments.table:
        print(table_of(json.loads(FILE.read_text())))
        return
    try:
        nvcc = RECIPE["find_nvcc"]()
    except RECIPE["BuildError"] as error:
        print(f"the budgets of the CUDA kernels are not checked: {error}")
        return
    found = measure(nvcc)
    version = re.search(r"release ([\d.]+)", _run(nvcc, "--version"))
    if arguments.write:
        FILE.write_text(json.dumps({**found, "nvcc": version[1] if version else ""}, indent=1) + "\n")
        return
    budgets = json.loads(FILE.read_text())
    broken = list(faults(found, budgets))
    print("\n".join([*broken, f"{len(broken)} faults"]))
    if broken and version and version[1] != budgets["nvcc"]:
        print(f"the budgets are those of nvcc {budgets['nvcc']}; this is {version[1]}")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
