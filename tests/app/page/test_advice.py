"""What the page says to someone who has not used it before, and what it does with what they try."""

import re

import pytest

from tests.app.page.conftest import Server, sync_api
from tests.app.page.screen import Screen

pytestmark = pytest.mark.page


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("r", "Draw a box around the first object"),
        ("p", "Click on the first object"),
        ("b", "Paint the first object"),
        ("e", "There is nothing of the first object to erase yet"),
        ("g", "Click around the first object"),
    ],
)
def test_the_advice_is_that_of_the_tool_at_hand(screen: Screen, key: str, said: str) -> None:
    screen.press(key)
    screen.sees("#guide", re.compile(said))


def test_what_does_nothing_says_why(screen: Screen) -> None:
    screen.click((50, 40))
    screen.sees("#notices", re.compile("Drag from one corner"))
    screen.press("e")
    screen.drag((50, 40), (60, 40))
    screen.sees("#notices", re.compile("Object 1 is not there"))
    assert screen.fetch("/api/project")["first_masks"] == []


def test_hidden_masks_are_not_taken_for_missing_ones(screen: Screen) -> None:
    screen.press("h")
    screen.sees("#guide", "Masks are hidden. Press H to show them.")
    screen.press("h")
    screen.sees("#guide", re.compile("Draw a box"))


def test_tools_say_their_keys(screen: Screen) -> None:
    titles = screen.page.evaluate("() => [...document.querySelectorAll('#tools button')].map((each) => each.title)")
    assert [title[-3:] for title in titles] == ["(R)", "(P)", "(B)", "(E)", "(G)"]


def test_nothing_can_be_exported_before_an_object_was_followed(screen: Screen) -> None:
    screen.press("b")
    screen.drag((50, 40), (60, 40))
    screen.press("x")
    screen.sees("#export-frames", re.compile("There are no masks to export yet"))
    sync_api.expect(screen.at("#export-go")).to_be_disabled()


def test_a_part_of_the_frames_can_be_exported(servers: list[Server], context: "sync_api.BrowserContext") -> None:
    screen = Screen.opened(context, servers[0].address)
    screen.press("b")
    screen.drag((50, 40), (70, 40))
    screen.follow(2)
    screen.press("x")
    screen.sees("#export-frames", "2 of 40 frames have masks; the others are left out.")
    sync_api.expect(screen.at("#export-go")).to_be_enabled()


def test_an_answer_that_comes_after_the_end_of_its_job_changes_nothing(screen: Screen) -> None:
    """A job that fails at once has ended, as events tell, before the answer to the request that began it is read."""
    script = """async () => {
        const { takeAnswer } = await import("/static/jobs.js");
        const { Store } = await import("/static/store.js");
        const store = new Store({ job: { number: 2, state: "failed" } });
        const seen = [];
        for (const job of [{ number: 2, state: "running" }, { number: 3, state: "running" }, null]) {
            takeAnswer(store, job);
            seen.push(store.state.job?.state ?? null);
        }
        return seen;
    }"""
    assert screen.page.evaluate(script) == ["failed", "running", None]


def test_following_stops_where_it_was_begun(screen: Screen) -> None:
    """The button does not move from under the pointer."""
    screen.press("b")
    screen.drag((50, 40), (70, 40))
    before = screen.at("#follow").bounding_box()
    screen.page.evaluate("() => { document.getElementById('job').hidden = false; }")
    assert screen.at("#follow").bounding_box() == before


def test_a_stroke_is_done_again_with_all_of_its_object(
    servers: list[Server], context: "sync_api.BrowserContext"
) -> None:
    """Also where the mask that it changed was removed in the meantime: it would else say that nothing is there."""
    screen = Screen.opened(context, servers[0].address)
    screen.drag((40, 23), (104, 74))
    screen.follow(4)
    screen.go(2)
    screen.press("e")
    screen.drag((70, 50), (75, 50))
    corrected = screen.mask(2)
    assert (corrected == 1).sum() > 100
    screen.go(0)
    screen.press("b")
    screen.drag((10, 10), (12, 10))
    screen.follow(1)
    screen.press("Control+z")
    screen.shows(0)
    screen.press("Control+z")
    screen.shows(2)
    assert "2" not in screen.fetch("/api/project")["corrections"]
    assert servers[0].ask("GET", "/api/masks/2.png")[0] == 204  # there is none
    screen.press("Control+Shift+z")
    screen.settle()
    assert (screen.mask(2) == corrected).all()
    assert not screen.errors


def test_what_was_taken_back_comes_back_by_undo(screen: Screen) -> None:
    screen.press("b")
    screen.drag((50, 40), (60, 40))
    screen.press("n")
    screen.drag((50, 60), (60, 60))
    drawn = screen.mask(0)
    screen.press("Shift+Delete")
    screen.sees("#frame-text", "no masks yet")
    screen.settle()
    assert screen.fetch("/api/project")["first_masks"] == []
    screen.press("Control+z")
    screen.sees("#given", "First mask, drawn by you")
    screen.settle()
    assert (screen.mask(0) == drawn).all()
    assert not screen.errors
