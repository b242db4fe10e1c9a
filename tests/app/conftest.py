"""A project over a small clip that an STM follows without a fault, and tabs that talk to its server."""

import io
import json
import time
from contextlib import contextmanager
from fractions import Fraction
from importlib.util import find_spec

import av
import numpy as np
import pytest
from PIL import Image

from stm_fast.media.masks import write_mask
from tests.colours import ids, model, paint

__all__ = ["ids", "model", "paint"]

if all(find_spec(package) for package in ("starlette", "uvicorn", "httpx2")):
    from starlette.testclient import TestClient

    from stm_fast.app.open_project import open_project
    from stm_fast.app.server import make_app
else:  # the extra web, and what starlette's test client needs
    modules = ("events", "exports", "following", "pictures", "project", "security")
    collect_ignore = [f"test_{module}.py" for module in modules]

TOKEN, PORT = "secret", 8765
LOCAL = f"http://127.0.0.1:{PORT}"
ROWS = [("r..g", "...."), (".r.g", "...."), ("..rg", "...."), ("..gr", "...."), (".g.r", "...."), ("g..r", "....")]
TRUE = [("1002", "0000"), ("0102", "0000"), ("0012", "0000"), ("0021", "0000"), ("0201", "0000"), ("2001", "0000")]


def png(mask):
    file = io.BytesIO()
    Image.fromarray(np.asarray(mask, np.uint8)).save(file, format="PNG")
    return file.getvalue()


def pixels(answer):
    image = Image.open(io.BytesIO(answer.content))
    assert image.mode == "L"
    return np.array(image)


class Tab:
    """A tab of the page: a client that remembers the revision that it saw last."""

    def __init__(self, opened, app):
        self.opened = opened
        self.http = TestClient(app, base_url=LOCAL, headers={"Authorization": f"Bearer {TOKEN}"})
        self.look()

    def look(self):
        found = self.http.get("/api/project").json()
        self.revision = found["revision"]
        return found

    def send(self, method, path, **how):
        answer = self.http.request(method, path, headers={"If-Match": str(self.revision)}, **how)
        if "X-Revision" in answer.headers:
            self.revision = int(answer.headers["X-Revision"])
        return answer

    def draw(self, frame, mask, *objects):
        found = objects or [each for each in np.unique(mask) if each]
        return self.send("PUT", f"/api/masks/{frame}?objects={','.join(map(str, found))}", content=png(mask))

    def mask(self, frame):
        answer = self.http.get(f"/api/masks/{frame}.png")
        return None if answer.status_code == 204 else pixels(answer)

    def wait(self):
        """Wait for the job to end."""
        until = time.monotonic() + 60
        while (job := self.look()["job"])["state"] in ("running", "stopping"):
            assert time.monotonic() < until
            time.sleep(0.01)
        return job

    def follow(self, begin=0, direction="forward", count=None):
        answer = self.send("POST", "/api/follow", json={"from": begin, "direction": direction, "count": count})
        assert answer.status_code == 200, answer.json()
        return self.wait()


@pytest.fixture
def truth(ids):
    return [ids(*rows).astype(np.uint8) for rows in TRUE]


@pytest.fixture
def clip(tmp_path, paint):
    """A clip as files, `frames/0.png` and so on."""
    (tmp_path / "frames").mkdir()
    for index, rows in enumerate(ROWS):
        Image.fromarray(paint(*rows)).save(tmp_path / "frames" / f"{index}.png")
    return tmp_path / "frames"


@pytest.fixture
def project(tmp_path):
    return tmp_path / "project"


@pytest.fixture
def opened(clip, project, model):
    """(video, project) -> a tab of a server of them, as a context manager."""

    @contextmanager
    def open_one(video=clip, root=project, **options):
        with (
            open_project(video, root, network=options.pop("network", model), **options) as opened,
            TestClient(app := make_app(opened, TOKEN, PORT)),
        ):
            yield Tab(opened, app)

    return open_one


@pytest.fixture
def tab(opened):
    with opened() as found:
        yield found


def long_video(path, frames, size=(48, 64), period=100):
    """Write a video of greys, by number modulo the period: one period is encoded, and its packets are repeated."""
    packets = []
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25, options={"g": "25", "qscale": "2"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for number in range(period):
            grey = np.full((*size, 3), 16 + 2 * number, np.uint8)
            packets += stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24"))
        packets += stream.encode()
        contents = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for number in range(frames):
            content, is_keyframe = contents[number % period]
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = is_keyframe
            output.mux(packet)


def first_masks(folder, **masks):
    for name, mask in masks.items():
        write_mask(folder / f"{name.removeprefix('n')}.png", mask)
    return folder


def noted(folder):
    return json.loads((folder / "summary.json").read_text())
