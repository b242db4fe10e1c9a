"""What `make docs` cannot see: that names of the API reference are those of the package, and how charts are drawn."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import stm_fast
from tools.site.flowchart import draw, rows_of

ROOT = Path(__file__).parents[2]
REFERENCE = sorted(path for path in (ROOT / "docs" / "reference").glob("*.md") if path.stem != "index")
ENTRY = re.compile(r"^::: (\S+)\n(?:    options:\n      members: \[(.*)\]\n)?", flags=re.M)


def found(name: str) -> object:
    """The object of a dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


@pytest.mark.parametrize("page", REFERENCE, ids=lambda path: path.stem)
def test_names_of_the_reference_exist(page: Path) -> None:
    entries = ENTRY.findall(page.read_text())
    assert entries
    for name, members in entries:
        each = found(name)
        assert each.__doc__, name
        for member in filter(None, members.split(", ")):
            assert getattr(each, member).__doc__, (name, member)


def test_the_reference_has_every_name_of_the_package() -> None:
    named = {name for page in REFERENCE for name, _ in ENTRY.findall(page.read_text())}
    assert {f"stm_fast.{name}" for name in stm_fast.__all__} - named == {"stm_fast.__version__"}


def test_the_overview_links_every_page() -> None:
    overview = (ROOT / "docs" / "reference" / "index.md").read_text()
    assert set(re.findall(r"\]\((\w+)\.md\)", overview)) == {page.stem for page in REFERENCE}


def test_arrows_of_a_chart_point_down() -> None:
    arrows = [("a", "c"), ("b", "c"), ("c", "d"), ("a", "d"), ("b", "e")]
    rows = rows_of(arrows)
    row = {box: index for index, boxes in enumerate(rows) for box in boxes}
    assert sorted(row) == ["a", "b", "c", "d", "e"]
    assert all(row[upper] < row[lower] for upper, lower in arrows)


def test_arrows_of_a_chart_do_not_cross_where_they_need_not() -> None:
    (upper, lower) = rows_of([("a", "y"), ("b", "x")])
    assert [upper.index("a") < upper.index("b")] == [lower.index("y") < lower.index("x")]


def test_a_chart_is_a_picture_of_every_box_and_arrow() -> None:
    picture = draw("flowchart TD\n    a --> b\n    a --> c", "mermaid", "flowchart", {}, None)
    assert picture.count("<path") == 2
    assert picture.count("<rect") == 3
    assert "a imports c" in picture


@pytest.mark.parametrize("source", ["graph LR\n    a --> b", "flowchart TD\n    a -- told --> b"])
def test_a_chart_of_another_language_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="flowchart TD"):
        draw(source, "mermaid", "flowchart", {}, None)
