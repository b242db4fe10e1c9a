"""What other machines run: workflows and Dockerfiles name targets, files and versions that exist here."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
PROJECT = (ROOT / "pyproject.toml").read_text()
PINNED_TORCH = re.search(r"^torch==(\S+)$", (ROOT / "requirements.txt").read_text(), flags=re.M)[1]


def jobs(workflow: Path) -> dict[str, Any]:
    return yaml.safe_load(workflow.read_text())["jobs"]


def scripts(workflow: Path) -> Iterator[str]:
    """The lines that a workflow runs."""
    for job in jobs(workflow).values():
        for step in job["steps"]:
            yield from step.get("run", "").splitlines()


def instructions(dockerfile: Path) -> Iterator[tuple[str, list[str]]]:
    """The instructions of a Dockerfile with their words, continued lines joined."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.M).replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip():
            name, _, words = line.partition(" ")
            yield name, shlex.split(words)


def extras() -> set[str]:
    section = PROJECT.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    return set(re.findall(r"^(\w+) = \[", section, flags=re.M))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_names_what_exists(workflow: Path) -> None:
    lines = list(scripts(workflow))
    assert lines
    for line in lines:
        words = shlex.split(line)
        if words[0] == "make":
            assert set(words[1:]) <= TARGETS, line
        for file in re.findall(r"[\w-]+\.txt", line):
            assert (ROOT / file).exists() or any(f"> {file}" in each for each in lines), line
        for torch in re.findall(r"torch==([\d.]+)", line):
            assert torch == PINNED_TORCH, line


def test_the_matrix_is_what_the_package_promises() -> None:
    matrix = jobs(ROOT / ".github" / "workflows" / "tests.yml")["test"]["strategy"]["matrix"]
    assert matrix["python"] == re.findall(r"Python :: (3\.\d+)", PROJECT)
    oldest = re.search(r'"torch>=([\d.]+)"', PROJECT)[1]
    assert matrix["torch"] == [f"{oldest}.0", PINNED_TORCH]


def test_continuous_integration_runs_targets() -> None:
    (made,) = re.findall(r"^exec make (.*)$", (ROOT / ".ci" / "run").read_text(), flags=re.M)
    assert {"check", "docs", "test", "test-notebooks"} <= set(made.split()) <= TARGETS


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_dockerfile_copies_what_exists(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = [word for name, words in instructions(dockerfile) if name == "COPY" for word in words[:-1]]
    sources = [word for word in copied if not word.startswith(("--from=", "/"))]
    assert {"csrc", "kernels", "stm_fast", "pyproject.toml", "setup.py", "requirements.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source not in ignored
    links = [path for path in (ROOT / "stm_fast").iterdir() if path.is_symlink()]
    assert {path.resolve().relative_to(ROOT).as_posix() for path in links} <= set(sources)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_pins_of_a_dockerfile_are_those_of_the_requirements(dockerfile: Path) -> None:
    arguments = dict(word.split("=") for name, words in instructions(dockerfile) if name == "ARG" for word in words)
    assert arguments["TORCH"] == PINNED_TORCH
    assert f'Python :: {arguments["PYTHON"]}"' in PROJECT
    (asked,) = re.findall(r"\$wheel\[([\w,]+)\]", dockerfile.read_text())
    assert set(asked.split(",")) <= extras()


def test_there_are_two_dockerfiles() -> None:
    assert [path.stem for path in DOCKERFILES] == ["cpu", "cuda"]


def test_the_citation_is_of_this_software_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["title"] == re.search(r'^name = "(.*)"', PROJECT, flags=re.M)[1]
    assert citation["license"] == re.search(r'^license = "(.*)"', PROJECT, flags=re.M)[1]
    (paper,) = citation["references"]
    bibtex = (ROOT / "README.md").read_text().partition("```bibtex")[2]
    assert paper["title"] in bibtex
    assert [author["family-names"] for author in paper["authors"]] == re.findall(r"(\w+), [A-Z]", bibtex)
