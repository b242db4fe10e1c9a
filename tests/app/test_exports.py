"""Exports: made as jobs, listed and downloaded."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def followed(tab, truth):
    tab.draw(0, truth[0])
    tab.follow()
    return tab


def export(tab, **options):
    answer = tab.send("POST", "/api/export", json=options)
    assert answer.status_code == 200, answer.json()
    return tab.wait()


def test_what_there_is(tab):
    names = {each["name"]: each for each in tab.look()["exports"]}
    assert names["coco"]["takes"] == ["categories", "image_root", "images"]
    assert tab.http.get("/api/exports").json() == []


def test_a_file(followed):
    pytest.importorskip("pycocotools")
    followed.send("PUT", "/api/objects/1", json={"name": "dog"})
    job = export(followed, format="coco")
    assert (job["kind"], job["state"], job["done"], job["total"], job["error"]) == ("export", "done", 6, 6, None)
    (listed,) = followed.http.get("/api/exports").json()
    assert listed["name"] == "instances_default.json"
    answer = followed.http.get("/api/exports/instances_default.json")
    assert len(answer.content) == listed["bytes"]
    assert "attachment" in answer.headers["content-disposition"]
    found = json.loads(answer.content)
    assert len(found["annotations"]) == 12
    assert [each["name"] for each in found["categories"]] == ["dog", "Object 2", "object"]


def test_a_folder_is_a_zip(followed, truth):
    assert export(followed, format="binary-png")["state"] == "done"
    (listed,) = followed.http.get("/api/exports").json()
    assert listed["name"] == "binary.zip"
    archive = zipfile.ZipFile(io.BytesIO(followed.http.get("/api/exports/binary.zip").content))
    assert archive.testzip() is None
    for frame, mask in enumerate(truth):
        found = np.array(Image.open(io.BytesIO(archive.read(f"{frame}.png"))))
        np.testing.assert_array_equal(found > 0, mask > 0)


def test_objects_that_were_deleted_are_left_out(followed):
    followed.send("DELETE", "/api/objects/2")
    assert export(followed, format="object-png")["state"] == "done"
    archive = zipfile.ZipFile(io.BytesIO(followed.http.get("/api/exports/objects.zip").content))
    assert {name.split("/")[0] for name in archive.namelist() if not name.startswith(".")} == {"1"}


def test_all_objects_were_deleted(followed):
    for each in (1, 2):
        followed.send("DELETE", f"/api/objects/{each}")
    assert "there is no object to export" in export(followed, format="object-png")["error"]
    assert followed.http.get("/api/exports").json() == []


def test_an_export_that_fails_says_why(followed):
    assert "--soft" in export(followed, format="soft-png")["error"]


def test_without_masks(tab):
    assert "follow an object first" in export(tab, format="binary-png")["error"]


@pytest.mark.parametrize(
    "options",
    [
        {"format": "nothing"},
        {"format": None},
        {},
        {"format": ["coco"]},
        {"format": "coco", "out": "/tmp/x"},
        {"format": "coco", "images": 1},
        {"format": "geojson", "tolerance": True},
        {"format": "geojson", "tolerance": -1},
        {"format": "coco", "categories": {"x": "dog"}},
        {"format": "coco", "categories": {"0": "dog"}},
        {"format": "coco", "categories": ["dog"]},
        {"format": "coco", "categories": {"1": 2}},
    ],
)
def test_bad_options(tab, options):
    answer = tab.send("POST", "/api/export", json=options)
    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize("name", ["nothing", "..zip", ".zip", "project.json", "binary"])
def test_names_of_nothing(followed, name):
    export(followed, format="binary-png")
    assert followed.http.get(f"/api/exports/{name}").status_code == 404
