"""Training in processes of its own: several at once, killed ones, interrupted ones."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("cv2")

from stm_fast.training.data import open_data
from stm_fast.training.recipe_files import load_recipe
from tests.checkout import ROOT
from tests.data.miniature_stills import make_pairs
from tests.training.tiny_runs import difference, train

PATIENCE = 300
RECIPE = """
model: compact
start: none
augmentation: stcn
data: [{layout: pairs, folder: pairs}]
rounds: [{stages: [{steps: 6, clips: 4, frames: 3, size: 32, max_objects: 2}]}]
optimizer: {name: adamw, learning_rate: 1.0e-4}
freeze: [batch-norm, depthwise, early]
ema: 0.9
validation: {every: 3, data: [{layout: pairs, folder: pairs}], clips: 1, size: 32}
checkpoint_every: 1
workers: 1
"""
FAILING = """
import os
from stm_fast.cli.main import main
from stm_fast.errors import MediaError
from stm_fast.training.sampler import Clips

drawn = Clips._draw

def draw(self, part):
    if os.environ["RANK"] == "1" and part.step == 2:
        raise MediaError("a picture cannot be read")
    return drawn(self, part)

Clips._draw = draw
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("processes")
    make_pairs(root / "pairs")
    (root / "tiny.yaml").write_text(RECIPE)
    return root


def command(out: str) -> list[str]:
    return ["-m", "stm_fast", "train", "tiny.yaml", out, "--data", ".", "--device", "cpu", "--threads", "1"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def complete(folder: Path, *arguments: str) -> str:
    """Run Python to the end, and return what it said."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a run that nothing stops, in a process as those that must equal it bit by bit."""
    complete(folder, *command("whole"))
    return weights(folder / "whole")


def weights(out: Path) -> dict[str, torch.Tensor]:
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    assert state["step"] == 6
    return state["model"] | {f"average {name}": tensor for name, tensor in state["average"].items()}


def stop(folder: Path, out: str, step: int, by: signal.Signals) -> tuple[int, str]:
    """Start a run, send it a signal once it has done a step, and return its exit code and what it said."""
    # Where the tests run in the background SIGINT is ignored, and a child would inherit that.
    restore = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, *command(out)], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, restore)
    log = folder / out / "log.jsonl"
    try:
        until = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < until:
            if log.exists() and f'"step": {step},' in log.read_text():
                break
            time.sleep(0.002)
        process.send_signal(by)
        return process.wait(PATIENCE), process.stderr.read() if process.stderr else ""
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(folder: Path, whole: dict[str, torch.Tensor]) -> None:
    code, said = stop(folder, "killed", 3, signal.SIGKILL)
    assert code == -signal.SIGKILL, said
    complete(folder, *command("killed"))
    assert difference(whole, weights(folder / "killed")) == 0
    steps = [json.loads(line)["step"] for line in (folder / "killed" / "log.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == [1, 2, 3, 4, 5, 6]
    assert len(steps) <= 9  # a validation may be logged again


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_resumes(
    folder: Path, whole: dict[str, torch.Tensor], by: signal.Signals
) -> None:
    out = f"interrupted_{by.name}"
    code, said = stop(folder, out, 2, by)
    assert code == 130, said
    assert "Traceback" not in said
    assert "the same command resumes there" in said.replace("\n", " ")
    assert "Resuming at step " in complete(folder, *command(out))
    assert difference(whole, weights(folder / out)) == 0


def test_two_processes_train_what_one_does(folder: Path) -> None:
    recipe = load_recipe(str(folder / "tiny.yaml"), ["workers=0"])
    train(recipe, folder / "one", open_data(recipe, folder))
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    complete(folder, *launch, *command("two"))
    assert difference(weights(folder / "one"), weights(folder / "two")) < 1e-5
    one, two = ((folder / out / "log.jsonl").read_text().splitlines() for out in ("one", "two"))
    assert len(one) == len(two)
    losses = [[json.loads(line).get("loss", 0) for line in lines] for lines in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others(folder: Path) -> None:
    """The second process cannot draw its half of step 2, for which the first one would wait."""
    (folder / "failing.py").write_text(FAILING)
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "failing.py")
    done = subprocess.run(
        [sys.executable, *launch, *command("failing")[2:]],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "Error: a picture cannot be read" in done.stderr
    assert torch.load(folder / "failing" / "checkpoint.pt", weights_only=True)["step"] == 2
