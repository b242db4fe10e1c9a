"""What a browser with the wrong token, another page, or a path out of the project gets."""

import pytest

from tests.app.page.conftest import Server, sync_api
from tests.app.page.screen import Screen

pytestmark = pytest.mark.page

ELSEWHERE = "http://elsewhere.test"


def test_a_wrong_token_opens_nothing(browser: "sync_api.Browser", server: Server) -> None:
    context = browser.new_context()
    page = context.new_page()
    for address in (server.root, f"{server.root}?token=wrong", f"{server.root}static/main.js"):
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 403
        assert not context.cookies()
    context.close()


def test_another_page_cannot_change_the_project(
    context: "sync_api.BrowserContext", screen: Screen, server: Server
) -> None:
    """Not even one that is open in the same browser, which has the cookie."""
    page = context.new_page()
    page.route(
        "http://elsewhere.test/**", lambda route: route.fulfill(body="<p>another page", content_type="text/html")
    )
    page.goto("http://elsewhere.test/")
    send = """async (address) => {
        const options = { method: "DELETE", credentials: "include", headers: { "If-Match": "1" } };
        try { return (await fetch(address, options)).status; } catch { return "blocked"; }
    }"""
    assert page.evaluate(send, f"{server.root}api/objects/1") == "blocked"
    forged = page.request.delete(f"{server.root}api/objects/1", headers={"Origin": ELSEWHERE, "If-Match": "1"})
    assert forged.status == 403
    assert screen.fetch("/api/project")["objects"] == []


@pytest.mark.parametrize("path", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/project.json", "0.png/../../x"])
@pytest.mark.parametrize("room", ["/static/", "/api/masks/", "/api/exports/", "/api/frames/"])
def test_paths_out_of_the_project_are_refused(server: Server, room: str, path: str) -> None:
    """Sent as they are: a browser would resolve them before it asks."""
    status, body = server.ask("GET", room + path)
    assert status in (400, 404)
    assert b"root:" not in body
