"""First light, rehearsed as on the machine that it is for: tracked files, few packages, one command."""

import json
import re
import signal
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from tests import bare_machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    pytest.importorskip("triton")
    return bare_machine.make(tmp_path_factory.mktemp("bare"))


def run(machine: tuple[Path, dict[str, str]], *arguments: str, code: int = 0) -> str:
    checkout, environment = machine
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_nothing_else_is_there(machine: tuple[Path, dict[str, str]]) -> None:
    assert "No module named 'av'" in run(machine, "-c", "import av", code=1)
    found = run(machine, "-c", "import stm_fast; print(stm_fast.__file__)").strip()
    assert Path(found).is_relative_to(machine[0])


@pytest.mark.slow
def test_rehearsal_goes_through_all_stages(machine: tuple[Path, dict[str, str]]) -> None:
    said = run(machine, "-m", "benchmarks.read.gpu.first_light", "out", "--rehearse")
    lines = [json.loads(line) for line in (machine[0] / "out" / "results.jsonl").read_text().splitlines()]
    results = lines[1:]
    assert {line["status"] for line in results} == {"ok"}, said
    stages = "prepare", "check", "peaks", "time", "compile variants", "variants", "host", "repeat", "others"
    assert {line["stage"] for line in results} == {*stages}
    assert {(line["stage"], line["engine"]) for line in results} >= {("time", "triton"), ("time", "cuda")}
    tables = (machine[0] / "out" / "first_light.md").read_text()
    assert all(f"**{stage}**" in tables for stage in stages if stage != "compile variants")


@pytest.mark.slow
def test_ctrl_c_keeps_what_there_is(machine: tuple[Path, dict[str, str]]) -> None:
    checkout, environment = machine
    # Where the tests run in the background SIGINT is ignored, and a child would inherit that.
    restore = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.read.gpu.first_light", "stopped", "--rehearse", "--engine", "triton"],
        cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, restore)
    assert process.stderr is not None
    said = list(takewhile(lambda line: "check, triton" not in line, process.stderr))
    process.send_signal(signal.SIGINT)
    told, rest = process.communicate(timeout=60)
    assert process.returncode == 130, (said, rest)
    assert "results: " in told
    assert "Traceback" not in rest
    kept = (checkout / "stopped" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in kept].count("check") >= 1
    assert "**check**" in (checkout / "stopped" / "first_light.md").read_text()


@pytest.mark.slow
def test_tools_are_rehearsed_without_them(machine: tuple[Path, dict[str, str]]) -> None:
    said = run(machine, "-m", "benchmarks.read.gpu.tools", "tools", "--engine", "triton", "--rehearse")
    assert said.count("rehearsed without the tool") == 3


COLLECT = """
import sys, pytest, torch
torch.cuda.is_available = lambda: True
sys.exit(pytest.main(["tests/gpu", "--collect-only", "-q"]))
"""


def test_gpu_tests_are_collected(machine: tuple[Path, dict[str, str]]) -> None:
    collected = run(machine, "-c", COLLECT)
    assert "test_engines.py::test_read_and_gradients" in collected
    assert "test_memory.py::" in collected


def test_tune_needs_no_more(machine: tuple[Path, dict[str, str]]) -> None:
    said = run(machine, "-m", "stm_fast.cli.main", "tune", "--device", "cpu", "--seconds", "0")
    assert re.search(r"0 of \d+ kinds of reads were measured", said)
