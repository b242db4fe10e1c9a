"""Every script in examples/ runs as it stands and says what it is meant to say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(name: str, *launcher: str) -> str:
    command = [sys.executable, *launcher, EXAMPLES / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text()}
    tested = {"track.py", "segment_frames.py", "edit_objects.py", "swap_the_read.py", "merge_parts.py", "drop_in.py"}
    elsewhere = {"onnx_loop.py"}  # in tests/runtimes/test_loop.py
    assert scripts == tested | {"long_video.py", "sharded_memory.py"} | elsewhere


@pytest.mark.parametrize("name", ["swap_the_read.py", "merge_parts.py"])
def test_reads_are_equal(name: str) -> None:
    assert "equal" in run_example(name)


def test_segment_frames_follows_both_objects() -> None:
    output = run_example("segment_frames.py")
    assert len(re.findall(r"J\(1\).*J\(2\)", output)) == 15
    assert float(output.split()[-1]) > 0.7


def test_track_corrects_and_saves() -> None:
    *frames, written = run_example("track.py").splitlines()
    assert len(frames) == 16
    assert all(line.endswith("J 1.00 1.00") for line in (frames[0], frames[8]))
    assert re.fullmatch(r"16 frames, complete: True; written: .*masks, overlay.mp4, summary.json", written)


def test_edit_objects_adds_corrects_and_removes() -> None:
    lines = run_example("edit_objects.py").splitlines()
    objects = [re.search(r"objects \((.*?)\)", line).group(1) for line in lines]
    assert objects == ["1,"] * 2 + ["1, 2"] * 10 + ["1,"] * 3
    assert "J(1) 1.00" in lines[9]


def test_long_video_goes_on_in_the_same_memory() -> None:
    output = run_example("long_video.py")
    assert re.findall(r"from frame (\d+)", output) == ["1", "21"]
    ball = [float(found) for found in re.findall(r"ball ([\d.]+)", output)]
    assert len(ball) == 3
    assert min(ball[0], ball[2]) > 0.9
    assert len(set(re.findall(r"memory ([\d.]+) MB", output))) == 1
    assert "long-term" in output


@pytest.mark.parametrize("ranks", [1, 2])
def test_sharded_memory_is_spread(ranks: int) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    output = run_example("sharded_memory.py", *(launcher if ranks > 1 else []))
    held = re.findall(r"rank (\d) of (\d) holds \[([\d, ]+)\] of \[0, 3, 6, 9, 12, 14\]", output)
    assert {(rank, size) for rank, size, _ in held} == {(str(rank), str(ranks)) for rank in range(ranks)}
    frames = [frame for *_, part in held for frame in part.split(", ")]
    assert sorted(map(int, frames)) == [0, 3, 6, 9, 12, 14]
    assert float(re.search(r"mean J ([\d.]+), the same on all ranks", output).group(1)) > 0.7


def test_drop_in_takes_the_matrix_away() -> None:
    pytest.importorskip("cutie", reason="rf-cutie is not installed")
    output = run_example("drop_in.py")
    matrix, plain, fused = (int(number) for number in re.findall(r"(\d+) MB", output))
    assert "equal" in output
    assert plain > matrix
    assert fused < matrix / 2
