"""docs/gpu.md: its tables are those of the budgets, and its commands run or say that there is no GPU."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from tools import docs_tables

ROOT = Path(__file__).parents[2]
TEXT = docs_tables.PAGE.read_text()
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


def test_tables_are_those_of_the_budgets() -> None:
    """After a change of the budgets `python -m tools.docs_tables` writes the page anew."""
    assert re.findall(r"<!-- table: ([\w ]+) -->", TEXT) == list(docs_tables.TABLES)
    assert docs_tables.page(TEXT) == TEXT


def test_the_tool_writes_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "gpu.md"
    copy.write_text(re.sub(r"(<!-- table.*?-->\n).*?(<!-- end)", r"\1\2", TEXT, flags=re.S))
    monkeypatch.setattr(docs_tables, "PAGE", copy)
    docs_tables.main()
    assert copy.read_text() == TEXT


def test_costs_are_told_for_the_same_work() -> None:
    """669 instructions of 8 warps for 128 × 64 scores and half of the value channels."""
    (row,) = (line for line in docs_tables.before_and_after().splitlines() if line.startswith("| STM | dense |"))
    cost, tile, waits = (row.split(" | ")[column].split(" → ")[0] for column in (3, 4, 5))
    assert (int(cost), tile, waits) == (round(1000 * 669 * 8 * 2 / (128 * 64)), "669", "12 serialized")


def test_an_unknown_table_is_told() -> None:
    with pytest.raises(ValueError, match="'weather' is asked for; there are resources"):
        docs_tables.page("<!-- table: weather -->\n<!-- end of table -->\n")


def test_prose_is_two_pages_at_most() -> None:
    prose = re.sub(r"<!-- table.*?<!-- end of table -->|^```.*?^```|^\|.*?$", "", TEXT, flags=re.S | re.M)
    lines = [line for line in prose.splitlines() if line]
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 120
