"""The rooms of the house: imports point one way and in no circle, backends stay apart, and files are short."""

import subprocess
from pathlib import Path

import pytest

import stm_fast
from tools import import_graph
from tools.blocks import rewritten
from tools.import_graph import imported_names

PACKAGE = Path(stm_fast.__file__).parent
LEVELS = {
    "__main__": 8,
    "cli": 7,
    "app": 6,
    "training": 5,
    "evaluation": 5,
    "export": 5,
    "integrations": 5,
    "tracking": 4,
    "inference": 3,
    "runtimes": 3,
    "models": 2,
    "memory": 2,
    "data": 2,
    "media": 2,
    "prompters": 2,
    "ops": 1,
    "kernels": 0,
    "errors": 0,
    "processes": 0,
    "progress": 0,
    "__version__": 0,
}
KERNELS = PACKAGE.parent / "kernels"
SOURCES = {".py", ".h", ".cpp", ".cu", ".cuh", ".js", ".css"}
MAX_LINES = 400
MODULES = sorted({*PACKAGE.rglob("*.py"), *KERNELS.rglob("*.py")} - {PACKAGE / "__init__.py"})


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_nothing_below_imports_anything_above(path: Path) -> None:
    room = "kernels" if KERNELS in path.parents else path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    above = [
        name
        for name in imported_names(path)
        if name.startswith("stm_fast.") and LEVELS[name.split(".")[1]] > LEVELS[room]
    ]
    assert not above


def test_backends_do_not_import_one_another() -> None:
    home = PACKAGE / "ops" / "backends"
    for path in home.glob("*.py"):
        backends = [name for name in imported_names(path) if name.startswith("stm_fast.ops.backends")]
        assert not [name for name in backends if not name.startswith("stm_fast.ops.backends.registry")], path.name


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert not import_graph.circles()


def test_circles_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = {"a": {"b", "d"}, "b": {"c"}, "c": {"a"}, "d": {"d2"}, "d2": set()}
    monkeypatch.setattr(import_graph, "imports", lambda: graph)
    assert import_graph.circles() == [["a", "b", "c"]]


def test_files_are_short() -> None:
    """All that git tracks, and what it would track."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=import_graph.ROOT, check=True, capture_output=True, text=True).stdout.split()
    files = [import_graph.ROOT / name for name in names]
    sources = [path for path in files if path.suffix in SOURCES and path.is_file() and not path.is_symlink()]
    assert len(sources) > 300
    lengths = {str(path.relative_to(import_graph.ROOT)): len(path.read_text().splitlines()) for path in sources}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


@pytest.mark.parametrize("backend", import_graph.BACKENDS)
def test_the_way_of_a_read_is_short(backend: str) -> None:
    if backend == "triton":
        pytest.importorskip("triton")
    files = import_graph.way(backend).under_way
    assert files[0] == "stm_fast/ops/api.py"
    assert 4 < len(files) <= import_graph.MAX_FILES, files


def test_the_page_shows_the_imports_and_the_way_of_a_read() -> None:
    """After a change of either `python -m tools.import_graph` writes the page anew."""
    pytest.importorskip("triton")
    text = import_graph.PAGE.read_text()
    assert text.count("<!-- made by tools.import_graph: ") == len(import_graph.BLOCKS)
    assert rewritten(text, import_graph.TOOL, import_graph.BLOCKS) == text


def test_every_folder_of_modules_is_a_package() -> None:
    assert not {path.parent for path in MODULES if not (path.parent / "__init__.py").exists()}


def test_typing_marker_is_there() -> None:
    assert (PACKAGE / "py.typed").exists()
