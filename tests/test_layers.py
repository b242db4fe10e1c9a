"""The rooms of the house: imports point one way, backends stay apart, and every folder is a package."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import stm_fast

PACKAGE = Path(stm_fast.__file__).parent
LEVELS = {
    "__main__": 7,
    "cli": 6,
    "training": 5,
    "evaluation": 5,
    "integrations": 5,
    "tracking": 4,
    "inference": 3,
    "models": 2,
    "memory": 2,
    "data": 2,
    "media": 2,
    "ops": 1,
    "kernels": 0,
    "errors": 0,
    "progress": 0,
    "__version__": 0,
}
KERNELS = PACKAGE.parent / "kernels"
MODULES = sorted({*PACKAGE.rglob("*.py"), *KERNELS.rglob("*.py")} - {PACKAGE / "__init__.py"})


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a module imports from this package, wherever in the file: modules, or names of `stm_fast`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("stm_fast."))
        elif isinstance(node, ast.ImportFrom) and node.module == "stm_fast":
            yield from (stm_fast._HOMES.get(alias.name, f"stm_fast.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stm_fast."):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_nothing_below_imports_anything_above(path: Path) -> None:
    room = "kernels" if KERNELS in path.parents else path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    above = [name for name in imported(path) if LEVELS[name.split(".")[1]] > LEVELS[room]]
    assert not above


def test_backends_do_not_import_one_another() -> None:
    home = PACKAGE / "ops" / "backends"
    for path in home.glob("*.py"):
        backends = [name for name in imported(path) if name.startswith("stm_fast.ops.backends")]
        assert not [name for name in backends if not name.startswith("stm_fast.ops.backends.registry")], path.name


def test_every_folder_of_modules_is_a_package() -> None:
    assert not {path.parent for path in MODULES if not (path.parent / "__init__.py").exists()}


def test_typing_marker_is_there() -> None:
    assert (PACKAGE / "py.typed").exists()
