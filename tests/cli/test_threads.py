"""How many threads compute, and how they wait: settled before torch is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stm_fast.cli import threads

SET = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    """What is set is set back, and how many threads torch has as well."""
    for name in SET:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def doctor(*options, **environment):
    """The rows of `stm-fast doctor`, run as users run it."""
    command = [sys.executable, "-m", "stm_fast", "doctor", *options]
    inherited = {name: value for name, value in os.environ.items() if name not in SET}
    done = subprocess.run(
        command, env=inherited | environment | {"COLUMNS": "200"}, capture_output=True, text=True, check=True
    )
    cells = [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in done.stdout.splitlines()]
    return {row[0]: row[1] for row in cells if len(row) > 1}


def test_a_command_bounds_threads_and_lets_them_sleep():
    rows = doctor("--threads", "1")
    assert rows["threads"].startswith("1, of ")
    assert rows["idle threads"] == "GOMP_SPINCOUNT=30000"
    assert re.match(r"\d+\.\d, \d+\.\d, \d+\.\d in 1, 5 and 15 minutes", rows["load average"])


def test_what_the_user_set_stays():
    rows = doctor(GOMP_SPINCOUNT="1000", OMP_NUM_THREADS="1")
    assert rows["idle threads"] == "GOMP_SPINCOUNT=1000"
    assert rows["threads"].startswith("1, of ")


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_waiting_is_left_to_the_environment(name, monkeypatch):
    monkeypatch.setenv(name, "7")
    threads.wait_briefly()
    assert {name: os.environ.get(name) for name in SET[:3]} == dict.fromkeys(SET[:3]) | {name: "7"}


def test_the_option_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    torch.set_num_threads(2)
    assert threads.use(1) == 1
    assert torch.get_num_threads() == 1
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"


@pytest.mark.parametrize("number", [1, 2])
def test_the_kernels_take_no_more(number):
    """A read starts the threads that are missing."""
    if threads.processors() < number:
        pytest.skip("one processor")
    code = (
        "import os\n"
        "from stm_fast.cli import threads\n"
        f"threads.use({number})\n"
        "import torch\n"
        "from stm_fast.ops import compiled, memory_read\n"
        "assert compiled.failure('cpu') is None\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "memory_read(torch.ones(1, 8, 2000), torch.ones(1, 8, 3000), torch.ones(1, 8, 3000), backend='cpu')\n"
        "print(1 + len(os.listdir('/proc/self/task')) - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{number}\n"


def test_without_the_option_the_grant_of_the_control_group_holds(monkeypatch):
    monkeypatch.setattr(threads, "granted_processors", lambda: 1)
    torch.set_num_threads(2)
    assert threads.use(None) is None
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    threads.use(None)
    assert torch.get_num_threads() == 2


def groups(folder: Path, listed: str, **files: str) -> int | None:
    """What is granted by control groups that are such files."""
    (folder / "cgroup").write_text(listed)
    for name, content in files.items():
        path = folder / "sys" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return threads.granted_processors(folder / "cgroup", folder / "sys")


@pytest.fixture
def many(monkeypatch):
    monkeypatch.setattr(threads, "processors", lambda: 16)


def test_groups_of_version_2_bind_with_all_above_them(tmp_path, many):
    listed = "0::/system/job\n"
    assert groups(tmp_path, listed, system__job__cpu_dot_max="max 100000\n") is None
    assert groups(tmp_path, listed, system__cpu_dot_max="250000 100000\n") == 3
    assert groups(tmp_path, listed, cpu_dot_max="50000 100000\n") == 1


def test_groups_of_version_1_bind_where_a_container_hides_their_path(tmp_path, many):
    listed = "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n0::/\n"
    files = {"cpu__cpu_dot_cfs_quota_us": "400000\n", "cpu__cpu_dot_cfs_period_us": "100000\n"}
    assert groups(tmp_path, listed, **files) == 4
    assert groups(tmp_path, listed, **files | {"cpu__cpu_dot_cfs_quota_us": "-1\n"}) is None


def test_more_than_there_is_is_no_bound(tmp_path, many):
    assert groups(tmp_path, "0::/\n", cpu_dot_max="3200000 100000\n") is None
    assert threads.granted_processors(tmp_path / "nothing") is None


def test_none_is_not_a_number_of_threads(stm):
    assert stm("doctor", "--threads", "0").exit_code == 2
