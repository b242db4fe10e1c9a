"""COCO and YouTube-VIS: run lengths that give the masks back bit for bit."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stm_fast.export.result import MaskedFrame
from tests.export.conftest import EMPTY, GONE, NAMES, SIZE, masks

coder = pytest.importorskip("pycocotools.mask")


def decoded(segmentation):
    return coder.decode(segmentation).astype(bool)


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 3)))
def test_masks_come_back_bit_for_bit(ids):
    from stm_fast.export.masks import RunLengths

    objects = tuple(int(i) for i in np.unique(ids) if i)
    for object_id in objects:
        found = RunLengths().of(MaskedFrame(0, "0", ids, objects), object_id)
        segmentation = json.loads(json.dumps(found.segmentation))
        np.testing.assert_array_equal(decoded(segmentation), ids == object_id)
        assert coder.area(segmentation) == found.area
        assert coder.toBbox(segmentation).tolist() == list(found.box)


def test_coco_holds_every_mask(export, results):
    path = export("coco")
    assert path == results / "export" / "instances_default.json"
    document = json.loads(path.read_text())
    assert [each["file_name"] for each in document["images"]] == [f"{name}.png" for name in NAMES]
    assert {(each["height"], each["width"]) for each in document["images"]} == {SIZE}
    images = {each["id"]: index for index, each in enumerate(document["images"])}
    rebuilt = np.zeros((len(NAMES), *SIZE), np.uint8)
    for each in document["annotations"]:
        mask = decoded(each["segmentation"])
        assert each["area"] == mask.sum() > 0
        assert each["iscrowd"] == 0
        rebuilt[images[each["image_id"]]][mask] = each["track_id"]
    np.testing.assert_array_equal(rebuilt, masks())
    assert len({each["id"] for each in document["annotations"]}) == len(document["annotations"])
    assert not [each for each in document["annotations"] if images[each["image_id"]] == EMPTY]
    assert [each["name"] for each in document["categories"]] == ["object"]


def test_pycocotools_reads_the_file(export):
    from pycocotools.coco import COCO

    dataset = COCO(str(export("coco", categories={2: "dog", 1: "cat", 255: "dog"})))
    assert {each["name"] for each in dataset.loadCats(dataset.getCatIds())} == {"cat", "dog", "object"}
    (late,) = dataset.getCatIds(catNms=["dog"])
    found = dataset.loadAnns(dataset.getAnnIds(imgIds=[4], catIds=[late]))
    assert [each["track_id"] for each in found] == [2, 255]
    np.testing.assert_array_equal(dataset.annToMask(found[0]), masks()[3] == 2)


def test_ytvis_groups_by_object(export):
    document = json.loads(export("ytvis", categories={2: "dog"}).read_text())
    (video,) = document["videos"]
    assert (video["length"], video["file_names"][2]) == (6, "frames/bild 10 ü.png")
    numbers = {each["name"]: each["id"] for each in document["categories"]}
    assert [each["track_id"] for each in document["annotations"]] == [1, 2, 255]
    assert [each["category_id"] for each in document["annotations"]] == [
        numbers[name] for name in ("object", "dog", "object")
    ]
    for each in document["annotations"]:
        columns = each["segmentations"], each["bboxes"], each["areas"]
        assert [len(column) for column in columns] == [len(NAMES)] * 3
        for mask, segmentation, box, area in zip(masks(), *columns, strict=True):
            own = mask == each["track_id"]
            if not own.any():
                assert (segmentation, box, area) == (None, None, None)
                continue
            np.testing.assert_array_equal(decoded(segmentation), own)
            assert (box, area) == (coder.toBbox(segmentation).tolist(), own.sum())
    late = document["annotations"][1]["areas"]
    assert [area is None for area in late] == [True, True, False, False, True, True]
    assert late[GONE] is None


def test_images_are_copied_beside_the_annotations(export, tmp_path):
    folder = export("coco", tmp_path / "set", images=True)
    document = json.loads((folder / "annotations" / "instances_default.json").read_text())
    for each in document["images"]:
        copied = folder / "images" / "default" / each["file_name"]
        assert copied.read_bytes() == (tmp_path / "frames" / each["file_name"]).read_bytes()


def test_images_have_a_root(export):
    for name, key in (("coco", "images"), ("ytvis", "videos")):
        (first, *_) = json.loads(export(name, image_root="s3://clips/").read_text())[key]
        names = first.get("file_names", [first.get("file_name")])
        assert names[0] == "s3://clips/bild 1 ü.png"


def test_a_missing_package_is_named(export, monkeypatch):
    import sys

    from stm_fast.errors import StmFastError

    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(StmFastError, match=r"pip install 'stm-fast\[export\]'"):
        export("coco")
    assert export("geojson").is_file()
