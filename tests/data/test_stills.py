"""Image datasets: the layouts that are published, and files that are unusual."""

import shutil

import numpy as np
import pytest
from PIL import Image

from stm_fast.data.stills.layouts import STILL_LAYOUTS, open_stills
from stm_fast.data.stills.still import StillFiles, StillSet, read_ids, read_salient
from stm_fast.errors import ArgumentError, MediaError
from stm_fast.media.notices import MediaNotice
from tests.data.miniature_stills import HEIGHT, MAKERS, WIDTH, drawn, make_duts, make_pairs, make_stcn_static, save

pytestmark = pytest.mark.filterwarnings("error::stm_fast.media.notices.MediaNotice")

TURN = 274


@pytest.mark.parametrize(
    ("layout", "subset", "title", "first", "count"),
    [
        ("pairs", None, None, "0", 3),
        ("duts", None, "DUTS DUTS-TR, DUTS-TE", "ILSVRC2012_test_00000000", 6),
        ("duts", "DUTS-TE", "DUTS DUTS-TE", "sun_aaa0", 3),
        ("ecssd", None, "ECSSD", "0001", 3),
        ("fss1000", None, "FSS-1000", "ab_wheel/1", 4),
        ("hrsod", None, "HRSOD HRSOD_train, HRSOD_test", "00000", 6),
        ("big", "test", "BIG test", "flickr_0", 3),
        ("msra10k", None, "MSRA10K", "0", 3),
        ("pascal-s", None, "PASCAL-S", "1", 3),
        ("coco", None, "COCO train2017", "000000000000", 3),
    ],
)
def test_published_layouts(tmp_path, layout, subset, title, first, count):
    stills = open_stills(layout, MAKERS[layout](tmp_path), subset)
    assert (stills.name, len(stills), stills[0].name) == (title or tmp_path.name, count, first)
    for still in stills:
        frame, mask = still.read()
        assert (frame.shape, frame.dtype, mask.shape, mask.dtype) == (
            (HEIGHT, WIDTH, 3),
            np.uint8,
            (HEIGHT, WIDTH),
            np.uint8,
        )
        assert set(np.unique(mask)) - {2, 255} == {0, 1}


def test_every_layout_has_a_miniature_and_says_what_it_needs(tmp_path):
    assert MAKERS.keys() == STILL_LAYOUTS.keys()
    for name, layout in STILL_LAYOUTS.items():
        with pytest.raises(MediaError, match="is not a folder") as caught:
            layout.open(tmp_path / "nothing")
        assert str(caught.value).count(str(tmp_path)) == 1 + len(layout.needed(tmp_path).splitlines()[1:])
        assert (name == "pairs") == (layout.needed(tmp_path) == "")


@pytest.mark.parametrize(
    ("layout", "subset", "below", "count"),
    [
        ("ecssd", None, "", 3),
        ("ecssd", None, "ecssd", 3),
        ("duts", None, "", 6),
        ("fss1000", None, "", 3),
        ("fss1000", None, "fss", 3),
        ("hrsod", "HRSOD_small", "", 3),
        ("big", "BIG_small", "BIG_small", 3),
    ],
)
def test_the_folder_of_stcn(tmp_path, layout, subset, below, count):
    assert len(open_stills(layout, make_stcn_static(tmp_path) / below, subset)) == count


def test_pairs_of_any_depth(tmp_path):
    make_stcn_static(tmp_path)
    with pytest.warns(MediaNotice, match="soft edges"):
        stills = open_stills("pairs", tmp_path)
    assert len(stills) == 18
    assert stills[len(stills) - 1].name == "fss/abacus/3"
    with pytest.warns(MediaNotice, match="soft edges"):
        assert [still.name for still in open_stills("pairs", tmp_path, "HRSOD_small")] == ["1", "2", "3"]


def test_links_to_folders_are_followed_and_hidden_files_are_not(tmp_path):
    make_pairs(tmp_path / "elsewhere")
    (tmp_path / "root").mkdir()
    for name in ("images", "masks"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "elsewhere" / name)
    for file in ("images/._0.jpg", "masks/._0.png", "images/Thumbs.db"):
        (tmp_path / "elsewhere" / file).write_bytes(b"")
    assert len(open_stills("pairs", tmp_path / "root")) == 3


def test_what_is_missing_is_told_at_once(tmp_path):
    shutil.rmtree(make_duts(tmp_path) / "DUTS-TE/DUTS-TE-Mask")
    with pytest.raises(MediaError) as caught:
        open_stills("duts", tmp_path)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path} lacks DUTS-TE of DUTS: duts needs SET/SET-Image/NAME.jpg")
    assert rest == [
        "DUTS is at http://saliencydetection.net/duts; download",
        f"  DUTS-TE.zip: its folder DUTS-TE goes into {tmp_path}",
    ]
    assert len(open_stills("duts", tmp_path, "DUTS-TR")) == 3
    shutil.rmtree(tmp_path / "DUTS-TR")
    with pytest.raises(MediaError, match=r"lacks DUTS-TR, DUTS-TE of(.|\n)*DUTS-TR.zip(.|\n)*DUTS-TE.zip"):
        open_stills("duts", tmp_path)


def test_files_of_no_pair_are_counted(tmp_path):
    make_duts(tmp_path)
    (tmp_path / "DUTS-TR/DUTS-TR-Image/ILSVRC2012_test_00000000.jpg").unlink()
    for number in (1, 2):
        (tmp_path / f"DUTS-TE/DUTS-TE-Mask/sun_aaa{number}.png").unlink()
    with pytest.warns(
        MediaNotice, match=r"without a mask \(2\) and masks without an image \(1\); pairs that remain: 3"
    ):
        stills = open_stills("duts", tmp_path)
    assert [still.name for still in stills][-1] == "sun_aaa0"


def test_two_images_of_one_mask(tmp_path):
    shutil.copy(make_pairs(tmp_path) / "images/0.jpg", tmp_path / "images/0.jpeg")
    with pytest.raises(MediaError, match=r"0\.jpe?g and 0\.jpe?g in .*images belong to the same pair"):
        open_stills("pairs", tmp_path)


def test_unknown_names(tmp_path):
    with pytest.raises(ArgumentError, match=r"layout must be one of pairs, duts, .*, got 'dut'"):
        open_stills("dut", tmp_path)
    with pytest.raises(ArgumentError, match="set must be one of DUTS-TR, DUTS-TE for DUTS, got 'train'"):
        open_stills("duts", tmp_path, "train")
    with pytest.raises(MediaError, match=r"holds no image with a mask of its name: pairs needs images/NAME.jpg"):
        open_stills("pairs", tmp_path)


def test_the_first_still_is_read_when_a_set_is_opened(tmp_path):
    save(make_duts(tmp_path) / "DUTS-TR/DUTS-TR-Mask/ILSVRC2012_test_00000000.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(MediaError, match=r"00\.jpg is 64×48 but its mask .*00\.png is 9×9"):
        open_stills("duts", tmp_path)


def test_sizes_that_differ_are_an_error_when_read(tmp_path):
    save(make_pairs(tmp_path) / "masks/2.png", np.ones((WIDTH, HEIGHT), np.uint8))
    stills = open_stills("pairs", tmp_path)
    with pytest.raises(MediaError, match=r"2\.jpg is 64×48 but its mask .*2\.png is 48×64: an image and its mask"):
        stills[2].read()


def still(
    tmp_path, frame: Image.Image, mask: Image.Image, read_mask=read_salient, suffix="jpg", **options
) -> StillFiles:
    frame.save(tmp_path / f"image.{suffix}", **options)
    mask.save(tmp_path / "mask.png")
    return StillFiles("0", tmp_path / f"image.{suffix}", tmp_path / "mask.png", read_mask)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P"])
def test_grey_cmyk_and_palette_images(tmp_path, mode):
    frame, _, soft = drawn(0)
    stored = Image.fromarray(frame).convert(mode)
    suffix = "png" if mode == "P" else "jpg"
    read, _ = still(tmp_path, stored, Image.fromarray(soft), suffix=suffix).read()
    assert (read.shape, read.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert np.abs(read.astype(int) - np.asarray(stored.convert("RGB"))).mean() < 8


def test_an_image_is_turned_by_its_orientation(tmp_path):
    frame, _, soft = drawn(0)
    exif = Image.Exif()
    exif[TURN] = 6  # the camera was turned: shown upright, the first row is on the right
    turned = still(tmp_path, Image.fromarray(np.rot90(frame)), Image.fromarray(soft), suffix="png", exif=exif)
    read, mask = turned.read()
    np.testing.assert_array_equal(read, frame)
    np.testing.assert_array_equal(mask, soft > 127)


def test_a_mask_drawn_on_the_stored_pixels_gets_these(tmp_path):
    frame, _, soft = drawn(0)
    exif = Image.Exif()
    exif[TURN] = 6
    read, mask = still(tmp_path, Image.fromarray(frame), Image.fromarray(soft), suffix="png", exif=exif).read()
    np.testing.assert_array_equal(read, frame)
    np.testing.assert_array_equal(mask, soft > 127)


SALIENT = np.array([[0, 127, 128], [255, 90, 254]], np.uint8)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (SALIENT, SALIENT > 127),
        (np.dstack([SALIENT] * 3), SALIENT > 127),
        (SALIENT.astype(np.uint16) * 257, SALIENT > 127),
        (SALIENT > 127, SALIENT > 127),
        ((SALIENT > 127).astype(np.uint8), SALIENT > 127),
        (np.zeros_like(SALIENT), np.zeros(SALIENT.shape, bool)),
    ],
    ids=["grey", "colour", "16 bits", "1 bit", "0 and 1", "empty"],
)
def test_salient_masks_are_cut_at_one_half(tmp_path, pixels, expected):
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_salient(tmp_path / "mask.png"), expected)


def test_every_id_of_a_palette_is_the_salient_object(tmp_path):
    make_pairs(tmp_path)
    ids = read_ids(tmp_path / "masks/0.png")
    assert set(np.unique(ids)) == {0, 1, 2}
    np.testing.assert_array_equal(read_salient(tmp_path / "masks/0.png"), ids > 0)


def test_white_is_void_beside_ids_and_an_object_alone(tmp_path):
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[4:20, 4:20] = 255
    save(tmp_path / "white.png", ids)
    assert set(np.unique(read_ids(tmp_path / "white.png"))) == {0, 1}
    ids[30:40] = 1
    save(tmp_path / "void.png", ids)
    assert set(np.unique(read_ids(tmp_path / "void.png"))) == {0, 1, 255}


def test_a_set_is_a_sequence_of_stills():
    stills = StillSet("two", ["a", "b"])
    assert (len(stills), stills[1], list(stills)) == (2, "b", ["a", "b"])
