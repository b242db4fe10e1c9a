"""Open what a user gives as a video: a file, folder, stack, pattern, URL, pipe or camera."""

import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path

from stm_fast.errors import MediaError
from stm_fast.media.frames import FrameSource
from stm_fast.media.images import IMAGE_SUFFIXES, ImageFiles, ImageStack, by_stem, count_pages, list_images, natural_key
from stm_fast.media.notices import notice
from stm_fast.media.streams import Location
from stm_fast.media.video import VideoFile

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
NUMBER = re.compile(r"%0?(\d*)d")
STANDARD_INPUT = "-"
FILE_SERVERS = frozenset({"file", "ftp", "http", "https", "sftp"})


def open_frames(path: str | Path) -> FrameSource:
    """Open the frames of a clip.

    Args:
        path: one of
            - a file that FFmpeg reads;
            - a TIFF with several pages, an animated WebP, PNG or GIF, or an image, which is a clip of one frame;
            - a folder of images, in natural order of their names: `frame_2` comes before `frame_10`;
            - a pattern of images, `folder/%05d.png` or `folder/*.png`;
            - a URL; "-" for standard input; a named pipe; a camera such as `/dev/video0`. These are opened once. Of
              them, only files behind URLs can be iterated again.

    Raises:
        MediaError: nothing is there, or what is there cannot be read.
    """
    name = str(path)
    if not name:
        raise MediaError("the name of the clip is empty: a video file or a folder of images is needed")
    if name == STANDARD_INPUT:
        return VideoFile(_standard_input())
    if scheme := URL.match(name):
        return VideoFile(_url(scheme, name))
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        return _pattern(path)
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return VideoFile(Location(path, path, once=True))
    if stat.S_ISCHR(mode):
        return VideoFile(Location(path, str(path), format="v4l2", once=True))
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageStack(path)
    return VideoFile(Location(path, str(path.absolute())))


def _folder(path: Path) -> FrameSource:
    files = list_images(path)
    if not files:
        raise MediaError(f"{path} holds no image ({_known()}){_others(path)}")
    only = next(iter(files.values()))
    return ImageStack(only) if len(files) == 1 and count_pages(only) > 1 else ImageFiles(path, files)


def _pattern(path: Path) -> FrameSource:
    """Open images by `%05d` or wildcards."""
    if number := NUMBER.search(path.name):
        files = _numbered(path, number)
    else:
        files = sorted(path.parent.glob(path.name), key=lambda file: natural_key(file.name))
    if not files:
        wanted = "a video file or a folder of images is needed"
        raise MediaError(f"{path} does not exist: {wanted}" if not number else f"no file is named like {path}")
    if unknown := [file for file in files if file.suffix.lower() not in IMAGE_SUFFIXES]:
        raise MediaError(f"{path} names {unknown[0].name}, which is not an image that can be read ({_known()})")
    return ImageFiles(str(path), by_stem(files))


def _numbered(path: Path, number: re.Match[str]) -> list[Path]:
    """Return the files of a pattern by number, as the ffmpeg program finds them, with a notice of gaps."""
    before, after = path.name[: number.start()], path.name[number.end() :]
    wanted = re.compile(f"{re.escape(before)}(\\d+){re.escape(after)}")
    found: dict[int, Path] = {}
    for file in path.parent.iterdir() if path.parent.is_dir() else ():
        match = wanted.fullmatch(file.name)
        if match and match[1] == number[0] % int(match[1]):
            found[int(match[1])] = file
    if found and (missing := max(found) - min(found) + 1 - len(found)):
        notice(f"{path} has {len(found)} files, and {missing} numbers between them are missing: they were skipped")
    return [found[key] for key in sorted(found)]


def _url(scheme: re.Match[str], name: str) -> Location:
    """Return the URL, even if it lost a slash as a `Path`."""
    kind = scheme[1].lower()
    url = f"{kind}:{'///' if kind == 'file' else '//'}{name[scheme.end() :]}"
    return Location(url, url, once=True, again=kind in FILE_SERVERS)


def _standard_input() -> Location:
    if sys.stdin.isatty():
        raise MediaError("standard input is a terminal: send a video into it with | or <")
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
            return Location("standard input", "/dev/stdin", again=True)
    return Location("standard input", sys.stdin.buffer, once=True)


def _known() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _others(path: Path) -> str:
    """Say what a folder holds instead of images."""
    names = sorted(file.suffix for file in path.iterdir() if file.suffix and not file.name.startswith("."))
    common = max(set(names), key=names.count, default=None)
    return f", but {names.count(common)} {common}: give a video itself, convert other images" if common else ""
