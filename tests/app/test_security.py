"""Who the server talks to, and what it takes."""

import numpy as np
import pytest
from starlette.testclient import TestClient

from stm_fast.app.security import POLICY
from stm_fast.app.server import make_app
from tests.app.conftest import LOCAL, PORT, TOKEN, png

BEARER = {"Authorization": f"Bearer {TOKEN}"}
BOX = [10, 10, 40, 30]


@pytest.fixture
def stranger(tab):
    """A client without the token."""
    return TestClient(tab.http.app, base_url=LOCAL, follow_redirects=False)


class TestWhoIsLetIn:
    def test_the_token_becomes_a_cookie(self, stranger, tab):
        answer = stranger.get(f"/?token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert f"stm_fast_{PORT}={TOKEN}" in cookie
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert stranger.get("/api/project").status_code == 200  # with the cookie

    @pytest.mark.parametrize("token", ["", "secre", "secrett", "SECRET", "sécret"])
    def test_a_bad_token(self, stranger, token):
        assert stranger.get("/", params={"token": token}).status_code == 403
        bearer = {"Authorization": f"Bearer {token}".encode()}
        assert stranger.get("/api/project", headers=bearer).status_code == 403
        assert stranger.get("/api/project", headers={"Cookie": f"stm_fast_{PORT}={token}".encode()}).status_code == 403

    @pytest.mark.parametrize(
        "path", ["/", "/static/main.js", "/api/project", "/api/frames/0.jpg", "/api/events", "/nowhere", "/api/exports"]
    )
    def test_without_a_cookie(self, stranger, path):
        answer = stranger.get(path)
        assert answer.status_code == 403
        assert answer.json() == {"error": "open the address with the token that the server printed"}

    def test_the_cookie_of_another_server(self, stranger):
        stranger.cookies.set("stm_fast_1", TOKEN)
        assert stranger.get("/api/project").status_code == 403

    @pytest.mark.parametrize(
        "origin",
        ["http://evil.example", "null", f"{LOCAL}.evil.example", "http://127.0.0.1:1", "http://localhost:8765"],
    )
    def test_a_foreign_origin(self, stranger, origin):
        answer = stranger.post("/api/stop", headers={**BEARER, "Origin": origin})
        assert (answer.status_code, answer.json()["error"]) == (403, "the request comes from another page")

    def test_the_own_origin(self, stranger):
        assert stranger.post("/api/stop", headers={**BEARER, "Origin": LOCAL}).status_code == 200

    @pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1.evil.example", ""])
    def test_a_foreign_host(self, stranger, host):
        assert stranger.get("/api/project", headers={**BEARER, "Host": host}).status_code == 403

    @pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:1234", "[::1]:80"])
    def test_hosts_of_this_machine(self, stranger, host):
        """A tunnel may have another port."""
        assert stranger.get("/api/project", headers={**BEARER, "Host": host}).status_code == 200

    def test_any_host_if_one_was_given(self, tab, monkeypatch):
        monkeypatch.setattr(tab.http.app, "_any_host", True)
        stranger = TestClient(tab.http.app, base_url="http://gpu-box:80")
        assert stranger.get("/api/project", headers=BEARER).status_code == 200
        answer = stranger.get("/api/project", headers={**BEARER, "Origin": "http://evil.example"})
        assert answer.status_code == 403


class TestWhatIsAnswered:
    @pytest.mark.parametrize(
        "path",
        [
            "/static/../security.py",
            "/static/..%2fsecurity.py",
            "/static/%2e%2e/security.py",
            "/static/%2e%2e%2fsecurity.py",
            "/static//etc/passwd",
            "/static/..%5csecurity.py",
            "/api/frames/..%2f..%2fproject.json",
            "/api/masks/..%2fproject.json",
            "/api/masks/%2e%2e%2fproject.png",
            "/api/thumbnails/..%2f0.jpg",
            "/api/exports/..%2fproject.json",
            "/api/exports/..",
            "/api/exports/%2e%2e",
            "/api/exports/%00",
            "/../../etc/passwd",
        ],
    )
    def test_paths_out_of_the_project(self, tab, project, path):
        (project / "export").mkdir()
        assert (project / "project.json").exists()
        answer = tab.http.get(path)
        assert answer.status_code in (404, 405)
        assert b"revision" not in answer.content
        assert b"import" not in answer.content

    def test_headers(self, tab):
        for path in ("/api/project", "/api/nothing", "/api/frames/0.jpg"):
            headers = tab.http.get(path).headers
            assert headers["Content-Security-Policy"] == POLICY
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"

    def test_the_page(self, tab, tmp_path):
        (tmp_path / "static").mkdir()
        (tmp_path / "static" / "index.html").write_text("<title>page</title>")
        (tmp_path / "static" / "main.js").write_text("export {}")
        app = make_app(tab.opened, TOKEN, PORT, static=tmp_path / "static")
        page = TestClient(app, base_url=LOCAL, headers=BEARER)
        assert page.get("/").text == "<title>page</title>"
        assert page.get("/static/main.js").headers["content-type"].startswith("text/javascript")


class TestBodies:
    def test_a_body_that_is_too_large(self, tab, monkeypatch):
        monkeypatch.setattr(tab.http.app, "_max_body", 1000)
        for content in (bytes(1001), iter([bytes(600), bytes(600)])):
            answer = tab.send("PUT", "/api/masks/0?objects=1", content=content)
            assert answer.status_code == 413
            assert answer.json() == {"error": "a request may have at most 1000 bytes"}
        assert tab.look()["first_masks"] == []

    @pytest.mark.parametrize(
        "content", [b"", b"no picture", png(np.ones((32, 64)))[:60], png(np.ones((32, 64)))[:-30], b"\x89PNG\r\n\x1a\n"]
    )
    def test_a_bad_png(self, tab, content):
        answer = tab.send("PUT", "/api/masks/0?objects=1", content=content)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("a mask must be a grey PNG of 8 bits, 64×32, got")

    @pytest.mark.parametrize("mask", [np.ones((32, 63)), np.ones((64, 32)), np.ones((32, 64, 3))])
    def test_a_mask_of_another_size_or_kind(self, tab, mask):
        answer = tab.send("PUT", "/api/masks/0?objects=1", content=png(mask))
        assert answer.status_code == 400

    @pytest.mark.parametrize("objects", ["", "0", "255", "-1", "x", "1,,2", "1.5", "٣", "9" * 12])
    def test_ids_that_no_object_has(self, tab, objects):
        answer = tab.send("PUT", f"/api/masks/0?objects={objects}", content=png(np.ones((32, 64))))
        assert answer.status_code == 400
        assert tab.look()["objects"] == []

    @pytest.mark.parametrize("frame", ["6", "999999999", "-1", "1e3", "٣", "9" * 12])
    def test_frames_out_of_range(self, tab, frame):
        for path in (f"/api/frames/{frame}.jpg", f"/api/thumbnails/{frame}.jpg", f"/api/masks/{frame}.png"):
            assert tab.http.get(path).status_code == 404
        assert tab.send("PUT", f"/api/masks/{frame}?objects=1", content=png(np.ones((32, 64)))).status_code == 404
        assert tab.send("DELETE", f"/api/masks/{frame}").status_code == 404

    @pytest.mark.parametrize(
        ("given", "status"),
        [
            ('{"frame": 0, "object": 1, "box": [NaN, 0, 9, 9]}', 400),
            ('{"frame": 0, "object": 1, "box": [0, 0, Infinity, 9]}', 400),
            ('{"frame": 0, "object": 1, "box": [0, 0, 1e999, 9]}', 400),
            ('{"frame": 0, "object": 1, "box": [0, 0, "9", 9]}', 400),
            ('{"frame": 0, "object": 1, "box": [9, 9, 0, 0]}', 400),
            ('{"frame": 0, "object": 1, "box": [0, 0, 65, 9]}', 400),
            ('{"frame": 0, "object": 1, "box": [0, 0, 9]}', 400),
            ('{"frame": 0, "object": 1, "points": [[1, 1]]}', 400),
            ('{"frame": 0, "object": 1, "points": [[true, 1, true]]}', 400),
            ('{"frame": 0, "object": 1, "points": [[NaN, 1, true]]}', 400),
            ('{"frame": 0, "object": 1, "points": [[1, 1, false]]}', 400),
            ('{"frame": 0, "object": 1}', 400),
            ('{"frame": 0, "object": 1, "correct": true, "points": [[1, 1, true]]}', 400),
            ('{"frame": 0, "object": 1, "box": [0, 0, 9, 9], "prompter": "no such"}', 400),
            ('{"frame": 0, "object": 1, "box": [0, 0, 9, 9], "prompter": {}}', 400),
            ('{"frame": 0, "object": 1, "box": [0, 0, 9, 9], "prompter": "\\ud800"}', 400),
            ('{"frame": 0, "object": 0, "box": [0, 0, 9, 9]}', 400),
            ('{"frame": 0, "object": true, "box": [0, 0, 9, 9]}', 400),
            ('{"frame": 6, "object": 1, "box": [0, 0, 9, 9]}', 404),
            ('{"frame": NaN, "object": 1, "box": [0, 0, 9, 9]}', 400),
            ('{"object": 1, "box": [0, 0, 9, 9]}', 400),
            ("[]", 400),
            ("{", 400),
            ("[" * 100_000, 400),
        ],
    )
    def test_bad_hints(self, tab, given, status):
        answer = tab.http.post("/api/hints", content=given)
        assert answer.status_code == status
        assert answer.json()["error"]

    @pytest.mark.parametrize(
        "given",
        [
            {"from": 0, "direction": "sideways"},
            {"from": 0, "count": 0},
            {"from": 0, "count": True},
            {"from": "0"},
            {"from": None},
            {},
        ],
    )
    def test_bad_requests_to_follow(self, tab, given):
        assert tab.send("POST", "/api/follow", json=given).status_code == 400

    @pytest.mark.parametrize(
        "given",
        [
            {"name": ""},
            {"name": "x" * 81},
            {"name": "two\nlines"},
            {"name": 3},
            {"colour": "red"},
            {"colour": "#FF0000"},
            {"visible": 1},
            {"size": 3},
        ],
    )
    def test_bad_objects(self, tab, given):
        assert tab.send("PUT", "/api/objects/1", json=given).status_code == 400
        assert tab.look()["objects"] == []

    def test_half_of_a_character_is_quoted(self, tab):
        """JSON may escape one half of a surrogate pair, which UTF-8 cannot encode."""
        answer = tab.send("PUT", "/api/objects/1", content=r'{"\ud800": 1}')
        assert answer.status_code == 400
        assert r"\ud800" in answer.json()["error"]

    def test_unknown_objects(self, tab):
        assert tab.send("DELETE", "/api/objects/3").status_code == 404
        assert tab.send("PUT", "/api/objects/255", json={"name": "dog"}).status_code == 400
