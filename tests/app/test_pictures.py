"""Frames and thumbnails: those of the video, and quick the second time."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from stm_fast.app import pictures
from tests.app.conftest import png


def picture(answer):
    assert answer.headers["content-type"] == "image/jpeg"
    return np.array(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)


def video_of(path, grey):
    """Write a lossless video of five grey frames."""
    path.parent.mkdir()
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


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
    assert (project / ".thumbnails" / tab.look()["source"] / "2.jpg").read_bytes() == first.content


def test_another_video_of_the_same_name_size_and_length_has_pictures_of_its_own(opened, project, tmp_path):
    """As a browser asks for them that has those of the first one."""
    paths = [f"/api/{kind}/2.jpg" for kind in ("frames", "thumbnails")] + ["/api/masks/2.png"]
    videos = [video_of(tmp_path / name / "clip.mkv", grey) for name, grey in (("one", 40), ("two", 200))]
    (project / ".thumbnails").mkdir(parents=True)
    (project / ".thumbnails" / "2.jpg").write_bytes(b"of any video, by an earlier version")
    with opened(videos[0]) as tab:
        first = tab.look()
        answers = {path: tab.http.get(path) for path in paths}
        assert [round(picture(answers[path]).mean()) for path in paths[:2]] == [pytest.approx(40, abs=3)] * 2
    with opened(videos[1]) as tab:
        second = tab.look()
        assert [path.name for path in (project / ".thumbnails").iterdir()] == []
        assert first["source"] != second["source"]
        same = ("video", "frames", "width", "height")
        assert [first[name] for name in same] == [second[name] for name in same]
        for path in paths:
            answer = tab.http.get(path, headers={"If-None-Match": answers[path].headers["ETag"]})
            assert answer.status_code != 304
            assert answer.headers["ETag"] != answers[path].headers["ETag"]
            if path.endswith(".jpg"):
                assert round(picture(answer).mean()) == pytest.approx(200, abs=3)


def test_a_tab_of_another_video_neither_gets_nor_changes_anything(tab, truth):
    tab.draw(0, truth[0])
    mine, other = f"of={tab.look()['source']}", "of=0123456789abcdef"
    requests = [
        ("GET", "/api/project?", {}),
        ("GET", "/api/events?", {}),
        ("GET", "/api/frames/0.jpg?", {}),
        ("PUT", "/api/masks/1?objects=1&", {"content": png(truth[1])}),
    ]
    for method, path, how in requests:
        answer = tab.send(method, path + other, **how)
        assert answer.status_code == 403, path
        assert "another video now" in answer.json()["error"]
        assert "max-age" not in answer.headers["Cache-Control"]
    assert tab.mask(1) is None
    assert tab.send("PUT", f"/api/masks/1?objects=1&{mine}", content=png(truth[1])).status_code == 200


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
