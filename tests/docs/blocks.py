"""Blocks of code in README, CONTRIBUTING and docs/."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


class Block(NamedTuple):
    """A block: the page, the language that its fence names, and its text."""

    page: str
    language: str
    text: str


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in order."""
    for language, text in re.findall(r"^```(\S*)\n(.*?)^```", (ROOT / page).read_text(), flags=re.M | re.S):
        yield Block(page, language, text)


def python_of(page: str, language: str = "python") -> str:
    """Return the Python of a page, its blocks in order."""
    return "\n".join(block.text for block in blocks_of(page) if block.language == language)


def commands_of(page: str) -> list[str]:
    """Return the commands of a page's shell blocks, whole and without comments."""
    shell = [block.text for block in blocks_of(page) if block.language == ""]
    lines = [re.sub(r"(^|\s)#.*", "", line) for text in shell for line in text.replace("\\\n", " ").splitlines()]
    return [command for line in lines for part in line.split("&&") if (command := part.strip())]
