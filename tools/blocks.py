"""Blocks of documentation that tools make from the code.

A block lies between `<!-- made by TOOL: NAME -->` and `<!-- end -->` in a Markdown page.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

Makers = Mapping[str, Callable[[], str]]
"""What makes the text of each block of a tool, by the block's name."""


def rewritten(text: str, tool: str, makers: Makers) -> str:
    """Return a page with the blocks of a tool made anew.

    Raises:
        ValueError: a block has a name that is unknown.
    """

    def made(block: re.Match[str]) -> str:
        if block[2] not in makers:
            raise ValueError(f"the page asks for {block[2]!r}; known are {', '.join(makers)}")
        return f"{block[1]}{makers[block[2]]()}\n{block[3]}"

    pattern = rf"(<!-- made by {re.escape(tool)}: ([\w -]+) -->\n).*?(<!-- end -->)"
    return re.sub(pattern, made, text, flags=re.DOTALL)


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the option `--check` of `update`."""
    parser.add_argument("--check", action="store_true", help="change nothing, and fail if a page is outdated")


def update(pages: Iterable[Path], tool: str, makers: Makers, *, check: bool) -> None:
    """Write pages with their blocks made anew.

    Args:
        pages: that hold blocks of the tool.
        tool: its name, as in `python -m`.
        makers: of its blocks.
        check: whether to change nothing.

    Raises:
        SystemExit: `check` is given and a page is outdated.
    """
    for page in pages:
        text = page.read_text()
        made = rewritten(text, tool, makers)
        if check and made != text:
            raise SystemExit(f"{page.relative_to(ROOT)} is outdated: run python -m {tool}")
        if not check:
            page.write_text(made)
