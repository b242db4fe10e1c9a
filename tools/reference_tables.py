"""The tables of datasets, protocols, settings and export formats in docs, made from the code.

    python -m tools.reference_tables [--check]

Writes the blocks between `<!-- made by tools.reference_tables: NAME -->` and `<!-- end -->` anew; with --check it fails
if one of them is not what the code says.
"""

import argparse
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from stm_fast.data.downloads import Download
from stm_fast.data.layouts import VIDEO_LAYOUTS, VideoLayout
from stm_fast.data.stills.layouts import STILL_LAYOUTS, StillLayout
from stm_fast.evaluation.protocol import PROTOCOLS, Protocol, protocol_of
from stm_fast.export.formats import FORMATS
from stm_fast.training.recipe import Recipe
from stm_fast.training.recipe_files import recipe_names
from tools.blocks import ROOT, add_check, update

TOOL = "tools.reference_tables"
PAGES = [ROOT / "docs" / name for name in ("datasets.md", "evaluation.md", "export.md", "recipes.md")]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def videos() -> str:
    """Return a row for each layout of videos."""
    return table(
        ("layout", "dataset", "ROOT holds", "a set is"),
        ((f"`{each.name}`", _linked(each), each.holds, each.sets_are) for each in VIDEO_LAYOUTS.values()),
    )


def stills() -> str:
    """Return a row for each layout of stills."""
    return table(
        ("layout", "dataset", "ROOT holds", "sets", "if none is named"),
        (
            (
                f"`{each.name}`",
                f"{_linked(each)}: {each.about}",
                each.holds,
                ", ".join(each.sets) or "any folder below ROOT",
                ", ".join(each.default) or "ROOT itself",
            )
            for each in STILL_LAYOUTS.values()
        ),
    )


def downloads() -> str:
    """Return a row for each file that a dataset needs."""
    layouts: list[VideoLayout | StillLayout] = [*VIDEO_LAYOUTS.values(), *STILL_LAYOUTS.values()]
    named: dict[tuple[str, Download], list[str]] = {}
    for each in layouts:
        for file in each.downloads:
            named.setdefault((each.page, file), []).append(f"`{each.name}`")
    return table(
        ("layout", "download", "where it goes", "needed for"),
        (
            (", ".join(names), file.file, file.goes, ", ".join(file.sets) or "all sets")
            for (_, file), names in named.items()
        ),
    )


def protocols() -> str:
    """Return a row for each protocol, with the layouts that follow it."""
    named: dict[Protocol, list[str]] = {}
    for name in VIDEO_LAYOUTS:
        named.setdefault(protocol_of(name), []).append(f"`{name}`")
    assert set(PROTOCOLS.values()) <= named.keys()
    return table(
        ("layouts", "protocol", "frames that are scored", "void is", "source"),
        (
            (
                ", ".join(layouts),
                protocol.name,
                protocol.scored.value,
                "background" if protocol.void_is_background else "not scored",
                protocol.source,
            )
            for protocol, layouts in named.items()
        ),
    )


def formats() -> str:
    """Return a row for each format of an export."""
    return table(
        ("format", "what is written", "name in `export/`", "read by", "lost"),
        (
            (
                f"`{each.name}`",
                each.about,
                f"`{each.target}{'' if '.' in each.target else '/'}`",
                each.read_by,
                each.lost,
            )
            for each in FORMATS.values()
        ),
    )


def recipes() -> str:
    """Return a row for each recipe of the package."""
    return table(("recipe", "what it trains"), ((f"`{name}`", title) for name, title in recipe_names().items()))


def settings() -> str:
    """Return a row for each setting of a recipe."""
    return table(("setting", "default", "meaning"), _settings(Recipe))


def _settings(kind: type, path: str = "") -> Iterator[tuple[str, str, str]]:
    hints, meanings = get_type_hints(kind), _attributes(kind)
    for each in fields(kind):  # type: ignore[arg-type]
        hint = hints[each.name]
        inner = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
        if inner is None:
            yield f"`{path}{each.name}`", _default(each), meanings[each.name]
        elif path and each.name in ("data", "videos"):
            yield f"`{path}{each.name}`", "", f"{meanings[each.name]} Its settings are those of `data`."
        else:
            yield f"`{path}{each.name}`", "", _summary(inner)  # type: ignore[arg-type]
            item = "N." if get_origin(hint) is tuple else ""
            yield from _settings(inner, f"{path}{each.name}.{item}")  # type: ignore[arg-type]


def _default(each: "Field[Any]") -> str:
    value = each.default if each.default_factory is MISSING else each.default_factory()
    if value is None or value == "":
        return "null" if value is None else ""
    return f"`{list(value) if value == () else str(value).lower() if isinstance(value, bool) else value}`"


def _attributes(kind: type) -> dict[str, str]:
    """Return what a docstring says of each attribute."""
    section = _docstring(kind).partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, flags=re.M)
    return {name: _told(text) for name, text in entries}


def _summary(kind: type) -> str:
    """Return what a docstring says before its attributes."""
    return _told(_docstring(kind).partition("Attributes:\n")[0])


def _docstring(kind: type) -> str:
    return inspect.getdoc(kind) or ""


def _told(text: str) -> str:
    """Return text of a docstring on one line, in the words of YAML."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))


def _linked(layout: VideoLayout | StillLayout) -> str:
    page = layout.page.partition(", ")[0]
    return f"[{layout.title}]({page})" if page else layout.title


BLOCKS = {
    "videos": videos,
    "stills": stills,
    "downloads": downloads,
    "protocols": protocols,
    "formats": formats,
    "recipes": recipes,
    "settings": settings,
}


def main() -> None:
    """Write the pages or check them."""
    parser = argparse.ArgumentParser(prog=TOOL, description=(__doc__ or "").splitlines()[0])
    add_check(parser)
    update(PAGES, TOOL, BLOCKS, check=parser.parse_args().check)


if __name__ == "__main__":
    main()
