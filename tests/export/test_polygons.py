"""GeoJSON, YOLO and CVAT: polygons that give the masks back."""

import json
import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest

from stm_fast.export.polygons import single_ring
from stm_fast.media.notices import MediaNotice
from stm_fast.media.outlines import outlines
from tests.export.conftest import EMPTY, GONE, NAMES, SIZE, masks
from tests.rasters import filled, overlap


def test_geojson_is_exact(export):
    document = json.loads(export("geojson", categories={2: "dog"}).read_text())
    assert (document["type"], document["video"]["frames"]) == ("FeatureCollection", len(NAMES))
    rebuilt = np.zeros((len(NAMES), *SIZE), np.uint8)
    for feature in document["features"]:
        about, shape = feature["properties"], feature["geometry"]
        assert NAMES[about["frame_index"]] == about["frame"]
        assert about["category"] == ("dog" if about["object"] == 2 else "object")
        assert shape["type"] == "MultiPolygon"
        polygons = shape["coordinates"]
        assert all(ring[0] == ring[-1] for polygon in polygons for ring in polygon)
        mask = filled([ring[:-1] for polygon in polygons for ring in polygon], SIZE)
        assert about["area"] == mask.sum()
        rebuilt[about["frame_index"]][mask] = about["object"]
        if about["object"] == 1:
            assert [len(polygon) for polygon in polygons] == [2, 1]
    np.testing.assert_array_equal(rebuilt, masks())


def test_geojson_can_be_shorter(export, tmp_path):
    exact, short = (export("geojson", tmp_path / f"{t}.geojson", tolerance=t).stat().st_size for t in (0.0, 0.5))
    assert short < 0.8 * exact


def test_one_ring_holds_parts_and_holes():
    rng = np.random.default_rng(0)
    for _ in range(40):
        mask = np.kron(rng.random(rng.integers(1, 9, 2)) < 0.6, np.ones((2, 3), bool))
        if mask.any():
            np.testing.assert_array_equal(filled([single_ring(outlines(mask))], mask.shape), mask)


def test_yolo_has_a_file_for_each_frame(export, tmp_path):
    folder = export("yolo-seg", categories={2: "dog"}, images=True)
    assert {path.stem for path in (folder / "labels").iterdir()} == set(NAMES)
    assert {path.stem for path in (folder / "images").iterdir()} == set(NAMES)
    assert re.findall(r"^  (\d): (.*)$", (folder / "data.yaml").read_text(), flags=re.M) == [
        ("0", '"dog"'),
        ("1", '"object"'),
    ]
    for index, (name, mask) in enumerate(zip(NAMES, masks(), strict=True)):
        lines = (folder / "labels" / f"{name}.txt").read_text().splitlines()
        assert len(lines) == len(np.unique(mask)) - 1
        for line, object_id in zip(lines, np.unique(mask)[1:].tolist(), strict=True):
            number, *points = line.split()
            assert number == ("0" if object_id == 2 else "1")
            ring = np.array(points, float).reshape(-1, 2)
            assert ring.min() >= 0
            assert ring.max() <= 1
            assert overlap(filled([ring * SIZE[::-1]], SIZE), mask == object_id) > 0.98, (index, object_id)


def tracks(path):
    return {int(track.get("id")): track for track in ElementTree.parse(path).getroot().iter("track")}


def test_cvat_has_a_track_for_each_object(export):
    path = export("cvat-video", categories={2: 'dog & "cat"'})
    root = ElementTree.parse(path).getroot()
    assert root.findtext("version") == "1.1"
    task = root.find("meta/task")
    assert (task.findtext("size"), task.findtext("mode")) == (str(len(NAMES)), "interpolation")
    assert [each.findtext("name") for each in task.iter("label")] == ['dog & "cat"', "object"]
    assert (task.findtext("original_size/width"), task.findtext("original_size/height")) == ("67", "41")
    assert {i: track.get("label") for i, track in tracks(path).items()} == {
        1: "object",
        2: 'dog & "cat"',
        255: "object",
    }
    for object_id, track in tracks(path).items():
        seen = {}
        for polygon in track:
            points = np.array([pair.split(",") for pair in polygon.get("points").split(";")], float)
            if polygon.get("outside") == "0":
                seen[int(polygon.get("frame"))] = filled([points], SIZE)
            assert polygon.get("keyframe") == "1"
        expected = {index: mask == object_id for index, mask in enumerate(masks()) if (mask == object_id).any()}
        assert seen.keys() == expected.keys()
        assert min(overlap(seen[index], expected[index]) for index in seen) > 0.98
        outside = [int(polygon.get("frame")) for polygon in track if polygon.get("outside") == "1"]
        assert outside == {1: [EMPTY], 2: [GONE], 255: [4]}[object_id]


def test_an_object_that_comes_back_is_one_track(export, results):
    from stm_fast.media.masks import write_mask

    write_mask(results / "masks" / f"{NAMES[EMPTY]}.png", masks()[2])
    track = tracks(export("cvat-video"))[2]
    assert [(each.get("frame"), each.get("outside")) for each in track] == [
        ("2", "0"),
        ("3", "0"),
        ("4", "1"),
        ("5", "0"),
    ]


@pytest.mark.parametrize("format_", ["cvat-video", "yolo-seg"])
def test_polygons_that_are_joined_are_told_of(export, format_):
    with pytest.warns(MediaNotice, match="5 of 8 polygons have parts or holes, joined by lines"):
        export(format_)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export(format_, objects=[2], overwrite=True)


@pytest.mark.parametrize("format_", ["cvat-video", "yolo-seg"])
def test_polygons_without_tolerance_are_exact(export, format_, tmp_path):
    path = export(format_, tmp_path / ("x.xml" if format_ == "cvat-video" else "x"), tolerance=0)
    if format_ == "cvat-video":
        points = tracks(path)[1][0].get("points")
        ring = [pair.split(",") for pair in points.split(";")]
    else:
        numbers = np.array((path / "labels" / f"{NAMES[0]}.txt").read_text().split()[1:], float)
        ring = np.rint(numbers.reshape(-1, 2) * SIZE[::-1])
    np.testing.assert_array_equal(filled([np.array(ring, float)], SIZE), masks()[0] == 1)
