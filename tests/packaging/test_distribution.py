"""What is packed where no compiler is, and what describes it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import checkout

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built without a compiler, in a checkout in which an earlier build has left files."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("pure")
    clone = checkout.copy(folder / "clone")
    earlier = clone / "build" / f"lib.linux-{os.uname().machine}-{sys.implementation.cache_tag}" / "stm_fast"
    for built in (clone / "build" / "lib" / "stm_fast", earlier):
        built.mkdir(parents=True)
        (built / "gone.py").write_text("")
        (built / "_cpu.abi3.so").write_bytes(b"")
    environment = {name: value for name, value in os.environ.items() if name != "STM_FAST_STRICT"}
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run(
        [sys.executable, "-c", build],
        cwd=clone,
        env={**environment, "CXX": "/nowhere/c++", "STM_FAST_CUDA": "0"},
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


def test_a_wheel_without_a_library_is_for_every_platform(pure: zipfile.ZipFile) -> None:
    assert Path(pure.filename or "").name.endswith("-py3-none-any.whl")
    assert not [name for name in pure.namelist() if name.endswith(".so")]


def test_it_holds_what_the_library_is_built_from(pure: zipfile.ZipFile) -> None:
    csrc = ROOT / "csrc"
    sources = [path for path in csrc.rglob("*") if path.suffix in (".h", ".cpp", ".cu")]
    assert len(sources) > 50
    missing = {f"stm_fast/csrc/{path.relative_to(csrc).as_posix()}" for path in sources} - {*pure.namelist()}
    assert not missing


def test_it_holds_weights_kernels_the_page_and_licences(pure: zipfile.ZipFile) -> None:
    kernels = {f"stm_fast/kernels/{path.name}" for path in (ROOT / "kernels").glob("*.py")}
    weights = {"stm_fast/models/weights/compact.safetensors"}
    static = ROOT / "stm_fast" / "app" / "static"
    page = {f"stm_fast/{path.relative_to(ROOT / 'stm_fast')}" for path in static.rglob("*") if path.is_file()}
    assert len(page) > 30
    wanted = kernels | weights | page | {"stm_fast/py.typed", "stm_fast/__main__.py"}
    assert wanted <= {*pure.namelist()}
    licences = [name for name in pure.namelist() if name.endswith("/LICENSE") and ".dist-info/" in name]
    assert len(licences) == 1


def test_it_holds_nothing_of_an_earlier_build_or_of_developers(pure: zipfile.ZipFile) -> None:
    names = pure.namelist()
    assert "stm_fast/gone.py" not in names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"stm_fast"}


def test_its_metadata_names_the_platforms_that_it_is_tried_on(pure: zipfile.ZipFile) -> None:
    (name,) = [name for name in pure.namelist() if name.endswith(".dist-info/METADATA")]
    lines = pure.read(name).decode().splitlines()
    systems = [line for line in lines if line.startswith("Classifier: Operating System")]
    assert systems == ["Classifier: Operating System :: POSIX :: Linux"]
    assert "License-Expression: Apache-2.0" in lines
