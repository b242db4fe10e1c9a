"""The picture of imports and the way of a read in docs/architecture.md, both made from the code.

    python -m tools.import_graph [--check]

Writes the blocks between `<!-- made by tools.import_graph: NAME -->` and `<!-- end -->` anew; with --check it fails if
one of them is not what the code says. The way of a read is traced: a small read is run with a backend, and the Python
files whose functions are under way when its kernel is launched are noted, the outermost first; those that the call has
entered and left by then, such as checks and plans, follow.
"""

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import stm_fast
from tools.blocks import ROOT, add_check, update

PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = {"stm_fast": ROOT / "stm_fast", "stm_fast.kernels": ROOT / "kernels", "tools": ROOT / "tools"}
BACKENDS = {"cpu": {}, "triton": {"TRITON_INTERPRET": "1"}}
"""Backends that are traced, and the environment that they need on a machine without a GPU."""
MAX_FILES = 6
"""Maximum number of files from `memory_read` to the launch of a kernel."""
TOOL = "tools.import_graph"


@cache
def modules() -> dict[str, Path]:
    """Return the file of every module of the package, of the kernels and of the tools, by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return found


def imported_names(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports from this repository, anywhere in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "stm_fast":
            yield from (stm_fast._HOMES.get(alias.name, f"stm_fast.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imports() -> dict[str, set[str]]:
    """Return the modules that every module imports. Names of the package itself count as their modules."""
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = set()
        for dotted in imported_names(path):
            module = dotted if dotted in known else dotted.rpartition(".")[0]
            if module in known and module not in (name, "stm_fast"):
                targets.add(module)
        graph[name] = targets if name != "stm_fast" else set()
    return graph


def circles() -> list[list[str]]:
    """Return the sets of modules that import one another, directly or not."""
    graph = imports()
    reached = {name: _reachable(graph, name) for name in graph}
    found = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in graph}
    return sorted(list(circle) for circle in found if len(circle) > 1)


def room(module: str) -> str:
    """Return the room of the house that a module is in: a folder of `stm_fast`, or a module at its top."""
    return module.split(".")[1]


def rooms() -> dict[str, set[str]]:
    """Return the rooms that every room of `stm_fast` imports."""
    graph: dict[str, set[str]] = {}
    for name, targets in imports().items():
        if name.startswith("stm_fast."):
            graph.setdefault(room(name), set()).update(room(target) for target in targets)
    return {name: {target for target in targets if target != name} for name, targets in graph.items()}


def picture() -> str:
    """Return the rooms as a Mermaid flowchart, without arrows that follow from others."""
    graph = {name: targets for name, targets in rooms().items() if name != "__main__"}
    lines = ["```mermaid", "flowchart TD"]
    for name in sorted(graph):
        targets = graph[name]
        implied = {later for target in targets for later in _reachable(graph, target)}
        lines += [f"    {name} --> {target}" for target in sorted(targets - implied)]
    return "\n".join([*lines, "```"])


class Way(NamedTuple):
    """The Python files of this package that a read enters until its kernel is launched.

    Attributes:
        under_way: whose functions wait for the launch, the outermost first.
        left: whose functions have returned by then, in the order of their first call.
    """

    under_way: list[str]
    left: list[str]


def way(backend: str) -> Way:
    """Return the way of a warm read, traced in a process of its own."""
    command = [sys.executable, "-m", "tools.import_graph", "--trace", backend]
    environment = os.environ | BACKENDS[backend]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    under_way, left = done.stdout.splitlines()
    return Way(under_way.split(), left.split())


def trace(backend: str) -> Way:
    """Trace a warm read in this process."""
    import torch

    from stm_fast.ops import compiled, memory_read

    key, value = torch.rand(1, 16, 40), torch.rand(1, 16, 40)
    entered: list[str] = []
    under_way: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or under_way:
            return
        file = file_of(frame)
        if file is not None:
            entered.append(file)
        # The compiled library is called by the function that checks what it returned.
        if frame.f_code is compiled._check.__code__ or "triton" in Path(frame.f_code.co_filename).parts:
            under_way.extend(stack_of(frame))

    for _ in range(2):
        memory_read(key, key, value, backend=backend)
    sys.setprofile(note)
    try:
        memory_read(key, key, value, backend=backend)
    finally:
        sys.setprofile(None)
    stack = [*dict.fromkeys(under_way)]
    return Way(stack, [file for file in dict.fromkeys(entered) if file not in stack])


def file_of(frame: FrameType) -> str | None:
    """Return the file of a frame, relative to the repository; None for those of others."""
    path = Path(frame.f_code.co_filename).resolve()
    file = str(path.relative_to(ROOT)) if ROOT in path.parents else ""
    return file if file.startswith(("stm_fast/", "kernels/")) else None


def stack_of(frame: FrameType | None) -> list[str]:
    """Return the files of a frame and of its callers, the outermost first."""
    files: list[str] = []
    while frame is not None:
        if file := file_of(frame):
            files.insert(0, file)
        frame = frame.f_back
    return files


def ways() -> str:
    """Return the way of a read with every backend as a Markdown list."""
    lines = []
    for backend in BACKENDS:
        under_way, left = way(backend)
        names = " → ".join(f"`{file}`" for file in under_way)
        helpers = ", ".join(f"`{file}`" for file in left)
        lines.append(f"- {backend}, {len(under_way)} files: {names}. They call {helpers}.")
    return "\n".join(lines)


BLOCKS = {"imports": picture, "way of a read": ways}


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    pending = [*graph.get(start, ())]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += graph.get(name, ())
    return found


def main() -> None:
    """Write the page, check it, or trace a read."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    add_check(parser)
    parser.add_argument("--trace", choices=BACKENDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trace:
        for files in trace(options.trace):
            print(*files)
        return
    update([PAGE], TOOL, BLOCKS, check=options.check)


if __name__ == "__main__":
    main()
