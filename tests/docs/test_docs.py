"""What the documentation says is true: its code runs, and its links lead somewhere."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def python_blocks(page: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), flags=re.M | re.S))


def test_memory_read_page_runs() -> None:
    torch.manual_seed(0)
    code = python_blocks("docs/memory_read.md")
    assert "merge_reads" in code
    exec(compile(code, "docs/memory_read.md", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert {page.name for page in (ROOT / "docs").glob("*.md")} == set(re.findall(r"docs/([\w-]+\.md)", readme))
