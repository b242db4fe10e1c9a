"""The page's sources fit together, which no compiler checks: imports, names, elements, commands, addresses."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "stm_fast" / "app" / "static"
MODULES = sorted(STATIC.rglob("*.js"))
MAX_LINES = 300
IMPORT = re.compile(r'^import (?:\{([^}]*)\} from )?"([^"]+)";$', re.M)
EXPORT = re.compile(r"^export (?:async )?(?:function|class|const) ([\w$]+)", re.M)


class Elements(HTMLParser):
    """The attributes of a page's elements."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed((STATIC / "index.html").read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.found if (value := attributes.get(attribute))]


@pytest.fixture(scope="module")
def elements() -> Elements:
    return Elements()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_imports_of_a_module_are_exported_and_used(path: Path) -> None:
    text = path.read_text()
    assert len(re.findall(r"^import ", text, re.M)) == len(IMPORT.findall(text))
    body = IMPORT.sub("", text)
    for names, source in IMPORT.findall(text):
        target = (path.parent / source).resolve()
        assert target.is_file(), source
        for name in (each.strip() for each in names.split(",") if each.strip()):
            assert name in EXPORT.findall(target.read_text()), f"{source} has no {name}"
            assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", body), f"{name} is not used"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_says_what_it_is_and_is_short(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("/* ")
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 140


def test_every_module_is_used() -> None:
    used = {(path.parent / source).resolve() for path in MODULES for _, source in IMPORT.findall(path.read_text())}
    assert {*MODULES} - used == {STATIC / "main.js"}


def test_elements_that_modules_name_are_in_the_page(elements: Elements) -> None:
    ids = elements.values("id")
    assert len(ids) == len({*ids})
    named = {name for path in MODULES for name in re.findall(r'\$\("([\w-]+)"\)', path.read_text())}
    assert len(named) > 30
    assert named <= {*ids}
    assert {name for names in elements.values("aria-labelledby") for name in names.split()} <= {*ids}


def test_buttons_name_commands_that_there_are(elements: Elements) -> None:
    commands = {*re.findall(r'add\("\w+", "([\w-]+)"', (STATIC / "commands.js").read_text())}
    assert {*elements.values("data-command")} <= commands


def test_the_page_asks_its_own_server_alone(elements: Elements) -> None:
    """Nothing is loaded from elsewhere, and nothing is inline that the server's policy forbids."""
    addresses = elements.values("src") + elements.values("href")
    assert len(addresses) > 5
    assert not [each for each in addresses if not (STATIC.parent / each.lstrip("/")).is_file()]
    assert not [attributes for tag, attributes in elements.found if tag == "style" or "style" in attributes]
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    texts = [path.read_text() for path in STATIC.rglob("*") if path.suffix in {".js", ".css", ".html"}]
    assert not [address for text in texts for address in re.findall(r"https?://[^\s\"')]+", text)]
