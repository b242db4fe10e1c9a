"""docs/gpu.md: its commands run, or report that there is no GPU, and it names the files of the kernels."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from tools import budget_rules, triton_budgets
from tools.inspection import DESCRIPTOR_BYTES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "gpu.md").read_text()
BUDGETS = triton_budgets.budgets_of(triton_budgets.VERSIONS[-1])["sm_90"]
LOOPS = (*budget_rules.MAX_WAITS, "candidates_kernel")
COMMANDS = [
    line for block in re.findall(r"^```\n(.*?)^```", TEXT, flags=re.M | re.S) for line in block.splitlines() if line
]
WITHOUT_GPU = {
    "python3 -m benchmarks.read.gpu.first_light build/light": (1, "torch sees no GPU"),
    "python3 -m benchmarks.read.gpu.tools build/light": (0, "memcheck"),
    "python3 -m pytest tests/gpu": (5, "2 skipped"),
    "python3 -m stm_fast.cli.main tune --device cuda --seconds 300": (1, "device 'cuda' cannot be used"),
    "python3 -m tools.triton_budgets --table --chip sm_90": (0, "| sm_90 | STM | dense |"),
    "python3 -m tools.cuda_budgets --table": (0, "| sm_90 | dense<"),
    "python3 -m benchmarks.read.gpu.model": (0, "nothing here has been measured"),
}
"""The exit code and some words of each command, where there is no GPU."""


def test_all_commands_are_known() -> None:
    assert list(WITHOUT_GPU) == COMMANDS


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU they take minutes")
@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has imported torch already, where that can be."""
    python, option, module, *words = command.split()
    assert (python, option) == ("python3", "-m")
    words = [str(tmp_path) if word.startswith("build/") else word for word in words]
    if module == "pytest":
        exit_code = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, check=False).returncode
    else:
        monkeypatch.setattr(sys, "argv", [module, *words])
        monkeypatch.delitem(sys.modules, module, raising=False)
        exit_code = exit_code_of(module)
    code, said = WITHOUT_GPU[command]
    told = "".join(capfd.readouterr())
    assert exit_code == code, told
    assert said in told
    assert "Traceback" not in told


def exit_code_of(module: str) -> object:
    """Run a module as `python -m` does; 0 if it ends without an exit code."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code or 0
    return 0


def test_every_kernel_is_in_the_table_with_its_file() -> None:
    rows = re.findall(r"^\| (?:`(\w+\.py)`)? ?\| (\w+) \|", TEXT, flags=re.M)
    found, file = set(), ""
    for name, kernel in rows:
        file = name or file
        found.add((file, kernel))
    defined = {
        (path.name, kernel)
        for path in (ROOT / "kernels").glob("*.py")
        for kernel in re.findall(r"^def (\w+)_kernel\(", path.read_text(), flags=re.M)
    }
    assert found - {("", "kernel")} == defined


def test_what_is_said_of_the_budgets_is_so() -> None:
    loops = [needs for shape in ("STM", "STCN") for kernel, needs in BUDGETS[shape].items() if kernel in LOOPS]
    assert len(loops) == 2 * len(LOOPS)
    assert not any(needs["spilled"] for needs in loops)
    assert all(needs["copy_bytes"] == DESCRIPTOR_BYTES for needs in loops)
    assert max(needs["waits"] for needs in loops) <= 2
    assert max(needs["barriers"] for needs in loops) <= 4
    assert not any(needs["serialized"] for needs in loops)
    spilling = [kernel for kernel, needs in BUDGETS["XMem"].items() if needs["spilled"]]
    assert spilling == ["query_gradient_kernel", "candidates_kernel"]


def test_prose_is_two_pages_at_most() -> None:
    prose = re.sub(r"^```.*?^```|^\|.*?$", "", TEXT, flags=re.S | re.M)
    lines = [line for line in prose.splitlines() if line]
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 120
