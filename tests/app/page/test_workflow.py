"""From nothing to an export, with mouse and keys, and again after the server was killed."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from tests.app.page.conftest import FRAMES, Server, sync_api
from tests.app.page.screen import Screen

pytestmark = pytest.mark.page

CAT_BOX = (40, 23), (104, 74)
ON_THE_CAT, BESIDE_IT = (72, 50), (20, 45)
LATER_CAT = (90, 50)


def jaccard(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.fixture(scope="module")
def truth() -> list[np.ndarray]:
    """Where the cat is, by frame, at the size of the clip."""
    pytest.importorskip("skimage", reason="the demo's clip needs scikit-image")
    from stm_fast.data import demo_clip

    return [frame.mask[1::3, 1::3] == demo_clip.CAT for frame in demo_clip.render()]


def exported(screen: Screen, folder: Path) -> dict:
    """Export COCO by the dialogue, download the file, and read it."""
    screen.press("x")
    screen.at("#export-format").select_option("coco")
    screen.at("#export-go").click()
    screen.sees("#export-state", "Done. The file is below.")
    with screen.page.expect_download() as download:
        screen.at("#export-files a").first.click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    screen.press("Escape")
    return json.loads(path.read_text())


def test_an_object_is_shown_followed_corrected_and_exported(
    servers: list[Server], context: "sync_api.BrowserContext", clip: Path, out: Path, truth: list
) -> None:
    screen = Screen.opened(context, servers[0].address)
    screen.sees("#guide", "Draw a box around the first object, or paint it.")
    screen.drag(*CAT_BOX)
    boxed = screen.mask(0) == 1
    assert jaccard(boxed, truth[0]) > 0.7
    screen.press("p")
    screen.click(ON_THE_CAT)
    screen.click(BESIDE_IT, button="right")
    shown = screen.mask(0) == 1
    assert jaccard(shown, truth[0]) > 0.7
    assert shown[ON_THE_CAT[::-1]]
    assert not shown[BESIDE_IT[::-1]]

    screen.follow(30)
    project = screen.fetch("/api/project")
    assert project["first_masks"] == [0]
    assert 30 <= project["done"] <= 31
    assert jaccard(screen.mask(25) == 1, truth[25]) > 0.7

    screen.go(20)
    screen.press("b")
    before = screen.mask(20)
    screen.drag((10, 10), (30, 10))
    after = screen.mask(20)
    assert (after[10, 12:29] == 1).all()
    assert (before[10, 12:29] == 0).all()
    screen.press("Control+z")
    screen.settle()
    assert (screen.mask(20) == before).all()
    screen.press("Control+Shift+z")
    screen.settle()
    assert (screen.mask(20) == after).all()
    assert list(screen.fetch("/api/project")["corrections"]) == ["20"]
    screen.follow(5)
    assert (screen.mask(20) == after).all()

    servers[0].kill()
    servers.append(Server(clip, out))
    screen = Screen.opened(context, servers[-1].address)
    assert (screen.mask(20) == after).all()
    assert (screen.mask(0) == 1)[ON_THE_CAT[::-1]]
    screen.go(20)
    screen.follow(FRAMES)
    assert screen.fetch("/api/project")["done"] == FRAMES

    coco = exported(screen, out.parent)
    assert len(coco["images"]) == FRAMES
    (annotation,) = [each for each in coco["annotations"] if each["image_id"] == coco["images"][20]["id"]]
    assert (run_lengths.decode(annotation["segmentation"]) == (after == 1)).all()
    assert not screen.errors


def test_what_is_drawn_while_the_server_is_away_is_saved_when_it_is_back(
    servers: list[Server], context: "sync_api.BrowserContext", clip: Path, out: Path
) -> None:
    screen = Screen.opened(context, servers[0].address)
    screen.press("b")
    screen.drag((50, 50), (60, 50))
    assert (screen.mask(0)[50, 51:60] == 1).all()
    servers[0].kill()
    screen.press("e")
    screen.page.mouse.click(*screen.place((55, 50)))
    screen.sees("#saved", "Not saved")
    servers.append(Server(clip, out, port=servers[0].port))
    other = Screen.opened(context, servers[-1].address)
    screen.sees("#saved", "All saved")
    assert other.mask(0)[50, 55] == 0
    assert other.mask(0)[50, 51] == 1
    assert not screen.errors
