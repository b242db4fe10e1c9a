"""Sources of still pictures: freely licensed photographs and cut-outs in Debian packages."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stm_fast.errors import StmFastError


@dataclass(frozen=True)
class Source:
    """Pictures in one Debian package.

    Attributes:
        package: the package's name.
        patterns: globs of picture files, relative to the unpacked package.
        kind: "cutout" or "clipart" (alpha separates object from background), "photo", or "archive" (pictures inside
            a resource file).
        exclude: parts of folder or file names to leave out.
    """

    package: str
    patterns: tuple[str, ...]
    kind: str
    exclude: tuple[str, ...] = ()


_CLIPART = ("animals", "food", "people", "plants", "transportation", "recreation", "tools", "buildings")
_PICTURES = ("**/*.jpg", "**/*.png", "**/*.webp")

SOURCES = (
    Source(
        "tuxpaint-stamps-default",
        ("usr/share/tuxpaint/stamps/**/*.png",),
        "cutout",
        ("_mirror", "_flip", "alphabets", "/math", "money/00_symbols", "outlined"),
    ),
    Source("openclipart-png", tuple(f"usr/share/openclipart/png/{part}/**/*.png" for part in _CLIPART), "clipart"),
    Source("gcompris-qt-data", ("usr/share/gcompris-qt/rcc/*.rcc",), "archive"),
    Source("plasma-workspace-wallpapers", _PICTURES, "photo", ("screenshot", "_dark")),
    Source("gnome-backgrounds", _PICTURES, "photo"),
    Source("mate-backgrounds", _PICTURES, "photo"),
    Source("ukui-wallpapers", _PICTURES, "photo"),
    Source("lomiri-wallpapers-16.04", _PICTURES, "photo"),
    Source("lomiri-wallpapers-20.04", _PICTURES, "photo"),
)


def fetch_packages(packages: Iterable[str], root: Path) -> None:
    """Download Debian packages and unpack each to `root/<package>`; skip packages that are there.

    This runs `apt-get download` and `dpkg-deb`. It installs nothing and needs no privileges.

    Raises:
        StmFastError: a tool is missing or a download fails; the message has the tool's last line.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise StmFastError(f"fetching training material needs `{tool}` of Debian or Ubuntu, which is not on PATH")
    for package in packages:
        target = root / package
        if not target.exists():
            _fetch(package, target)


def _fetch(package: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        _run(["apt-get", "download", package], cwd=scratch)
        (archive,) = Path(scratch).glob("*.deb")
        unpacked = Path(scratch) / "unpacked"
        _run(["dpkg-deb", "-x", str(archive), str(unpacked)], cwd=scratch)
        unpacked.rename(target)


def _run(command: list[str], cwd: str) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise StmFastError(f"`{' '.join(command)}` failed: {reason}")


def source_files(source: Source, root: Path) -> Iterator[Path]:
    """Return the files of one unpacked source, sorted, without symbolic links and excluded names."""
    base = root / source.package
    found = {path for pattern in source.patterns for path in base.glob(pattern)}
    for path in sorted(found):
        name = "/" + path.relative_to(base).as_posix()
        if path.is_file() and not path.is_symlink() and not any(part in name for part in source.exclude):
            yield path
