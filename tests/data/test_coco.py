"""COCO."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from stm_fast.data.stills import coco
from stm_fast.data.stills.layouts import open_stills
from stm_fast.errors import MediaError, StmFastError
from stm_fast.media.notices import MediaNotice
from tests.data.miniature_stills import COUNT, HEIGHT, WIDTH, make_coco

pytest.importorskip("pycocotools")
pytestmark = pytest.mark.filterwarnings("error::stm_fast.media.notices.MediaNotice")


@pytest.fixture
def root(tmp_path):
    return make_coco(tmp_path)


def change(root, edit) -> None:
    """Edit the annotations."""
    file = root / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def test_masks(root):
    """The larger square is object 1, the smaller one is in front, and the crowd is void beside them."""
    plain = np.zeros((HEIGHT, WIDTH), np.uint8)
    plain[12:42, 24:58] = 1
    plain[6:36, 4:30] = 2
    with_crowd = np.where((plain == 0) & (np.arange(WIDTH) < 20), 255, plain)
    stills = open_stills("coco", root)
    for still, expected in zip(stills, (plain, with_crowd, plain), strict=True):
        np.testing.assert_array_equal(still.read()[1], expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools' own decoding
def test_masks_are_those_of_pycocotools(root):
    from pycocotools.coco import COCO

    original = COCO(root / "annotations/instances_train2017.json")
    for still in open_stills("coco", root):
        annotations = original.loadAnns(
            original.getAnnIds(int(still.name), areaRng=[coco.MIN_AREA, 1e9], iscrowd=False)
        )
        areas = sorted(annotations, key=lambda each: -each["area"])
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        for number, each in enumerate(areas, 1):
            expected[original.annToMask(each) > 0] = number
        mask = still.read()[1]
        np.testing.assert_array_equal(np.where(mask == 255, 0, mask), expected)


def test_compressed_run_lengths(root):
    from pycocotools import mask

    runs = mask.encode(np.asfortranarray(np.tri(HEIGHT, WIDTH, dtype=np.uint8)))
    runs["counts"] = runs["counts"].decode()

    def edit(content):
        content["annotations"][0]["segmentation"] = runs

    change(root, edit)
    assert (open_stills("coco", root)[0].read()[1][40:, :4] == 1).all()


def test_images_without_objects_are_left_out(root):
    assert len(list((root / "train2017").iterdir())) == COUNT + 1
    assert [still.name for still in open_stills("coco", root)] == [f"{number:012}" for number in range(COUNT)]


def test_images_that_are_not_there_are_counted(root):
    (root / "train2017/000000000001.jpg").unlink()
    with pytest.warns(MediaNotice, match=r"lists images with objects that are not in .*train2017 and are left out: 1"):
        assert len(open_stills("coco", root)) == COUNT - 1
    for number in (0, 2):
        (root / f"train2017/{number:012}.jpg").unlink()
    with pytest.raises(MediaError, match=r"train2017 holds none of the images with objects that .*json lists"):
        open_stills("coco", root)


def test_another_size(root):
    Image.new("RGB", (9, 9)).save(root / "train2017/000000000002.jpg")
    with pytest.raises(
        MediaError, match=r"000000000002\.jpg is 9×9 but its mask in .*instances_train2017.json is 64×48"
    ):
        open_stills("coco", root)[2].read()


def test_what_to_download(root):
    with pytest.raises(MediaError) as caught:
        open_stills("coco", root, "val2017")
    assert "val2017.zip" in str(caught.value)
    assert "annotations_trainval2017.zip" in str(caught.value)
    assert "train2017.zip" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"images": [{"id": 1}], "annotations": []}'])
def test_another_file(root, text):
    (root / "annotations/instances_train2017.json").write_text(text)
    with pytest.raises(MediaError, match="lacks the layout of COCO, images and annotations"):
        open_stills("coco", root)


def test_a_shape_that_cannot_be_drawn(root):
    def edit(content):
        content["annotations"][0]["segmentation"] = {"size": [HEIGHT, WIDTH]}

    change(root, edit)
    with pytest.raises(MediaError, match="has a shape of 000000000000 that cannot be drawn"):
        open_stills("coco", root)


def test_without_pycocotools(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(StmFastError, match=r"pip install 'stm-fast\[train\]'"):
        open_stills("coco", root)
