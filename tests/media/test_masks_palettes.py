"""Palette masks: of DAVIS and VOC, of other tools, and those that an image editor made for the picture alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stm_fast.media.mask_palettes import ids_of_palette
from stm_fast.media.masks import DAVIS_PALETTE, read_mask, write_mask
from stm_fast.media.notices import MediaNotice

DATA = Path(__file__).parent / "data"
BLACK, RED, GREEN, BLUE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)
YOUTUBE_VOS = [BLACK, (236, 95, 103), (249, 145, 87), (250, 200, 99), (153, 199, 148)]

pytestmark = pytest.mark.filterwarnings("error::stm_fast.media.notices.MediaNotice")


@pytest.fixture
def indexed(tmp_path):
    """(indices, colours of the palette, **options) -> a palette image file."""

    def save(indices, colours, name="mask.png", **options):
        image = Image.fromarray(np.asarray(indices, np.uint8), "P")
        image.putpalette(np.array(colours, np.uint8).tobytes())
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def painted(mask, *colours):
    return Image.fromarray(np.array([BLACK, *colours], np.uint8)[mask])


def test_background_is_what_is_black_where_index_0_is_not(discs):
    """`Image.quantize(3)` puts green at index 0, red at 1 and black at 2."""
    with pytest.warns(MediaNotice, match=r"\(255, 0, 0\) is object 1, \(0, 255, 0\) is object 2"):
        mask = read_mask(DATA / "mask_palette_without_order.png")
    np.testing.assert_array_equal(mask, discs)


@pytest.mark.parametrize("method", [0, 1, 2])
@pytest.mark.parametrize("colours", [3, 256])
def test_any_order_of_a_palette_gives_what_rgb_gives(tmp_path, discs, method, colours):
    picture = painted(discs, RED, GREEN)
    picture.save(tmp_path / "rgb.png")
    picture.quantize(colours, method=method).save(tmp_path / "palette.png")
    with pytest.warns(MediaNotice, match=r"\(255, 0, 0\) is object 1, \(0, 255, 0\) is object 2"):
        masks = [read_mask(tmp_path / f"{name}.png") for name in ("palette", "rgb")]
    np.testing.assert_array_equal(masks, [discs, discs])


@pytest.mark.parametrize("suffix", [".gif", ".bmp", ".tif", ".webp"])
def test_other_formats(tmp_path, discs, suffix):
    picture = painted(discs, RED, GREEN)
    (picture if suffix == ".webp" else picture.quantize(4)).save(tmp_path / f"mask{suffix}", lossless=True)
    with pytest.warns(MediaNotice, match="has colours outside the DAVIS palette"):
        mask = read_mask(tmp_path / f"mask{suffix}")
    np.testing.assert_array_equal(mask, discs)


def test_a_davis_palette_that_a_gif_made_compact_gives_the_ids_back(tmp_path, discs):
    """GIF stores the used colours alone, so that id 5 becomes index 2."""
    write_mask(tmp_path / "mask.png", np.where(discs == 2, 5, discs))
    Image.open(tmp_path / "mask.png").save(tmp_path / "mask.gif")
    assert np.unique(np.array(Image.open(tmp_path / "mask.gif"))).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.gif"), np.where(discs == 2, 5, discs))


def test_indices_of_other_palettes_with_black_first_are_ids(indexed):
    assert read_mask(indexed([[0, 3, 1, 4]], YOUTUBE_VOS)).tolist() == [[0, 3, 1, 4]]


def test_indices_beyond_the_palette_are_ids():
    indices, palette = np.array([[0, 1, 9]], np.uint8), np.array([(*BLACK, 255), (*RED, 255)], np.uint8)
    np.testing.assert_array_equal(ids_of_palette(indices, palette, "mask.png", {}, None), indices)


def test_colours_that_come_again_are_ids(indexed):
    """A palette of ten colours, over and over: objects 1 and 11 look alike."""
    colours = [BLACK, *[RED, GREEN, BLUE, (9, 9, 99), (9, 99, 9), (99, 9, 9), (7, 7, 77), (7, 77, 7), (77, 7, 7)] * 2]
    assert read_mask(indexed([[0, 1, 10, 3]], colours)).tolist() == [[0, 1, 10, 3]]


def test_a_palette_of_another_order_than_the_mask_before_is_read_by_its_colours(indexed):
    colours = {}
    first = indexed([[0, 1, 2]], [BLACK, RED, BLUE], "first.png")
    second = indexed([[0, 1, 2, 3]], [BLACK, BLUE, GREEN, RED], "second.png")
    assert read_mask(first, colours).tolist() == [[0, 1, 2]]
    with pytest.warns(MediaNotice) as told:
        assert read_mask(second, colours).tolist() == [[0, 2, 3, 1]]
    assert "is not in the order of an earlier mask" in str(told[0].message)
    assert "(0, 255, 0) is object 3" in str(told[1].message)


def test_davis_indices_are_ids_whatever_came_before(indexed, tmp_path):
    colours = {}
    painted(np.array([[0, 1]]), RED).save(tmp_path / "rgb.png")
    with pytest.warns(MediaNotice, match="is object 1"):
        read_mask(tmp_path / "rgb.png", colours)
    assert read_mask(indexed([[0, 1, 2]], DAVIS_PALETTE), colours).tolist() == [[0, 1, 2]]


def test_what_surrounds_all_is_background_where_nothing_is_black(indexed, discs):
    with pytest.warns(MediaNotice, match=r"index 0 of .*, \(68, 1, 84\), is used as background"):
        np.testing.assert_array_equal(read_mask(indexed(discs, [(68, 1, 84), (33, 145, 140), (253, 231, 36)])), discs)


def test_a_light_background_at_another_index(indexed, discs):
    """Red and green on white, with white at index 2."""
    indices = np.array([2, 0, 1])[discs]
    with pytest.warns(MediaNotice) as told:
        mask = read_mask(indexed(indices, [RED, GREEN, (255, 255, 255)]))
    assert "has no black: (255, 255, 255), which fills 100% of the picture's border" in str(told[0].message)
    np.testing.assert_array_equal(mask, discs)


def test_a_picture_with_black_at_an_index_above_0_is_told(indexed):
    with pytest.warns(MediaNotice, match="id 2 of .* is black in its palette, but still followed as an object"):
        assert read_mask(indexed([[0, 1, 2, 0]], [BLACK, RED, BLACK])).tolist() == [[0, 1, 2, 0]]


def test_soft_edges_in_a_palette(indexed, tmp_path, discs):
    picture = Image.open(DATA / "mask_soft.png").quantize(64)
    picture.save(tmp_path / "mask.png")
    with pytest.warns(MediaNotice, match="soft edges"), pytest.warns(MediaNotice, match="now numbered"):
        mask = read_mask(tmp_path / "mask.png")
    assert np.unique(mask).tolist() == [0, 1, 2]
    assert (mask == discs).mean() > 0.98


class TestTransparent:
    def test_index_0(self, indexed):
        assert read_mask(indexed([[0, 1, 2]], [RED, GREEN, BLUE], transparency=0)).tolist() == [[0, 1, 2]]

    def test_another_index_is_background(self, indexed):
        with pytest.warns(MediaNotice, match=r"\(255, 0, 0\) is object 1, \(0, 0, 255\) is object 2"):
            assert read_mask(indexed([[0, 1, 2]], [RED, GREEN, BLUE], transparency=1)).tolist() == [[1, 0, 2]]

    def test_void_of_a_davis_palette(self, indexed):
        path = indexed([[0, 1, 255]], DAVIS_PALETTE, transparency=bytes([255] * 255 + [0]))
        with pytest.warns(MediaNotice, match="ids 255 of .* are transparent in its palette, and used as background"):
            assert read_mask(path).tolist() == [[0, 1, 0]]

    def test_objects_of_a_davis_palette_may_be_translucent(self, indexed):
        assert read_mask(indexed([[0, 1, 5]], DAVIS_PALETTE, transparency=bytes([0] + [100] * 255))).tolist() == [
            [0, 1, 5]
        ]


class TestGreys:
    def test_as_values_are_values(self, indexed):
        assert read_mask(indexed([[0, 5, 9]], [(i, i, i) for i in range(256)])).tolist() == [[0, 5, 9]]

    def test_spread_over_a_palette_that_counts(self, indexed):
        with pytest.warns(MediaNotice, match="has a palette of greys: indices are ids, 1, 2"):
            assert read_mask(indexed([[0, 1, 2]], [BLACK, (127,) * 3, (255,) * 3])).tolist() == [[0, 1, 2]]

    def test_in_an_order_of_their_own_are_values(self, indexed, discs):
        """White is index 0, black is 2."""
        with pytest.warns(MediaNotice, match="palette of greys that are not in order"):
            mask = read_mask(indexed(np.array([2, 1, 0])[discs], [(255,) * 3, (128,) * 3, BLACK]))
        np.testing.assert_array_equal(mask, np.array([0, 128, 255])[discs])

    def test_soft_black_and_white(self, tmp_path):
        mask = np.kron([[0, 255]], np.ones((20, 20))).astype(np.uint8)
        mask[:, 19], mask[:, 20] = 64, 191
        Image.fromarray(mask).convert("RGB").quantize(4).save(tmp_path / "mask.png")
        with pytest.warns(MediaNotice, match="soft edges"):
            np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), mask > 127)

    def test_a_palette_that_was_never_filled(self, indexed):
        assert read_mask(indexed([[0, 1, 2]], [BLACK] * 3)).tolist() == [[0, 1, 2]]


class TestVoid:
    @pytest.mark.parametrize("name", ["mask_void_voc.png", "mask_void_grey.png"])
    def test_is_an_id_unless_it_is_named(self, name):
        raw = np.array(Image.open(DATA / name))
        assert np.unique(raw).tolist() == [0, 1, 2, 255]
        np.testing.assert_array_equal(read_mask(DATA / name), raw)
        np.testing.assert_array_equal(read_mask(DATA / name, void=255), np.where(raw == 255, 0, raw))

    def test_of_voc_colours_in_rgb(self, tmp_path):
        raw = np.array(Image.open(DATA / "mask_void_voc.png"))
        Image.open(DATA / "mask_void_voc.png").convert("RGB").save(tmp_path / "mask.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", void=255), np.where(raw == 255, 0, raw))

    def test_of_white_is_no_object(self, tmp_path):
        Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "mask.png")
        assert read_mask(tmp_path / "mask.png").tolist() == [[0, 1]]
        assert read_mask(tmp_path / "mask.png", void=255).tolist() == [[0, 0]]

    def test_of_a_numbered_colour(self, tmp_path):
        painted(np.array([[0, 1, 2]]), (250, 9, 9), (9, 250, 9)).save(tmp_path / "mask.png")
        with pytest.warns(MediaNotice, match="now numbered"):
            assert read_mask(tmp_path / "mask.png", void=2).tolist() == [[0, 1, 0]]

    @pytest.mark.parametrize(
        ("void", "error"), [(0, ValueError), (256, ValueError), ("255", TypeError), (True, TypeError)]
    )
    def test_out_of_range(self, void, error):
        with pytest.raises(error, match="void must be an"):
            read_mask(DATA / "mask_void_grey.png", void=void)
