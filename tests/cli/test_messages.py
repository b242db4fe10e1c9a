"""Messages and progress: sentences, JSON lines and the log file."""

import json
import logging
import os
import pty
import re
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from stm_fast import progress
from stm_fast.cli import logs
from stm_fast.cli.console import Commands, say, takes_loudness, with_sentences
from stm_fast.errors import MediaError
from stm_fast.media.masks import write_mask
from stm_fast.media.notices import notice
from stm_fast.progress import Pace, progress_bar

LIBRARY = logging.getLogger("stm_fast.some.module")


def work(units=3, seconds=0.0, total=3):
    with progress_bar("Working", total, "steps") as advance:
        for index in range(units):
            time.sleep(seconds)
            advance(f"note {index}")


@pytest.fixture
def run(tmp_path):
    """Run a function as the command `act` of a group `deep`; the result has its stdout and stderr apart."""

    def invoke(action, *arguments, before=(), group=()):
        app, deep = typer.Typer(cls=Commands, pretty_exceptions_enable=False), typer.Typer()

        @app.callback()
        @takes_loudness
        def top() -> None: ...

        @deep.callback()
        @takes_loudness
        def middle() -> None: ...

        @deep.command()
        @with_sentences
        def act(name: str = "nobody") -> None:
            action()
            print(f"result for {name}")

        app.add_typer(deep, name="deep")
        return CliRunner().invoke(app, [*before, "deep", *group, "act", *arguments])

    return invoke


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def chatter():
    say("a message")
    notice("a notice")
    warnings.warn("a warning", RuntimeWarning, stacklevel=1)
    LIBRARY.info("from the library")
    LIBRARY.debug("a detail")


def test_messages_are_sentences_on_stderr(run):
    result = run(chatter, "--name", "somebody")
    assert result.stdout == "result for somebody\n"
    assert result.stderr.splitlines() == ["a message", "Note: a notice", "Warning: a warning", "from the library"]


@pytest.mark.parametrize("where", ["arguments", "group", "before"])
def test_options_count_wherever_they_stand(run, where):
    def invoke(*flags):
        return run(chatter, *flags) if where == "arguments" else run(chatter, **{where: flags})

    assert (invoke("--quiet").stdout, invoke("-q").stderr) == ("result for nobody\n", "")
    assert invoke("-v").stderr.splitlines()[-1] == "a detail"
    assert [line["event"] for line in objects(invoke("--log-json").stderr)][:2] == ["message", "notice"]


def test_quiet_prints_errors(run):
    def fail():
        say("a message")
        raise MediaError("no such file")

    result = run(fail, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "Error: no such file\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    ],
    ids=["Python", "GPU", "CPU"],
)
def test_what_ran_out_of_memory_is_told_what_needs_less(run, error):
    def fail():
        raise error

    result = run(fail)
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: out of memory: try --memory long-term, --memory-limit, --offload disk")


@pytest.mark.parametrize("bug", [ValueError("a bug"), TypeError("a bug"), RuntimeError("a bug")])
def test_only_errors_of_the_package_become_sentences(run, bug):
    def fail():
        raise bug

    assert run(fail).exception is bug


def test_quiet_and_verbose_exclude_each_other(run):
    result = run(chatter, "--quiet", "--verbose")
    assert (result.exit_code, result.stderr) == (1, "Error: --quiet and --verbose exclude each other\n")


def test_json_lines_say_when_what_and_where(run):
    result = run(chatter, "--log-json")
    assert result.stdout == "result for nobody\n"
    message, told, warned, library = objects(result.stderr)
    assert (message["level"], message["event"], message["message"]) == ("info", "message", "a message")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", message["time"])
    assert (told["event"], warned["event"], warned["category"]) == ("notice", "warning", "RuntimeWarning")
    assert library["logger"] == "stm_fast.some.module"


def test_json_lines_of_errors(run):
    def fail():
        raise MediaError("no such file")

    result = run(fail, "--log-json")
    (line,) = objects(result.stderr)
    assert (line["event"], line["level"], line["message"], line["exit_code"]) == ("error", "error", "no such file", 2)
    assert result.exit_code == 2


def test_json_lines_of_bugs_hold_the_traceback(run):
    def fail():
        raise ZeroDivisionError("a bug")

    (line,) = objects(run(fail, "--log-json").stderr)
    assert line["event"] == "crash"
    assert "ZeroDivisionError: a bug" in line["traceback"]
    assert isinstance(run(fail).exception, ZeroDivisionError)


@pytest.mark.parametrize(("arguments", "told"), [(("--nonsense",), "--nonsense"), (("--name",), "--name")])
def test_json_lines_of_command_lines_that_cannot_be_parsed(run, arguments, told):
    result = run(chatter, "--log-json", *arguments)
    (line,) = objects(result.stderr)
    assert (result.exit_code, line["event"], line["exit_code"]) == (2, "error", 2)
    assert told in line["message"]


def test_help_and_success_keep_their_exit_code_with_json(run):
    assert run(chatter, "--log-json", "--help").exit_code == 0
    assert run(chatter, "--log-json").exit_code == 0


def test_logging_is_as_before_when_a_command_ends(run):
    package = logging.getLogger("stm_fast")
    before = (list(package.handlers), package.level, package.propagate)
    run(chatter, "--verbose")
    assert (package.handlers, package.level, package.propagate) == before


def test_progress_is_lines_where_there_is_no_terminal(run, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.05)
    lines = run(lambda: work(4, 0.1, total=4)).stderr.splitlines()
    assert len(lines) >= 4
    pattern = r"Working: \d of 4 steps, [\d.]+ steps/s, \d s left, note \d"
    assert any(re.fullmatch(pattern, line) for line in lines[:-1]), lines
    assert re.fullmatch(r"Working: 4 of 4 steps, [\d.]+ steps/s, took \d s, note 3", lines[-1])
    assert run(work, "--quiet").stderr == ""


def test_progress_is_told_while_one_unit_takes_long(run, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.05)
    lines = run(lambda: work(1, 0.4, total=None)).stderr.splitlines()
    assert lines[:3] == ["Working: 0 steps"] * 3


def test_progress_as_json(run):
    (line,) = objects(run(work, "--log-json").stderr)
    assert (line["event"], line["task"], line["done"], line["total"]) == ("progress", "Working", 3, 3)
    assert (line["unit"], line["remaining"], line["note"]) == ("steps", 0, "note 2")
    assert line["rate"] > 0


def test_rate_is_that_of_late():
    now = 0.0
    pace = Pace("Working", 1000, "frames", done=100, clock=lambda: now)
    assert (pace.rate, pace.remaining) == (None, None)
    assert pace.line() == "Working: 100 of 1000 frames"
    for _ in range(100):
        now += 0.1
        pace.advance()
    assert pace.rate == pytest.approx(10)
    for _ in range(40):
        now += 1
        pace.advance("slower")
    assert pace.rate == pytest.approx(1, rel=0.05)
    assert pace.remaining == pytest.approx(760, rel=0.05)
    assert pace.line().startswith("Working: 240 of 1000 frames, 1.0 frames/s, 12 min ")
    assert pace.line().endswith(" left, slower")
    assert pace.line(ended=True) == "Working: 240 of 1000 frames, 2.8 frames/s, took 50 s, slower"


def test_rate_of_very_slow_units_is_over_several():
    now = 0.0
    pace = Pace("Working", 4, "rounds", clock=lambda: now)
    for seconds in (3600, 7200):
        now += seconds
        pace.advance()
    assert pace.rate == pytest.approx(1 / 5400)
    assert pace.line() == "Working: 2 of 4 rounds, 0.00019 rounds/s, 3 h 00 min left"


def test_the_rate_falls_while_a_unit_takes_long():
    now = 0.0
    pace = Pace("Working", 200, "frames", clock=lambda: now)
    now = 0.02
    pace.advance()
    assert pace.rate == pytest.approx(50)
    now = 20
    assert pace.rate == pytest.approx(0.1)


def test_a_terminal_has_a_bar_and_the_log_has_the_lines(tmp_path):
    program = f"""
from pathlib import Path
from stm_fast.cli import logs
from tests.cli.test_messages import progress, work, with_sentences
progress.EVERY_SECONDS = 0.05
@with_sentences
def act():
    logs.log_to(Path({str(tmp_path)!r}))
    work(3, 0.1)
act()
"""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-c", program], stderr=follower, env=environment)
    os.close(follower)
    shown = b""
    try:
        while piece := os.read(leader, 4096):
            shown += piece
    except OSError:  # how Linux says that the other side has closed
        assert process.wait(60) == 0, shown.decode()
    assert "━" in shown.decode()
    assert "3/3" in shown.decode()
    assert "took" not in shown.decode()
    assert "Working: 3 of 3 steps" in (tmp_path / logs.LOG_NAME).read_text()


def test_progress_outside_a_command_is_printed_where_nobody_listens():
    """As for `progress=True` in a script: there is no handler of logging."""
    program = "from tests.cli.test_messages import work\nwork()"
    command = [sys.executable, "-c", program]
    assert "Working: 3 of 3 steps" in subprocess.run(command, capture_output=True, text=True, check=True).stderr
    listening = "import logging; logging.basicConfig(level='ERROR')\n"
    command[-1] = listening + program
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


def test_log_holds_what_was_said_before_and_after_it_was_opened(run, tmp_path):
    def act():
        notice("before")
        logs.log_to(tmp_path / "new")
        say("after")
        LIBRARY.debug("a detail")
        raise MediaError("broken")

    for flags, events in ((), 4), (("--quiet",), 4), (("--log-json",), 4), (("--verbose",), 5):
        run(act, *flags)
        lines = (tmp_path / "new" / "log.txt").read_text().splitlines()
        stamps, said = zip(*((line[:19], line[20:]) for line in lines), strict=True)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", stamp) for stamp in stamps)
        assert said[0].startswith("stm-fast ")
        assert (*said[1:3], said[-1]) == ("Note: before", "after", "Error: broken")
        assert len(said) == events
    assert "a detail" in said


def test_log_is_appended_to_when_asked(run, tmp_path):
    for append, count in ((False, 2), (True, 4), (False, 2)):
        run(lambda append=append: (logs.log_to(tmp_path, append=append), say("here")))
        assert len((tmp_path / "log.txt").read_text().splitlines()) == count


def test_log_of_a_bug_holds_the_traceback(run, tmp_path):
    def act():
        logs.log_to(tmp_path)
        raise ZeroDivisionError("a bug")

    run(act)
    assert "ZeroDivisionError: a bug" in (tmp_path / "log.txt").read_text().splitlines()[-1]


def test_a_log_that_cannot_be_written_is_told_of_once(run, tmp_path):
    def act():
        logs.log_to(tmp_path)
        for _ in range(2):
            say("here")

    (tmp_path / "log.txt").symlink_to("/dev/full")
    result = run(act)
    assert result.exit_code == 0, result.output
    (told,) = (line for line in result.stderr.splitlines() if line != "here")
    assert "log.txt cannot be written: No space left on device" in told


def test_no_log_outside_a_command(tmp_path):
    logs.log_to(tmp_path)
    assert not list(tmp_path.iterdir())


def test_evaluate_writes_a_log_and_appends_to_it(stm, clip, colour_model, tmp_path):
    pytest.importorskip("vos_benchmark")
    write_mask(clip / "masks" / "0.png", np.eye(16, 32, dtype=np.uint8))  # of another size, which is told of
    options = ("evaluate", clip, "--dataset", "folder", "--out", "out", "--dtype", "float32", "--quiet")
    assert stm(*options).stderr == ""
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "was resized to the frames'" in log
    assert "clip (1/1): 6 of 6 frames" in log
    assert stm(*options, "--resume").exit_code == 0
    assert (tmp_path / "out" / "log.txt").read_text().startswith(log)
