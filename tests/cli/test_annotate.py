"""`stm-fast annotate`: it serves a project at an address that it prints, until it is interrupted."""

import http.client
import json
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import SIZE


def test_without_the_extra_it_says_what_to_install(stm, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "stm_fast.app.server", raising=False)
    found = stm("annotate", "video.mp4", "--out", str(tmp_path))
    assert found.exit_code == 1
    assert "annotate needs starlette and uvicorn: pip install 'stm-fast[web]'" in found.output


def test_a_video_that_is_not_there(stm, tmp_path):
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    found = stm("annotate", str(tmp_path / "nothing.mp4"), "--out", str(tmp_path / "out"))
    assert found.exit_code == 2
    assert "does not exist" in found.output
    assert not (tmp_path / "out").exists()


def test_it_serves_until_it_is_interrupted(clip, tmp_path):
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "stm_fast", "annotate", str(clip / "frames"), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        address = urlsplit(server.stdout.readline().strip())
        assert address.hostname == "127.0.0.1"
        talk = http.client.HTTPConnection(address.hostname, address.port)
        talk.request("GET", f"/?{address.query}")
        entered = talk.getresponse()
        entered.read()
        assert entered.status == 303
        cookie = {"Cookie": entered.getheader("Set-Cookie").split(";")[0]}
        talk.request("GET", "/api/project", headers=cookie)
        found = json.loads(talk.getresponse().read())
        assert (found["height"], found["width"]) == SIZE
        events = http.client.HTTPConnection(address.hostname, address.port)
        events.request("GET", "/api/events", headers=cookie)
        assert events.getresponse().readline().startswith(b'data: {"event": "project"')
        server.send_signal(signal.SIGINT)  # with a tab that listens
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out) == (0, "")
    assert "All that was drawn and found is in" in err
    assert "Traceback" not in err
    logged = (tmp_path / "out" / "log.txt").read_text()
    assert "All that was drawn and found is in" in logged
    assert "token" not in logged
