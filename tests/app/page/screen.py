"""The page as a user sees it: places in the frame, tools, what is written on it."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator

Place = tuple[float, float]
MARGIN = 16


class Screen:
    """A tab, driven by mouse and keys.

    Attributes:
        page: of playwright.
        errors: of its scripts.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    @classmethod
    def opened(cls, context: BrowserContext, address: str) -> Screen:
        """Return a tab with the page of an address, once its frame is seen."""
        screen = cls(context)
        screen.page.goto(address)
        screen.shows(0)
        return screen

    def at(self, name: str) -> Locator:
        return self.page.locator(name)

    def sees(self, name: str, text: str | re.Pattern[str]) -> None:
        """Wait until an element has a text."""
        from playwright.sync_api import expect

        expect(self.at(name)).to_have_text(text)

    def shows(self, frame: int) -> None:
        """Wait until a frame is seen, and what belongs to it."""
        from playwright.sync_api import expect

        expect(self.at("#view")).to_have_attribute("data-shown", str(frame))
        self.settle()

    def place(self, place: Place) -> Place:
        """Return where a place of the frame is on the screen, while the frame is fitted into the canvas."""
        canvas = self.at("#view").bounding_box()
        assert canvas is not None
        width, height = self.size
        scale = min((canvas["width"] - 2 * MARGIN) / width, (canvas["height"] - 2 * MARGIN) / height)
        left = canvas["x"] + (canvas["width"] - width * scale) / 2
        top = canvas["y"] + (canvas["height"] - height * scale) / 2
        return left + place[0] * scale, top + place[1] * scale

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the video; what was asked once, a server that is away need not answer."""
        found = self.fetch("/api/project")
        return found["width"], found["height"]

    def fetch(self, path: str) -> Any:
        """Return what the server answers to this tab, from JSON."""
        return self.page.request.get(self.page.url.rstrip("/") + path).json()

    def mask(self, frame: int) -> np.ndarray:
        """Return the ids `(H, W)` that the project has in a frame, as the page reads them."""
        script = """async (frame) => {
            const { decodeIds } = await import("/static/png.js");
            const answer = await fetch(`/api/masks/${frame}.png`);
            return Array.from((await decodeIds(await answer.arrayBuffer())).ids);
        }"""
        width, height = self.size
        return np.array(self.page.evaluate(script, frame), np.uint8).reshape(height, width)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def click(self, place: Place, button: Any = "left") -> None:
        self.page.mouse.click(*self.place(place), button=button)
        self.settle()

    def drag(self, *places: Place) -> None:
        first, *others = [self.place(place) for place in places]
        self.page.mouse.move(*first)
        self.page.mouse.down()
        for place in others:
            self.page.mouse.move(*place, steps=3)
        self.page.mouse.up()
        self.settle()

    def settle(self) -> None:
        """Wait until the outline is found and all is saved."""
        from playwright.sync_api import expect

        # What a click begins is on the page once the page has answered twice.
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        expect(self.at("#busy")).to_be_hidden()
        self.sees("#saved", "All saved")

    def go(self, frame: int) -> None:
        """Type the number of a frame, and wait until it is seen."""
        self.at("#frame").fill(str(frame))
        self.press("Enter")
        self.shows(frame)

    def follow(self, count: int) -> None:
        """Follow for some new frames, up to the end."""
        self.at("#count").fill(str(count))
        self.at("#count").blur()
        self.page.evaluate("() => document.getElementById('notices').replaceChildren()")
        self.at("#follow").click()
        self.sees("#notices", re.compile("Followed for"))
        self.sees("#follow", re.compile("Follow forward"))
