"""What the documentation says is true: its code runs, and its links lead somewhere."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from stm_fast.cli.main import app
from stm_fast.memory import presets
from stm_fast.memory.bank import MemoryBank
from stm_fast.memory.frames import Role
from tests.docs.blocks import python_of

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize(("page", "holds"), [("docs/memory_read.md", "merge_reads"), ("docs/drop-in.md", "SAM 2")])
def test_code_of_the_page_runs(page: str, holds: str) -> None:
    torch.manual_seed(0)
    assert holds in (ROOT / page).read_text()
    code = python_of(page)
    assert code.count("memory_read(") > 3
    exec(compile(code, page, "exec"), {})


def test_policies_of_the_page_choose() -> None:
    """The last one keeps frames in which the object is seen, and the oldest of them."""
    names = {"__name__": "page"}
    exec(compile(python_of("docs/long-video.md"), "docs/long-video.md", "exec"), names)
    policy = replace(names["policy"], every=1, max_frames=4)
    bank = MemoryBank(policy)
    for index in range(12):
        seen = torch.full((1, 2, 3), float(index % 2))
        tokens = torch.randn(1, 4, 2, 3)
        bank.memorise(index, tokens, tokens, annotated=index == 0, presence=seen)
    assert bank.frames == (0, 1, 9, 11)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_the_glossary_has_the_words_of_the_command_line() -> None:
    page = (ROOT / "docs/glossary.md").read_text()
    words = set(re.findall(r"^\| ([^|]+) \|", page, flags=re.M))
    defined = {word for entry in words for word in entry.split(", ")}
    policies = {
        name.replace("_", "-")
        for name, value in vars(presets).items()
        if inspect.isfunction(value) and value.__module__ == presets.__name__
    }
    roles = {f"{role.value} {'frame' if role in (Role.temporary, Role.stored) else 'memory'}" for role in Role}
    assert policies | roles | {"offload", "prototype", "admission", "eviction", "top-k", "J", "F", "void"} <= defined
    for reference in re.findall(r"(?<!\*)\*(\w[\w -]*)\*(?!\*)", page):
        singular = {reference, reference.removesuffix("s"), re.sub("d$|ed$", "", reference)}
        assert any(word.startswith(tuple(singular)) for word in defined | {"italics"}), reference


@pytest.mark.parametrize("command", [[], ["segment"], ["evaluate"], ["suggest"]])
def test_help_names_the_glossary(command: list[str]) -> None:
    text = CliRunner().invoke(app, [*command, "--help"]).output
    (named,) = re.findall(r"docs/glossary\.md explains the words", " ".join(text.split()))
    assert (ROOT / named.split()[0]).is_file()


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert {page.name for page in (ROOT / "docs").glob("*.md")} == set(re.findall(r"docs/([\w-]+\.md)", readme))
