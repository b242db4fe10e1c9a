"""A machine with a GPU and little else, pretended: a clean checkout, and packages that are not there."""

import os
import re
from importlib import metadata
from pathlib import Path

from tests import checkout

INSTALLED = (
    "torch", "triton", "numpy", "cmake", "ninja", "pytest", "pytest-xdist", "hypothesis", "typer", "rich",
    "safetensors", "matplotlib",
)  # fmt: skip
"""What is installed there, beside what these need."""

HIDING = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

HIDDEN = frozenset({hidden!r})


class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)


sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Bare]
"""
"""A sitecustomize: neither it nor what an editable installation put there finds other packages."""


def make(folder: Path) -> tuple[Path, dict[str, str]]:
    """Copy the checkout, and hide what is not installed there.

    Args:
        folder: an empty one.

    Returns:
        The root of the copy, and an environment in which Python and all that it starts have only what that machine has.
    """
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(HIDING.format(hidden=sorted(hidden())))
    return checkout.copy(folder / "checkout"), {**os.environ, "PYTHONPATH": str(site)}


def hidden() -> set[str]:
    """Modules of packages that are installed here and not there."""
    there = _with_requirements(INSTALLED)
    there.add("stm-fast")
    owned = metadata.packages_distributions().items()
    return {module for module, owners in owned if there.isdisjoint(map(_plain, owners))}


def _with_requirements(names: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    wanted = [*map(_plain, names)]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.add(name)
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        wanted += [_plain(re.split(r"[^\w.-]", text)[0]) for text in requirements if "extra ==" not in text]
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
