"""Where the compiled library comes from."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stm_fast.ops.compiled import location, recipe

CSRC = Path(__file__).parents[2] / "csrc"
READ = """
from stm_fast.ops import compiled
from stm_fast.ops.compiled import location
location.PACKAGE = location.Path({package!r})
import torch
from stm_fast.ops import memory_read
result = memory_read(torch.ones(1, 4, 5), torch.ones(1, 4, 6), torch.ones(1, 3, 6), backend="cpu")
print(torch.equal(result, torch.ones(1, 3, 5)), compiled.instruction_sets()[-1])
"""


def test_the_packaged_library_is_that_of_the_sources() -> None:
    """`make` builds it anew when a source has changed."""
    packaged = location.PACKAGE / recipe.LIBRARIES["cpu"]
    assert location.find_library("cpu") == packaged
    assert recipe.source_key(CSRC, "cpu").encode() in packaged.read_bytes()


def test_a_changed_source_makes_another_key(tmp_path: Path) -> None:
    copy = tmp_path / "csrc"
    shutil.copytree(CSRC, copy)
    assert recipe.source_key(copy, "cpu") == recipe.source_key(CSRC, "cpu")
    (copy / "cpu" / "simd.h").write_text("// something else\n")
    assert recipe.source_key(copy, "cpu") != recipe.source_key(CSRC, "cpu")


def test_built_when_first_needed_by_one_process_of_several(tmp_path: Path) -> None:
    """An installed package without a library, in a folder with a space; compiled without optimization, to save time."""
    package = tmp_path / "site packages" / "stm_fast"
    shutil.copytree(CSRC, package / "csrc")
    compiler = tmp_path / "c++"
    compiler.write_text(f'#!/bin/sh\nexec {recipe.find_compiler()} "$@" -O0\n')
    compiler.chmod(0o755)
    settings = {"CXX": str(compiler), "STM_FAST_CACHE": str(tmp_path / "a cache"), "STM_FAST_CPU_ISA": "baseline"}
    environment = {**os.environ, **settings}
    program = READ.format(package=str(package))
    command = [sys.executable, "-c", program]
    runs = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [run.communicate() for run in runs]
    assert [output for output, _ in outputs] == ["True baseline\n"] * 2, outputs
    said = "".join(errors for _, errors in outputs)
    assert said.count("compiling the CPU kernels") == 1
    (built,) = (tmp_path / "a cache").rglob("*.so")
    assert built.name == recipe.LIBRARIES["cpu"]
    assert not list((tmp_path / "a cache").rglob("*.partial"))


def test_no_build_is_announced_where_no_compiler_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "stm_fast").mkdir()
    (tmp_path / "stm_fast" / "csrc").symlink_to(CSRC)
    monkeypatch.setattr(location, "PACKAGE", tmp_path / "stm_fast")
    monkeypatch.setenv("STM_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(recipe.BuildError, match="no C\\+\\+ compiler is installed"):
        location.find_library("cpu")
    assert not caplog.messages


COMPILER = """#!/bin/sh
while [ $# -gt 0 ]; do
    if [ "$1" = -o ]; then out=$2; fi
    shift
done
echo "begin $out" >> "$NOTES"
sleep 0.3
echo built > "$out"
echo "end $out" >> "$NOTES"
"""
FIND = """
from stm_fast.ops.compiled import location
location.PACKAGE = location.Path({package!r})
print(location.find_library("cpu"))
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_build_that_was_killed_is_resumed(sent: signal.Signals, tmp_path: Path) -> None:
    """Compilers that outlive it are waited for, and what they had finished before is kept."""
    package, compiler, notes = tmp_path / "stm_fast", tmp_path / "c++", tmp_path / "notes"
    package.mkdir()
    (package / "csrc").symlink_to(CSRC)
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    notes.touch()
    environment = {
        **os.environ,
        "STM_FAST_CACHE": str(tmp_path / "cache"),
        "CXX": str(compiler),
        "NOTES": str(notes),
        "PYTHONPATH": str(CSRC.parent),
    }
    command = [sys.executable, "-c", FIND.format(package=str(package))]
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, **options)
    while notes.read_text().count("end") < 4:
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)
    first.send_signal(sent)
    second = subprocess.run(command, **options, check=True)
    first.communicate()
    assert Path(second.stdout.strip()).read_text() == "built\n"
    lines = [line.split() for line in notes.read_text().splitlines()]
    finished = next(name for word, name in lines if word == "end")
    assert lines.count(["begin", finished]) == 1
    for name in {name for _, name in lines}:
        words = [word for word, other in lines if other == name]
        assert words[-2:] == ["begin", "end"]
        if sent == signal.SIGKILL:
            assert words == ["begin", "end"] * (len(words) // 2), (name, words)
    assert [path.name for path in Path(second.stdout.strip()).parent.iterdir() if path.is_dir()] == []


def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    """The other sources are empty: they are compiled at the same time."""
    copy = tmp_path / "csrc"
    shutil.copytree(CSRC, copy)
    for source in copy.rglob("*.cpp"):
        source.write_text("")
    (copy / "cpu" / "select.cpp").write_text("this is not C++;\n")
    with pytest.raises(recipe.BuildError, match=r"failed: .*select\.cpp.* error: .*\(all it said is in"):
        recipe.build(copy, tmp_path / "build", "cpu")
    assert "select.cpp" in (tmp_path / "build.log").read_text()


@pytest.mark.parametrize(("tool", "message"), [("CXX", "no C\\+\\+ compiler is installed"), ("PATH", "ninja|compiler")])
def test_missing_tools_are_named(tool: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tool, "/nowhere/c++")
    if tool == "PATH":
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(recipe.BuildError, match=message):
        recipe.find_toolchain()


def test_the_cuda_kernels_are_installed_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, wanted in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("STM_FAST_CUDA", asked)
        assert recipe.cuda_is_wanted() is wanted
    monkeypatch.delenv("STM_FAST_CUDA")
    if torch.version.cuda is None:
        assert not recipe.cuda_is_wanted()


def test_each_engine_has_its_own_key(tmp_path: Path) -> None:
    copy = tmp_path / "csrc"
    shutil.copytree(CSRC, copy)
    (copy / "cuda" / "dense.h").write_text("// something else\n")
    (copy / "bindings" / "cuda.cpp").write_text("// something else\n")
    assert recipe.source_key(copy, "cpu") == recipe.source_key(CSRC, "cpu")
    assert recipe.source_key(copy, "cuda") != recipe.source_key(CSRC, "cuda")


def test_chips_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STM_FAST_CUDA_CHIPS", "86,90")
    assert "arch=compute_86,code=[sm_86,sm_90,compute_86]" in recipe.cuda_flags(CSRC)


def test_recipe_is_free_of_the_package_and_of_torch() -> None:
    """setup.py runs it where neither can be imported."""
    source = Path(recipe.__file__).read_text()
    assert not re.search(r"^\s*(from|import) (stm_fast|torch)\b", source, re.MULTILINE)
