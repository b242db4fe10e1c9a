"""Pages of the documentation site that are made from files outside docs/, as hooks of MkDocs.

README is the first page of the site. Every other file or folder of the repository that a page links to becomes a page
of its own, so that the links which work in the repository work on the site too, without a network.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "stm_fast/models/weights/README.md": "model-card.md",
}
"""Pages of the repository outside docs/, and what they are called on the site."""
LANGUAGES = {".py": "python", ".cu": "cpp", ".h": "cpp", ".cpp": "cpp", ".yaml": "yaml", ".ipynb": "python"}
"""Files that are shown as code, by their suffix."""
SOURCE = "source"
FENCE = "``````"
_NAMED = re.compile(r"\[[\w/-]+\.md\]\((?=(?P<path>[^)#\s]+))")
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)(?P<path>[^)#\s]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and those of the files and folders that any page links to."""
    for path, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    pages = [(repository_path(file.src_uri), file.content_string) for file in files.documentation_pages()]
    wanted = {linked for path, text in pages for linked in _linked(path, text)}
    made: set[str] = set()
    while wanted - made:
        path = min(wanted - made)
        made.add(path)
        if (ROOT / path).is_dir():
            wanted |= set(_entries(path))
        text = _listing(path) if (ROOT / path).is_dir() else _code(path)
        files.append(File.generated(config, site_path(path), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the text of a page with links to files of the repository turned into links to pages of the site.

    A link whose text is the name of a page's file, as in `[inputs.md](inputs.md)`, gets the title of the page.
    """
    here = repository_path(page.file.src_uri)
    folder = PurePosixPath(page.file.src_uri).parent
    if here.startswith(SOURCE):
        return markdown

    def on_site(link: re.Match[str]) -> str:
        return relpath(site_path(_resolved(here, link["path"])), folder)

    def titled(link: re.Match[str]) -> str:
        file = files.get_file_from_path(normpath(folder / link["path"]))
        return f"[{file.page.title}](" if file and file.page and file.page.title else link[0]

    return _NAMED.sub(titled, _LINK.sub(on_site, markdown))


def repository_path(uri: str) -> str:
    """Return where the source of a page lies in the repository."""
    homes = {uri: path for path, uri in PAGES.items()}
    return homes.get(uri) or (uri if uri.startswith(f"{SOURCE}/") else f"docs/{uri}")


def site_path(path: str) -> str:
    """Return where the page of a file or folder of the repository lies on the site."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{SOURCE}/{path}/index.md" if (ROOT / path).is_dir() else f"{SOURCE}/{path}.md"


def _resolved(page: str, link: str) -> str:
    return normpath(PurePosixPath(page).parent / link)


def _linked(page: str, text: str) -> Iterator[str]:
    """Yield the files and folders without a page of their own that a page links to."""
    for link in _LINK.finditer(text):
        path = _resolved(page, link["path"])
        if path not in PAGES and not path.startswith("docs/") and (ROOT / path).exists():
            yield path


def _entries(folder: str) -> list[str]:
    """Return the files that are shown as code, and the folders that hold some."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).iterdir())
    return [path for path in found if Path(path).suffix in LANGUAGES or ((ROOT / path).is_dir() and _entries(path))]


def _listing(folder: str) -> str:
    names = [f"{path.rpartition('/')[2]}{'/' * (ROOT / path).is_dir()}" for path in _entries(folder)]
    links = [relpath(site_path(path), f"{SOURCE}/{folder}") for path in _entries(folder)]
    rows = "\n".join(f"- [`{name}`]({link})" for name, link in zip(names, links, strict=True))
    return _hidden(folder, f"# `{folder}/`\n\n{rows}\n")


def _code(path: str) -> str:
    text, suffix = (ROOT / path).read_text(), Path(path).suffix
    if suffix == ".ipynb":
        return _hidden(path, _notebook(text))
    return _hidden(path, f"# `{path}`\n\n{FENCE}{LANGUAGES.get(suffix, 'text')}\n{text}\n{FENCE}\n")


def _notebook(text: str) -> str:
    """Return the cells of a notebook as Markdown."""
    cells = [("".join(cell["source"]), cell["cell_type"]) for cell in json.loads(text)["cells"]]
    return "\n\n".join(f"{FENCE}python\n{cell}\n{FENCE}" if kind == "code" else cell for cell, kind in cells)


def _hidden(path: str, text: str) -> str:
    """Keep a page of code out of the search, so that the pages about it are found first."""
    return f"---\ntitle: {path}\nsearch:\n  exclude: true\n---\n\n{text}"
