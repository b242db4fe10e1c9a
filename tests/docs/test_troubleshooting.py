"""docs/troubleshooting.md: the messages that it quotes are those of the code."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.docs.blocks import ROOT

QUOTED = re.findall(r"^> (.+)$", (ROOT / "docs" / "troubleshooting.md").read_text(), flags=re.M)


@cache
def messages() -> tuple[str, ...]:
    """Every text of the package, with a line feed for each value that is put into it."""
    return tuple(text for path in (ROOT / "stm_fast").rglob("*.py") for text in texts_of(ast.parse(path.read_text())))


def texts_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "\n" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def says(message: str, quoted: str) -> bool:
    """Whether a message has the words of a quotation in their order; `...` stands for anything."""
    return re.search(".*".join(map(re.escape, re.split(r" ?\.\.\.", quoted))), message, flags=re.S) is not None


def test_messages_are_quoted() -> None:
    assert len(QUOTED) > 15


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_quoted_message_is_one_of_the_code(quoted: str) -> None:
    assert any(says(message, quoted) for message in messages())


def test_a_message_that_is_not_of_the_code_is_found() -> None:
    assert not any(says(message, "no such message ... is in the code") for message in messages())
