"""Frames and thumbnails: those of the video, and quick the second time."""

import io

import numpy as np
import pytest
from PIL import Image

from stm_fast.app import pictures


def picture(answer):
    assert answer.headers["content-type"] == "image/jpeg"
    return np.array(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)


def test_frames_are_those_of_the_video(tab, clip):
    for number in (3, 0, 5):
        answer = tab.http.get(f"/api/frames/{number}.jpg")
        assert answer.headers["Cache-Control"].startswith("private, max-age=")
        original = np.array(Image.open(clip / f"{number}.png").convert("RGB")).astype(int)
        assert np.abs(picture(answer) - original).mean() < 8
        same = tab.http.get(f"/api/frames/{number}.jpg", headers={"If-None-Match": answer.headers["ETag"]})
        assert (same.status_code, same.content) == (304, b"")


def test_thumbnails_are_small_and_stay_on_disk(tab, project, clip):
    first = tab.http.get("/api/thumbnails/2.jpg")
    assert picture(first).shape == (96, 192, 3)
    (clip / "2.png").unlink()
    assert tab.http.get("/api/thumbnails/2.jpg").content == first.content
    assert (project / ".thumbnails" / "2.jpg").read_bytes() == first.content


def test_a_frame_that_cannot_be_read_is_told_of(tab, clip):
    (clip / "3.png").write_bytes(b"")
    answer = tab.http.get("/api/frames/3.jpg")
    assert answer.status_code == 400
    assert "3.png" in answer.json()["error"]


def test_the_cache_is_bounded(tab, monkeypatch):
    found = tab.opened.pictures
    monkeypatch.setattr(pictures, "MAX_BYTES", len(found.frame(0)) * 5 // 2)
    for number in range(6):
        found.frame(number)
    assert list(found._cache) == [4, 5]
    assert found._held == sum(map(len, found._cache.values()))


def test_hints_become_a_mask(tab, clip):
    pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (96, 128, 3)).astype(np.uint8)
    image[20:60, 30:80] = rng.integers(180, 255, (40, 50, 3))
    tab.opened.pictures.image = lambda number: image
    hints = {"frame": 0, "object": 1, "box": [26, 16, 84, 64], "points": [], "prompter": "grabcut"}
    answer = tab.http.post("/api/hints", json=hints)
    assert answer.status_code == 200
    found = np.array(Image.open(io.BytesIO(answer.content)))
    truth = np.zeros((96, 128), bool)
    truth[20:60, 30:80] = True
    assert set(np.unique(found)) == {0, 1}
    assert (truth & (found > 0)).sum() / (truth | (found > 0)).sum() > 0.9
    pointed = tab.http.post("/api/hints", json={**hints, "points": [[100.7, 80.2, False], [50, 40, True]]})
    assert pointed.status_code == 200
    assert tab.look()["first_masks"] == []


def test_a_disk_that_is_full_is_told_of(tab, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(pictures, "atomic_path", full)
    answer = tab.http.get("/api/thumbnails/0.jpg")
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("No space left on device: ")
