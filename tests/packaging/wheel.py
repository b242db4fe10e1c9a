"""A wheel as users build it, used in an environment of its own: `make test-wheel`.

It downloads packages, and compiles the kernels, which takes minutes; that is why `make test` does not collect it. torch
alone is lent by the environment that runs the tests.
"""

import importlib.util
import json
import os
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import checkout


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of this checkout and of what is built; it must succeed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STM_FAST_", "PYTHON"))}
    inherited.pop("PIP_NO_BUILD_ISOLATION", None)
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Python of its own, `bin/python`, that has torch and nothing else."""
    folder = tmp_path_factory.mktemp("machine")
    venv.create(folder, with_pip=True)
    lent = folder / "lent"
    lent.mkdir()
    for file in metadata.files("torch") or ():
        place = Path(file.parts[0])
        if place.suffix not in ("", ".dist-info", ".libs") or place.name in ("..", "__pycache__"):
            continue
        if not (lent / place).is_symlink():
            (lent / place).symlink_to(metadata.distribution("torch").locate_file(place))
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(f"{lent}\n")
    return folder


@pytest.fixture(scope="module")
def wheel(machine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built in isolation from a source distribution of a clean checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    clone = checkout.copy(folder / "clone")
    backend = "from setuptools import build_meta; build_meta.build_sdist('..')"
    run(sys.executable, "-c", backend, cwd=clone)
    (source,) = folder.glob("stm_fast-*.tar.gz")
    run(machine / "bin" / "pip", "wheel", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(machine: Path, wheel: Path) -> Path:
    """The machine with the wheel, and all that it depends on, of the versions that are pinned."""
    pinned = Path(__file__).parents[2] / "requirements.txt"
    run(machine / "bin" / "pip", "install", "--constraint", pinned, wheel, cwd=machine)
    return machine


def test_the_wheel_holds_the_library_its_sources_and_the_weights(wheel: Path) -> None:
    assert wheel.name.split("-")[2:4] == ["cp310", "abi3"]
    assert wheel.name.split("-")[4].startswith("linux_")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    clone = wheel.parent / "clone"
    kept = {path.relative_to(clone) for path in (clone / "csrc").rglob("*") if path.suffix in (".h", ".cpp", ".cu")}
    kept |= {path.relative_to(clone) for path in (clone / "kernels").glob("*.py")}
    wanted = {f"stm_fast/{path.as_posix()}" for path in kept} | {
        "stm_fast/_cpu.abi3.so",
        "stm_fast/models/weights/compact.safetensors",
        "stm_fast/py.typed",
    }
    assert wanted <= names, sorted(wanted - names)
    described = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    assert {name.split("/")[0] for name in names} == {"stm_fast", described}


def test_doctor_finds_the_library_that_came_with_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Nothing is built: not even a compiler is there."""
    done = run(
        installed / "bin" / "stm-fast",
        "doctor",
        cwd=tmp_path,
        STM_FAST_CACHE=str(tmp_path / "cache"),
        CXX="/nowhere/c++",
        COLUMNS="200",
    )
    (row,) = [line for line in done.stdout.splitlines() if line.split()[1:2] == ["cpu"] and "on (cpu)" in line]
    assert "passed" in row
    assert "compiling" not in done.stderr
    assert not (tmp_path / "cache").exists()


def test_segment_follows_an_object(installed: Path, tmp_path: Path) -> None:
    """A red disc on grey, moving to the right; `python -m stm_fast` from another folder than the clone."""
    frames, masks = tmp_path / "frames", []
    frames.mkdir()
    rows, columns = np.mgrid[:96, :128]
    for index in range(6):
        masks.append((rows - 48) ** 2 + (columns - 40 - 8 * index) ** 2 < 20**2)
        picture = np.where(masks[-1][..., None], (200, 30, 30), (128, 128, 128)).astype(np.uint8)
        Image.fromarray(picture).save(frames / f"{index:05}.png")
    Image.fromarray(masks[0].astype(np.uint8) * 255).save(tmp_path / "mask.png")
    options = ("segment", frames, "--mask", tmp_path / "mask.png", "--out", tmp_path / "out", "--threads", "1")
    run(installed / "bin" / "python", "-m", "stm_fast", *options, cwd=tmp_path, STM_FAST_CACHE=str(tmp_path / "cache"))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["frames"], summary["backend"], summary["complete"]) == (6, "cpu", True)
    found = np.asarray(Image.open(tmp_path / "out" / "masks" / "00005.png")) > 0
    overlap = (found & masks[-1]).sum() / (found | masks[-1]).sum()
    assert overlap > 0.8
    assert not (tmp_path / "cache").exists()


def test_the_library_is_of_the_sources_beside_it(installed: Path) -> None:
    (package,) = installed.glob("lib/python*/site-packages/stm_fast")
    spec = importlib.util.spec_from_file_location("recipe", package / "ops" / "compiled" / "recipe.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    key = recipe.source_key(package / "csrc", "cpu")
    assert key.encode() in (package / recipe.LIBRARIES["cpu"]).read_bytes()
