"""The pictures of docs/annotate.md: the page of `stm-fast annotate`, used on the demo's clip.

    python -m tools.page_pictures docs/images

Needs chromium, as `make test-page` does. Works in a temporary folder.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from stm_fast.data import demo_clip
from stm_fast.media.files import atomic_path
from tests.app.page.conftest import PATIENCE_MS, Server, chromium, sync_api
from tests.app.page.screen import Screen

WINDOW = {"width": 1200, "height": 720}
OBJECTS = {"Cat": demo_clip.CAT, "Cup": demo_clip.CUP}
MARGIN = 4
"""Pixels between an object and its box."""
SHOWN = 14
"""Frame in which the cup is in front of the cat."""
SETTLED_MS = 2000
"""Milliseconds in which thumbnails come."""
COLOURS = 128
"""Of the pictures, whose files are then a third of the size."""


@contextmanager
def opened(folder: Path) -> Iterator[Screen]:
    """Yield the page of a new project of the demo's clip."""
    clip = folder / "cat-and-cup"
    clip.mkdir()
    for index, frame in enumerate(demo_clip.render()):
        Image.fromarray(frame.image).save(clip / f"{index:05d}.png")
    server = Server(clip, folder / "project")
    try:
        sync_api.expect.set_options(timeout=PATIENCE_MS)
        with chromium() as browser:
            context = browser.new_context(viewport=WINDOW, color_scheme="dark")
            yield Screen.opened(context, server.address)
    finally:
        server.kill()


def draw(out: Path) -> None:
    """Write the pictures."""
    first = next(iter(demo_clip.render())).mask
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as screen:
        for number, (name, identity) in enumerate(OBJECTS.items()):
            if number:
                screen.press("n")
            screen.press("r")
            rows, columns = np.nonzero(first == identity)
            corners = (columns.min() - MARGIN, rows.min() - MARGIN), (columns.max() + MARGIN, rows.max() + MARGIN)
            screen.drag(*corners)
            screen.at("#objects input[type=text]").nth(number).fill(name)
            screen.at("#objects input[type=text]").nth(number).press("Enter")
            screen.settle()
        save(screen, out / "annotate_box.png")
        screen.follow(len(list(demo_clip.render())))
        screen.go(SHOWN)
        screen.page.evaluate("() => document.getElementById('notices').replaceChildren()")
        save(screen, out / "annotate_followed.png")


def save(screen: Screen, path: Path) -> None:
    """Write what is seen, once the thumbnails have come."""
    screen.page.wait_for_timeout(SETTLED_MS)
    with atomic_path(path) as partial:
        screen.page.screenshot(path=partial, type="png")
        with Image.open(partial) as picture:
            small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(partial, format="PNG", optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the pictures")
    draw(parser.parse_args().out)
