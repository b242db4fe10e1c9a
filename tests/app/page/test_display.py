"""What the page shows: exact ids, all frames of a long video, help, themes, and all of it by keys."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.app.page.conftest import Server, sync_api
from tests.app.page.screen import Screen

pytestmark = pytest.mark.page

LONG = 10_000


@pytest.mark.parametrize("filtered", [False, True])
def test_ids_are_read_and_written_exactly(screen: Screen, filtered: bool) -> None:
    """Also those that a canvas would change, from PNGs with all filters."""
    ids = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
    if filtered:
        ids = np.add.outer(np.arange(37) * 3, np.arange(53) * 2).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(ids).save(file, format="PNG")
    script = """async (bytes) => {
        const { decodeIds, encodeIds } = await import("/static/png.js");
        const { ids, width, height } = await decodeIds(Uint8Array.from(bytes).buffer);
        const again = await (await encodeIds(ids, width, height)).arrayBuffer();
        return [Array.from(ids), Array.from(new Uint8Array(again))];
    }"""
    read, written = screen.page.evaluate(script, list(file.getvalue()))
    assert (np.array(read).reshape(37, 53) == ids).all()
    image = Image.open(io.BytesIO(bytes(written)))
    assert image.mode == "L"
    assert (np.array(image) == ids).all()


def test_a_box_and_a_brush_are_used_by_keys_alone(screen: Screen) -> None:
    """The crosshair begins in the middle; a fine step is one pixel of the frame."""
    screen.press("b", "Shift+d", "Enter", *["Shift+d"] * 12, "Enter")
    screen.settle()
    found = screen.mask(0)
    assert (found[45, 81:93] == 1).all()
    screen.press("Delete")
    screen.settle()
    screen.press("Control+z")
    screen.settle()
    assert (screen.mask(0) == found).all()
    screen.press("n", "ArrowRight")
    screen.shows(1)
    assert screen.at("#timeline").get_attribute("aria-valuenow") == "1"
    assert not screen.errors


def test_every_key_is_in_the_help(screen: Screen) -> None:
    screen.press("?")
    text = screen.at("#help-body").inner_text()
    script = 'async () => (await import("/static/commands.js")).commandsOf({ store: {} }).map(({ name }) => name)'
    names = screen.page.evaluate(script)
    assert len(names) > 40
    assert not [name for name in names if name not in text]


def test_what_has_no_text_has_a_label(screen: Screen) -> None:
    script = """() => [...document.querySelectorAll("button, input, select, canvas")]
        .filter((each) => each.checkVisibility())
        .filter((each) => !(each.ariaLabel || each.innerText || each.labels?.length || each.textContent.trim()))
        .map((each) => each.outerHTML)"""
    assert screen.page.evaluate(script) == []


def test_themes_differ_and_are_kept(screen: Screen) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    colours = set()
    for theme in ("dark", "light"):
        screen.press("t")
        screen.sees("#theme-name", f"Theme: {theme}")
        colours.add(screen.page.evaluate(ground))
    assert len(colours) == 2
    screen.page.reload()
    screen.sees("#theme-name", "Theme: light")


def test_a_long_video_is_scrubbed(context: "sync_api.BrowserContext", server: Server) -> None:
    """Of 10,000 frames; the server answers as it would for them with what it has for the first."""
    screen = Screen(context)
    asked = []

    def project(route: "sync_api.Route") -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=json.dumps(answer.json() | {"frames": LONG, "done": LONG}))

    def picture(route: "sync_api.Route") -> None:
        asked.append(route.request.url)
        kind, name = route.request.url.partition("?")[0].split("/")[-2:]
        route.fulfill(response=route.fetch(url=f"{server.root}api/{kind}/0.{name.partition('.')[2]}"))

    def timeline(route: "sync_api.Route") -> None:
        begin, end = (int(each) for each in re.findall(r"(?:from|to)=([0-9]+)", route.request.url))
        unknown = [None] * (end - begin)
        row = {"1": [0.1 + 0.05 * np.sin(frame / 300) for frame in range(begin, end)]}
        body = {"from": begin, "to": end, "areas": row, "uncertainty": {"1": unknown}, "masked": [1] * (end - begin)}
        route.fulfill(body=json.dumps(body), content_type="application/json")

    screen.page.route("**/api/project*", project)
    screen.page.route("**/api/timeline?*", timeline)
    for kind in ("frames", "thumbnails", "masks"):
        screen.page.route(f"**/api/{kind}/*", picture)
    screen.page.goto(server.address)
    screen.shows(0)
    screen.sees("#last", f"of {LONG - 1}")
    area = screen.at("#timeline").bounding_box()
    assert area is not None
    y = area["y"] + area["height"] / 2
    screen.page.mouse.move(area["x"] + 2, y)
    screen.page.mouse.down()
    screen.page.mouse.move(area["x"] + area["width"] - 3, y, steps=200)
    screen.page.mouse.up()
    screen.settle()
    assert int(screen.at("#timeline").get_attribute("aria-valuenow") or 0) > LONG - 50
    assert screen.page.evaluate("() => document.querySelectorAll('*').length") < 400
    assert len(asked) < 1500
    assert not screen.errors
    screen.page.unroute_all(behavior="ignoreErrors")
