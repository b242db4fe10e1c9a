"""`stm-fast suggest`: a table for people, JSON for programs."""

import json

import pytest


@pytest.fixture
def result(tmp_path):
    lines = []
    for index in range(20):
        first = {"area": 900, "uncertainty": None if index == 0 else 0.9 if index in (7, 8) else 0.3}
        second = {"area": 0 if index > 15 else 40, "uncertainty": None if index > 15 else 0.4}
        lines.append(json.dumps({"frame": f"{index:05d}", "objects": {"1": first, "12": second}}))
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "frames.jsonl").write_text("\n".join(lines))
    return tmp_path / "result"


def test_frames_and_absences_are_listed(stm, result):
    said = stm("suggest", result, "--count", "1")
    assert said.exit_code == 0, said.output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.stdout.splitlines() if "│" in line]
    assert rows == [["00007", "0.900", "3.0", "900"], ["00000", "0.400", "1.0", "40"]]
    text = " ".join(said.stdout.split())
    assert "No frame of object 12 stands out" in text
    assert "Object 12 is not found in frames 00016 to 00019 (4)" in text
    assert "--corrections FOLDER" in text


def test_json(stm, result):
    found = json.loads(stm("suggest", result, "--json", "--quiet").stdout)
    assert found["frames"] == 20
    first = found["objects"]["1"]
    assert (first["usual"], first["absences"]) == (0.3, [])
    assert first["least_certain"][0] == {
        "frame": "00007",
        "index": 7,
        "area": 900,
        "uncertainty": 0.9,
        "times_usual": pytest.approx(3),
    }
    assert found["objects"]["12"]["absences"] == [{"first": "00016", "last": "00019", "frames": 4}]


def test_a_folder_that_is_no_result(stm, tmp_path):
    said = stm("suggest", tmp_path)
    assert said.exit_code == 2
    assert "frames.jsonl does not exist" in said.output
