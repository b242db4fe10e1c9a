"""How fast the page of `stm-fast annotate` opens a long project, and how fast it scrubs in it.

    python -m benchmarks.system.page [OUT] [--frames 10000] [--key-frame-every 25] [--places 60] [--openings 5]

A video and finished results of it are made in OUT, build/bench/page by default, unless they are there
(`benchmarks.clips.long_project`). The server runs in a process of its own, as its users start it, and the page in
Chromium. Times are those of the page's own clock: from the navigation, or from the event of the pointer or of the key,
to the task after the picture of the screen in which the frame and its masks are drawn. What the canvas shows then is
compared with the frame of the video under the masks on disk. Prints Markdown; exits with 1 if a frame was wrong.

Needs playwright and Chromium (STM_FAST_CHROMIUM names another one), and an idle machine.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.clips.long_project import FPS, LongProject, make_project
from stm_fast.app.objects import ProjectObject
from stm_fast.media.masks import read_mask
from stm_fast.media.sources import open_frames

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

OUT = Path("build/bench/page")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
WINDOW = {"width": 1280, "height": 800}
WATCH = (Path(__file__).parent / "page_watch.js").read_text(encoding="utf-8")
"""What runs in the page before its own scripts."""
CELL = 20
"""Side of the squares of the frame whose mean colours are compared, in its pixels."""
MAX_DIFFERENCE = 4.0
"""Largest mean difference between colours on the canvas and those expected, in levels; of JPEG and of scaling."""
OPENING, ANSWER = 2000.0, 100.0
"""What users should wait at most, in milliseconds."""
_REST = 0.3
"""Seconds in which pictures ahead are fetched, between two steps."""
_OPACITY, _INSIDE, _OUTLINE = 0.8, 110 / 255, 1.0
"""How the page draws masks: opacity of all, and of an object's inside and outline."""


@dataclass
class Shown:
    """Answers of the page: milliseconds by what was done, and frames that were not those expected."""

    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    checked: int = 0
    wrong: list[str] = field(default_factory=list)

    def note(self, what: str, milliseconds: float) -> None:
        """Note an answer."""
        self.milliseconds.setdefault(what, []).append(milliseconds)


class Truth:
    """What the canvas should show of frames."""

    def __init__(self, project: LongProject) -> None:
        self._clip = open_frames(project.video)
        self._masks = project.folder / "masks"

    def cells(self, number: int) -> NDArray[np.float64]:
        """Return the mean colours of the squares of a frame under its mask, `(H / CELL, W / CELL, 3)`."""
        frame = self._clip.frame(number)
        ids = read_mask(self._masks / f"{frame.name}.png")
        colours = np.array([_rgb(each) for each in range(int(ids.max()) + 1)], np.float64)
        alpha = _OPACITY * np.where(_edges(ids), _OUTLINE, _INSIDE) * (ids > 0)
        seen = frame.image * (1 - alpha[..., None]) + colours[ids] * alpha[..., None]
        height, width = ids.shape
        return seen.reshape(height // CELL, CELL, width // CELL, CELL, 3).mean((1, 3))


def _rgb(object_id: int) -> tuple[int, ...]:
    """Return the colour that the page gives to an object at first; black for the background."""
    return tuple(bytes.fromhex(ProjectObject.new(object_id).colour[1:])) if object_id else (0, 0, 0)


def _edges(ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where one of the four neighbours has another id."""
    around = np.pad(ids, 1, mode="edge")
    neighbours = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    return np.any([each != ids for each in neighbours], axis=0)


@contextmanager
def server(project: LongProject) -> Iterator[tuple[str, float]]:
    """Serve a project; yield the address of the page, and the seconds from the start to it."""
    command = [sys.executable, "-m", "stm_fast", "annotate", str(project.video), "--out", str(project.folder)]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = next((match for line in process.stdout if (match := re.search(r"http://\S+", line))), None)
            if found is None:
                raise SystemExit(f"the server ended: run {' '.join(command)} to see why")
            yield found[0], time.perf_counter() - begin
        finally:
            process.terminate()


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Start Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        raise SystemExit("the benchmark of the page needs playwright: pip install playwright") from error
    paths = [os.environ.get("STM_FAST_CHROMIUM"), *(shutil.which(name) for name in CHROMIUM)]
    path = next((path for path in paths if path), None)
    if path is None:
        raise SystemExit("the benchmark of the page needs Chromium: install it, or name it in STM_FAST_CHROMIUM")
    with sync_playwright() as playwright:
        # Chromium's sandbox refuses the superuser, who runs benchmarks in containers.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """The page in a tab, with what watches it.

    Args:
        context: of the browser; a new one has an empty cache.
        address: of the page.
        truth: what should be seen.
        shown: where answers are noted.
    """

    def __init__(self, context: "BrowserContext", address: str, truth: Truth, shown: Shown) -> None:
        self.page: Page = context.new_page()
        self.page.add_init_script(WATCH)
        self._address, self._truth, self._shown = address, truth, shown

    def open(self, what: str) -> None:
        """Open the page and note how long it takes to show its first frame, and all that belongs to the timeline."""
        self.page.goto(self._address, wait_until="commit")
        answer = self.page.evaluate("() => watch.opened()")
        self._shown.note(f"{what}: first frame with its masks", answer["at"])
        self._check(answer)
        rest: dict[str, float] = self.page.evaluate("() => watch.rest()")
        for part, milliseconds in rest.items():
            self._shown.note(f"{what}: {part}", milliseconds)

    def wait(self, what: str, rest: float = _REST) -> None:
        """Wait until the frame that is wanted is seen, note how long it took since the last event, and rest."""
        answer = self.page.evaluate("() => watch.answered()")
        self._shown.note(what, answer["milliseconds"])
        self._check(answer)
        time.sleep(rest)

    def scrub(self, what: str, places: Iterable[float], rest: float = _REST) -> None:
        """Drag along the timeline, and wait at each place until its frame is seen.

        Args:
            what: name of the answers.
            places: as shares of the timeline.
            rest: seconds after each.
        """
        with self._dragging() as move:
            for place in places:
                move(place)
                self.wait(what, rest)

    def sweep(self, what: str, seconds: float) -> None:
        """Drag from one end to the other without waiting; note the longest times without a new frame, and the last."""
        with self._dragging() as move:
            move(0.0)
            self.page.evaluate("() => watch.answered()")
            begin = time.perf_counter()
            self.page.evaluate("() => watch.clear()")
            while (gone := (time.perf_counter() - begin) / seconds) < 0.98:
                move(gone)
            move(0.99)
            self.wait(f"{what}: the frame at its end")
        for gap in self.page.evaluate("() => watch.gaps()"):
            self._shown.note(f"{what}: from one frame to the next", gap)

    def step(self, what: str, key: str, steps: int) -> None:
        """Press a key a number of times, and wait for each frame."""
        for _ in range(steps):
            self.page.keyboard.press(key)
            self.wait(what, rest=0.05)

    @contextmanager
    def _dragging(self) -> Iterator[Callable[[float], None]]:
        area = self.page.locator("#timeline").bounding_box()
        assert area is not None

        def move(place: float) -> None:
            self.page.mouse.move(area["x"] + round(place * (area["width"] - 1)), area["y"] + area["height"] / 2)

        move(0.5)
        self.page.mouse.down()
        self.page.evaluate("() => watch.answered()")
        yield move
        self.page.mouse.up()

    def _check(self, answer: dict[str, Any]) -> None:
        """Compare what the canvas shows with what it should."""
        seen = self.page.evaluate("(cell) => watch.cells(cell)", CELL)
        expected = self._truth.cells(answer["frame"])
        difference = float(np.abs(np.reshape(seen, expected.shape) - expected).mean())
        self._shown.checked += 1
        if answer["frame"] != answer["wanted"] or difference > MAX_DIFFERENCE:
            self._shown.wrong.append(f"{answer['frame']} for {answer['wanted']}, {difference:.1f} levels away")


def measure(project: LongProject, places: int, openings: int) -> Shown:
    """Return the answers of the page on a project."""
    shown, truth = Shown(), Truth(project)
    rng = np.random.default_rng(0)
    far_apart = np.linspace(0.01, 0.99, places)[rng.permutation(places)]
    with chromium() as browser:
        for turn in range(openings):
            shutil.rmtree(project.folder / ".thumbnails", ignore_errors=True)
            with server(project) as (address, seconds):
                shown.note("server: address printed", 1000 * seconds)
                context = browser.new_context(viewport=WINDOW)  # type: ignore[arg-type]
                tab = Tab(context, address, truth, shown)
                tab.open("first opening")
                if turn < openings - 1:
                    tab.page.close()
                    Tab(context, address, truth, shown).open("second opening")
                    continue
                tab.scrub("places far apart", far_apart)
                tab.scrub("the same places again", far_apart)
                tab.scrub("places far apart, one right after the other", rng.permutation(far_apart + 0.004), rest=0.0)
                tab.sweep("sweep of 4 s", 4.0)
                tab.page.keyboard.press("Home")
                tab.wait("Home")
                tab.step("→, one frame", "ArrowRight", places)
                tab.step("←, one frame", "ArrowLeft", places)
                tab.step("Shift →, ten frames", "Shift+ArrowRight", places)
    return shown


def report(project: LongProject, shown: Shown, key_frame_every: int) -> None:
    """Print the answers in order."""
    megabytes = project.video.stat().st_size / 1e6
    details = f"{project.frames} frames of 640×360 in {megabytes:.0f} MB, a key frame every {key_frame_every}"
    print(machine.line(details, threads=f"{os.cpu_count()} processors") + "\n")
    print("| | times | median, ms | 95 % | largest | limit | above it |\n|---|---|---|---|---|---|---|")
    for what, values in shown.milliseconds.items():
        limit = OPENING if "opening: first" in what else None if "opening" in what or "server" in what else ANSWER
        above = f"{limit:.0f} | {sum(each > limit for each in values)}" if limit else "|"
        numbers = f"{statistics.median(values):.0f} | {np.percentile(values, 95):.0f} | {max(values):.0f}"
        print(f"| {what} | {len(values)} | {numbers} | {above} |")
    print(f"\n{shown.checked} frames were compared with what they should show: {len(shown.wrong)} were wrong.")
    for each in shown.wrong:
        print(f"- {each}")


def main(arguments: list[str] | None = None) -> int:
    """Make the project, measure, and report; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=OUT)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--key-frame-every", type=int, default=FPS, help="frames from one key frame to the next")
    parser.add_argument("--places", type=int, default=60, help="of the timeline")
    parser.add_argument("--openings", type=int, default=5)
    options = parser.parse_args(arguments)
    for name, least in (("key_frame_every", 1), ("places", 2), ("openings", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(options, name)}")
    if options.frames < 1 or options.frames % options.key_frame_every:
        parser.error(f"--frames must be a multiple of --key-frame-every, got {options.frames}")
    project = make_project(options.out, options.frames, options.key_frame_every)
    shown = measure(project, options.places, options.openings)
    report(project, shown, options.key_frame_every)
    return int(bool(shown.wrong))


if __name__ == "__main__":
    sys.exit(main())
