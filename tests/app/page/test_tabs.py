"""Two tabs of one project: both see what either draws, and neither overwrites the other."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from tests.app.page.conftest import Server, sync_api
from tests.app.page.screen import Screen

pytestmark = pytest.mark.page


@pytest.fixture
def other(context: "sync_api.BrowserContext", screen: Screen, server: Server) -> Screen:
    """A second tab."""
    return Screen.opened(context, server.root)


def hold_events(screen: Screen) -> None:
    """Open the page again, without events: a tab that has not heard yet of what others do."""
    screen.page.route("**/api/events*", lambda route: route.abort())
    screen.page.reload()
    screen.shows(0)


def test_a_tab_sees_what_another_one_draws(screen: Screen, other: Screen) -> None:
    screen.press("b")
    screen.drag((50, 40), (60, 40))
    other.sees("#given", "First mask, drawn by you")
    other.press("n", "b")
    other.drag((50, 60), (60, 60))
    screen.sees("#objects li:nth-child(2) .pick", "2")
    found = other.mask(0)
    assert (found[40, 51:60] == 1).all()
    assert (found[60, 51:60] == 2).all()
    screen.press("Control+z")
    screen.settle()
    assert set(other.mask(0).ravel()) == {0, 2}
    assert not screen.errors + other.errors


def test_strokes_on_other_objects_are_joined(screen: Screen, other: Screen) -> None:
    screen.press("b")
    screen.drag((50, 40), (60, 40))
    hold_events(other)
    screen.press("n")
    screen.drag((50, 60), (60, 60))
    other.press("1", "b")
    other.drag((50, 20), (60, 20))
    found = other.mask(0)
    assert (found[20, 51:60] == 1).all()
    assert (found[40, 51:60] == 1).all()
    assert (found[60, 51:60] == 2).all()


@pytest.mark.parametrize("mine", [True, False])
def test_the_user_decides_between_strokes_on_the_same_object(screen: Screen, other: Screen, mine: bool) -> None:
    screen.press("b")
    screen.drag((50, 40), (60, 40))
    hold_events(other)
    screen.drag((50, 60), (60, 60))
    other.press("b")
    other.page.mouse.click(*other.place((55, 20)))
    other.sees("#question-title", "Frame 0 was changed in another tab")
    other.at("#question-yes" if mine else "#question-no").click()
    other.settle()
    found = screen.mask(0)
    assert found[40, 55] == 1
    assert found[20, 55] == (1 if mine else 0)
    assert found[60, 55] == (0 if mine else 1)
    assert not screen.errors + other.errors


def test_a_job_that_ended_before_the_tab_heard_of_it(context: "sync_api.BrowserContext", server: Server) -> None:
    """It is running when the page asks first; the events, which begin later, do not tell of its end."""
    screen = Screen(context)
    running = {"kind": "follow", "state": "running", "done": 1, "total": 9, "per_second": 0, "error": None, "frame": 0}
    asked = []

    def project(route: "sync_api.Route") -> None:
        asked.append(route.request.url)
        answer = route.fetch()
        job = running if len(asked) == 1 else running | {"state": "done"}
        route.fulfill(response=answer, body=json.dumps(answer.json() | {"job": job}))

    screen.page.route("**/api/project*", project)
    screen.page.goto(server.address)
    screen.sees("#notices", re.compile("Followed for 1 frames"))
    screen.sees("#follow", re.compile("Follow forward"))
    screen.page.unroute_all(behavior="ignoreErrors")


def brightness(screen: Screen) -> float:
    """Return the mean brightness, 0 to 255, of the frame that is seen."""
    script = """() => {
        const canvas = document.getElementById("view");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const seen = data.filter((_, at) => at % 4 < 3 && data[at - (at % 4) + 3]);
        return seen.reduce((sum, value) => sum + value, 0) / seen.length;
    }"""
    return float(screen.page.evaluate(script))


def test_another_video_at_the_same_address_is_not_taken_for_the_first(
    servers: list[Server], context: "sync_api.BrowserContext", clip: Path, tmp_path: Path
) -> None:
    """Of the same name, size and length: a new tab shows its own pictures, and the old tab does not draw into it."""
    negative = tmp_path / "other" / clip.name
    negative.mkdir(parents=True)
    for path in clip.iterdir():
        with Image.open(path) as image:
            ImageOps.invert(image).save(negative / path.name)
    screen = Screen.opened(context, servers[0].address)
    before = brightness(screen)
    servers[0].kill()
    servers.append(Server(negative, tmp_path / "second", port=servers[0].port))
    other = Screen.opened(context, servers[-1].address)
    assert brightness(other) == pytest.approx(255 - before, abs=3)
    screen.sees("#guide", re.compile("This address has another video now"))
    screen.press("b")
    screen.page.mouse.click(*screen.place((50, 40)))
    screen.sees("#saved", "Not saved")
    project = other.fetch("/api/project")
    assert (project["objects"], project["first_masks"]) == ([], [])
    assert not screen.errors + other.errors
