"""Chromium, a small clip, and `stm-fast annotate` in a process of its own, as its users run it."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.app.page.screen import Screen

sync_api = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright")

SIZE = (160, 90)
FRAMES = 40
PATIENCE_MS = 1000 * float(os.environ.get("STM_FAST_PATIENCE", "60"))
"""How long to wait for what the page is to show; more on a machine that others use."""
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


class Server:
    """A server of a project, and the address that it prints."""

    def __init__(self, clip: Path, out: Path, port: int = 0) -> None:
        command = [sys.executable, "-m", "stm_fast", "annotate", str(clip), "--out", str(out), "--port", str(port)]
        self.log = out.with_suffix(".log")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=out.parent, stdout=subprocess.PIPE, stderr=log, text=True)
        self.address = self._address()
        self.root, self.token = self.address.split("?token=")
        self.port = int(self.root.rstrip("/").rpartition(":")[2])

    def _address(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"http://\S+", line):
                return found[0]
        raise AssertionError(self.log.read_text())

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        """Return status and body of the answer to a request that has the token."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request(method, path, headers={"Authorization": f"Bearer {self.token}"} | headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def clear(self) -> None:
        """Take back all that was drawn."""
        project = json.loads(self.ask("GET", "/api/project")[1])
        frames = [*project["first_masks"], *project["corrections"]]
        paths = [f"/api/masks/{frame}" for frame in frames] + [
            f"/api/objects/{each['id']}" for each in project["objects"]
        ]
        for path in paths:
            revision = json.loads(self.ask("GET", "/api/project")[1])["revision"]
            status, body = self.ask("DELETE", path, **{"If-Match": str(revision)})
            assert status == 200, body

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def chromium() -> "Iterator[sync_api.Browser]":
    """Yield the browser.

    Raises:
        FileNotFoundError: it is not installed.
    """
    paths = [os.environ.get("STM_FAST_CHROMIUM"), *(shutil.which(name) for name in CHROMIUM)]
    path = next((path for path in paths if path), None)
    if path is None:
        raise FileNotFoundError("the page needs chromium: apt-get install chromium, or name it in STM_FAST_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox refuses the superuser, who runs the tests in containers.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def browser() -> "Iterator[sync_api.Browser]":
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's clip at a third of its size: the cat and the cup."""
    pytest.importorskip("skimage", reason="the demo's clip needs scikit-image")
    from stm_fast.data import demo_clip

    folder = tmp_path_factory.mktemp("clip")
    for index, frame in enumerate(demo_clip.render()):
        Image.fromarray(frame.image).resize(SIZE, Image.Resampling.BOX).save(folder / f"{index:05d}.png")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "project"


@pytest.fixture
def servers(clip: Path, out: Path) -> Iterator[list[Server]]:
    """The servers that a test has started on a project of its own; it appends others."""
    started = [Server(clip, out)]
    yield started
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def standing(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(clip, tmp_path_factory.mktemp("standing") / "project")
    yield server
    server.kill()


@pytest.fixture
def server(standing: Server) -> Server:
    """A server whose project is empty, which tests that do not end it share."""
    standing.clear()
    return standing


@pytest.fixture
def context(browser: "sync_api.Browser") -> Iterator["sync_api.BrowserContext"]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)
    sync_api.expect.set_options(timeout=PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def screen(context: "sync_api.BrowserContext", server: Server) -> Screen:
    return Screen.opened(context, server.address)
