"""Masks: everything people save as one is read as ids, or refused in a sentence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from stm_fast.errors import MediaError
from stm_fast.media.masks import DAVIS_PALETTE, fit_mask, object_ids, read_mask, write_mask
from stm_fast.media.notices import MediaNotice

IDS = np.array([[0, 1, 1], [2, 2, 7]], np.uint8)


pytestmark = pytest.mark.filterwarnings("error::stm_fast.media.notices.MediaNotice")


def test_davis_palette_begins_as_published():
    assert DAVIS_PALETTE[:9].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
        [0, 128, 128],
        [128, 128, 128],
        [64, 0, 0],
    ]
    assert len(np.unique(DAVIS_PALETTE, axis=0)) == 256


@given(mask=arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_any_mask_survives_being_written(tmp_path_factory, mask):
    path = tmp_path_factory.mktemp("masks") / "deeper" / "mask.png"
    write_mask(path, mask)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert image.getpalette()[: 3 * 8] == DAVIS_PALETTE[:8].flatten().tolist()
        np.testing.assert_array_equal(np.asarray(image), mask)
    np.testing.assert_array_equal(read_mask(path), mask)


def test_written_colours_read_as_rgb_give_the_ids_back(tmp_path):
    write_mask(tmp_path / "ids.png", IDS)
    Image.open(tmp_path / "ids.png").convert("RGB").save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "rgb.png"), IDS)


def test_grey_values_are_ids(saved):
    np.testing.assert_array_equal(read_mask(saved(IDS)), IDS)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "P"])
def test_black_and_white_is_one_object(saved, mode):
    path = saved(np.array([[0, 255], [255, 0]], np.uint8), mode)
    assert read_mask(path).tolist() == [[0, 1], [1, 0]]


def test_deep_black_and_white_is_one_object(saved):
    assert read_mask(saved(np.array([[0, 65535]], np.uint16))).tolist() == [[0, 1]]


def test_soft_edges_are_cut_at_one_half_with_a_notice(saved):
    ramp = np.full((40, 60), 255, np.uint8)
    ramp[:, :10] = 0
    ramp[:, 10:30] = np.linspace(2, 250, 20).astype(np.uint8) * (np.arange(40)[:, None] < 8)
    with pytest.warns(MediaNotice, match="soft edges"):
        mask = read_mask(saved(ramp))
    np.testing.assert_array_equal(mask, ramp > 127)


def test_a_few_grey_levels_between_black_and_white_are_soft_edges(saved):
    """As a black-and-white mask has after it was resized with interpolation."""
    mask = np.kron([[0, 255]], np.ones((20, 20))).astype(np.uint8)
    mask[:, 19], mask[:, 20] = 64, 191
    with pytest.warns(MediaNotice, match="soft edges"):
        assert np.array_equal(read_mask(saved(mask)), mask > 127)


def test_ids_and_void_are_not_soft_edges(saved):
    mask = np.kron([[0, 255]], np.ones((20, 20))).astype(np.uint8)
    mask[:2, :2] = [[1, 2], [3, 1]]
    np.testing.assert_array_equal(read_mask(saved(mask)), mask)


@pytest.mark.parametrize("palette", [[0, 0, 0, 255, 255, 255], [255, 255, 255, 0, 0, 0]])
def test_a_palette_of_black_and_white_is_read_by_its_colours(tmp_path, palette):
    image = Image.fromarray(np.array([[0, 1, 1]], np.uint8), "P")
    image.putpalette(palette)
    image.save(tmp_path / "mask.png")
    white = [[int(palette[3 * i] == 255) for i in (0, 1, 1)]]
    assert read_mask(tmp_path / "mask.png").tolist() == white


def test_negative_values_are_no_ids(tmp_path):
    Image.fromarray(np.array([[0, -1]], np.int32)).save(tmp_path / "mask.tif")
    with pytest.raises(MediaError, match="has the value -1"):
        read_mask(tmp_path / "mask.tif")


def test_transparent_pixels_are_background(saved):
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0] = [(128, 0, 0, 255), (128, 0, 0, 0), (0, 128, 0, 255)]
    assert read_mask(saved(pixels)).tolist() == [[1, 0, 2]]


def test_free_colours_are_numbered_and_stay_numbered(saved):
    red, blue, green = (250, 10, 10), (10, 10, 250), (10, 250, 10)
    first, second = np.array([[(0, 0, 0), red, blue]], np.uint8), np.array([[green, red, blue]], np.uint8)
    colours = {}
    with pytest.warns(MediaNotice, match=r"\(250, 10, 10\) is object 1, \(10, 10, 250\) is object 2"):
        assert read_mask(saved(first), colours).tolist() == [[0, 1, 2]]
    with pytest.warns(MediaNotice, match=r"\(10, 250, 10\) is object 3"):
        assert read_mask(saved(second), colours).tolist() == [[3, 1, 2]]


def test_a_photograph_is_not_a_mask(saved):
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    with pytest.raises(MediaError, match=r"has 256 colours: .* at most 32"):
        read_mask(saved(noise))


def test_ids_above_255(saved, tmp_path):
    with pytest.raises(MediaError, match="has object id 300 among its 3 values: masks hold ids 0 to 255"):
        read_mask(saved(np.array([[0, 5, 300]], np.uint16)))
    with pytest.raises(MediaError, match="object ids 0 to 256 do not fit"):
        write_mask(tmp_path / "out.png", np.array([[0, 256]]))
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_unreadable_mask(tmp_path, content):
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(MediaError, match=r"mask.png cannot be read as a mask"):
        read_mask(tmp_path / "mask.png")


def test_mask_of_another_size_is_resized_with_a_notice():
    with pytest.warns(MediaNotice, match="m.png is 3×2 and was resized to the frames' 6×4"):
        assert fit_mask(IDS, (4, 6), "m.png").tolist() == IDS.repeat(2, 0).repeat(2, 1).tolist()
    assert fit_mask(IDS, (2, 3), "m.png") is IDS


def test_mask_of_another_aspect():
    with pytest.raises(MediaError, match=r"m.png is 3×2 but the frames are 5×2: a mask must have the frames' aspect"):
        fit_mask(IDS, (2, 5), "m.png")


def test_object_ids():
    assert object_ids(IDS) == (1, 2, 7)
    assert object_ids(np.zeros((2, 2), np.uint8)) == ()


def test_rgb_palette_of_davis_and_free_colours_in_one_folder(saved):
    """A colour keeps the id that an earlier mask gave it."""
    colours = {}
    assert read_mask(saved(np.array([[(0, 0, 0), (128, 0, 0)]], np.uint8)), colours).tolist() == [[0, 1]]
    with pytest.warns(MediaNotice, match=r"\(200, 0, 0\) is object 2$"):
        assert read_mask(saved(np.array([[(200, 0, 0), (128, 0, 0)]], np.uint8)), colours).tolist() == [[2, 1]]


def test_white_keeps_the_id_of_the_mask_before(saved):
    """A mask of 1, 2 and 255, then one of 255 alone."""
    colours = {}
    assert read_mask(saved(np.array([[0, 1, 2, 255]], np.uint8)), colours).tolist() == [[0, 1, 2, 255]]
    assert read_mask(saved(np.array([[0, 0, 0, 255]], np.uint8)), colours).tolist() == [[0, 0, 0, 255]]


def test_white_that_becomes_an_id_is_told(saved):
    colours = {}
    assert read_mask(saved(np.array([[0, 255]], np.uint8)), colours).tolist() == [[0, 1]]
    with pytest.warns(MediaNotice, match="has id 255 beside others, but white was object 1 in an earlier mask"):
        assert read_mask(saved(np.array([[0, 1, 255]], np.uint8)), colours).tolist() == [[0, 1, 255]]


def test_greys_in_colour_are_ids(saved):
    assert read_mask(saved(np.array([[0, 1, 3]], np.uint8), "RGB")).tolist() == [[0, 1, 3]]
    with pytest.warns(MediaNotice, match="128 is used as an id, though it is the colour of id 7 of DAVIS"):
        assert read_mask(saved(np.array([[0, 128]], np.uint8), "RGB")).tolist() == [[0, 128]]


def test_greys_of_soft_edges_are_not_told_as_ids(saved):
    """White, painted with soft edges by a program that saves colours: 64 and 128 are greys of DAVIS."""
    picture = Image.new("L", (4 * 96, 4 * 64))
    ImageDraw.Draw(picture).ellipse([90, 60, 210, 180], fill=255)
    soft = np.array(picture.resize((96, 64), Image.Resampling.BOX))
    assert {64, 128} < set(soft.ravel().tolist())
    with pytest.warns(MediaNotice) as told:
        mask = read_mask(saved(soft, "RGB"))
    assert [str(each.message).partition("mask.png ")[2] for each in told] == [
        "has soft edges and was cut at one half: white is object 1"
    ]
    assert np.unique(mask).tolist() == [0, 1]


def test_grey_ids_that_are_not_two_values_keep_them(saved, discs):
    grey = np.array([0, 128, 255], np.uint8)[discs]
    np.testing.assert_array_equal(read_mask(saved(grey)), grey)


def test_a_white_surrounding_is_told(saved, discs):
    white = np.where(discs > 0, 0, 255).astype(np.uint8)
    with pytest.warns(MediaNotice, match="object 1 covers 88% of .* and its border, and the background lies inside"):
        np.testing.assert_array_equal(read_mask(saved(white)), discs == 0)


def test_a_coloured_ground_is_background(saved, discs):
    """As matplotlib's `imsave` writes ids: viridis, whose darkest colour is not black."""
    viridis = np.array([(68, 1, 84, 255), (33, 145, 140, 255), (253, 231, 36, 255)], np.uint8)
    with pytest.warns(MediaNotice) as told:
        mask = read_mask(saved(viridis[discs]))
    assert "has no black: (68, 1, 84), which fills 100% of the picture's border, is used" in str(told[0].message)
    np.testing.assert_array_equal(mask == 0, discs == 0)
    assert np.unique(mask).tolist() == [0, 1, 2]


def test_the_ground_of_one_mask_is_that_of_the_next(saved):
    colours, red, white = {}, (250, 0, 0), (255, 255, 255)
    first = np.array([[white] * 5, [white, white, red, white, white], [white] * 5], np.uint8)
    with pytest.warns(MediaNotice, match="has no black"), pytest.warns(MediaNotice, match="now numbered"):
        assert read_mask(saved(first), colours)[1].tolist() == [0, 0, 1, 0, 0]
    assert read_mask(saved(np.array([[red, red, white]], np.uint8)), colours).tolist() == [[1, 1, 0]]


class TestTransparency:
    def test_soft_alpha_is_cut_at_one_half(self, saved):
        pixels = np.array([[(250, 0, 0, 255), (250, 0, 0, 140), (250, 0, 0, 100), (0, 0, 0, 0)]], np.uint8)
        with pytest.warns(MediaNotice, match="soft transparency"), pytest.warns(MediaNotice, match="now numbered"):
            assert read_mask(saved(pixels)).tolist() == [[1, 1, 0, 0]]

    def test_a_layer_that_is_half_transparent_is_read(self, saved):
        pixels = np.array([[(250, 0, 0, 100), (0, 0, 0, 0)]], np.uint8)
        with pytest.warns(MediaNotice, match="now numbered"):
            assert read_mask(saved(pixels)).tolist() == [[1, 0]]

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_black_on_nothing_is_an_object(self, saved, mode):
        pixels = np.array([[(0, 0, 0, 255), (0, 0, 0, 0)]], np.uint8)
        with pytest.warns(MediaNotice, match="black on a transparent background: what is not transparent is object 1"):
            assert read_mask(saved(pixels, mode)).tolist() == [[1, 0]]

    def test_a_cut_out_photograph_is_an_object(self, saved, discs):
        noise = np.random.default_rng(0).integers(0, 255, (*discs.shape, 3), np.uint8)
        with pytest.warns(
            MediaNotice, match="picture on a transparent background: what is not transparent is object 1"
        ):
            mask = read_mask(saved(np.dstack([noise, np.where(discs == 1, 255, 0).astype(np.uint8)])))
        np.testing.assert_array_equal(mask, discs == 1)

    def test_a_picture_that_does_not_show_is_read_all_the_same(self, saved):
        pixels = np.array([[(128, 0, 0, 0), (0, 0, 0, 0), (0, 128, 0, 0)]], np.uint8)
        with pytest.warns(MediaNotice, match="is fully transparent"):
            assert read_mask(saved(pixels)).tolist() == [[1, 0, 2]]

    def test_grey_with_alpha_holds_ids(self, saved):
        pixels = np.array([[(2, 2, 2, 255), (1, 1, 1, 0), (0, 0, 0, 255), (128, 128, 128, 255)]], np.uint8)
        assert read_mask(saved(pixels, "LA")).tolist() == [[2, 0, 0, 128]]

    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_a_colour_that_is_declared_transparent(self, saved, mode):
        clear = 255 if mode == "L" else (255, 255, 255)
        path = saved(np.array([[0, 1, 255, 2]], np.uint8), mode, transparency=clear)
        assert read_mask(path).tolist() == [[0, 1, 0, 2]]


class TestNumbers:
    def test_16_bits_hold_ids(self, saved):
        assert read_mask(saved(np.array([[0, 1, 200]], np.uint16))).tolist() == [[0, 1, 200]]

    @pytest.mark.parametrize("factor", [256, 257])
    def test_bytes_widened_to_16_bits(self, saved, factor):
        with pytest.warns(MediaNotice, match=f"bytes widened to 16 bits: its values were divided by {factor}"):
            assert read_mask(saved(np.array([[0, factor, 7 * factor]], np.uint16))).tolist() == [[0, 1, 7]]

    def test_12_bits_of_black_and_white(self, saved):
        with pytest.warns(MediaNotice, match="only the values 0 and 4095: 4095 is object 1"):
            assert read_mask(saved(np.array([[0, 4095]], np.uint16))).tolist() == [[0, 1]]

    def test_soft_edges_in_16_bits(self, saved):
        mask = np.kron([[0, 65535]], np.ones((20, 20))).astype(np.uint16)
        mask[:, 19], mask[:, 20] = 16000, 50000
        with pytest.warns(MediaNotice, match="soft edges"):
            np.testing.assert_array_equal(read_mask(saved(mask)), mask > 32767)

    @pytest.mark.parametrize("dtype", [np.int32, np.float32])
    def test_wide_numbers(self, saved, dtype):
        assert read_mask(saved(np.array([[0, 1, 9]], dtype), name="mask.tif")).tolist() == [[0, 1, 9]]

    def test_probabilities_are_cut_at_one_half(self, saved):
        path = saved(np.array([[0, 0.3, 0.7, 1]], np.float32), name="mask.tif")
        with pytest.warns(MediaNotice, match="fractions from 0 to 1"):
            assert read_mask(path).tolist() == [[0, 0, 1, 1]]

    @pytest.mark.parametrize(("value", "message"), [(np.nan, "not finite"), (2.5, "has the value 2.5 and fractions")])
    def test_other_fractions(self, saved, value, message):
        with pytest.raises(MediaError, match=message):
            read_mask(saved(np.array([[0, value]], np.float32), name="mask.tif"))

    def test_no_background_is_told(self, saved):
        with pytest.warns(MediaNotice, match=r"has no background \(value 0\): its 2 ids fill the picture"):
            assert read_mask(saved(np.array([[1, 2]], np.uint8))).tolist() == [[1, 2]]

    def test_many_flat_ids_are_a_mask(self, saved):
        mask = np.arange(100, dtype=np.uint8).reshape(10, 10).repeat(8, 0).repeat(8, 1) * 2
        np.testing.assert_array_equal(read_mask(saved(mask)), mask)


class TestFiles:
    def test_an_orientation_is_followed(self, saved):
        exif = Image.Exif()
        exif[0x0112] = 6
        with pytest.warns(MediaNotice, match="was turned as its EXIF orientation says"):
            assert read_mask(saved(IDS, exif=exif)).tolist() == np.rot90(IDS, -1).tolist()

    def test_a_colour_profile_changes_nothing(self, saved):
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        assert read_mask(saved(IDS, icc_profile=profile)).tolist() == IDS.tolist()

    def test_the_first_of_several_pages(self, tmp_path):
        pages = [Image.fromarray(IDS), Image.fromarray(IDS * 0)]
        pages[0].save(tmp_path / "mask.tif", save_all=True, append_images=pages[1:])
        with pytest.warns(MediaNotice, match="holds 2 pictures: the first is used as the mask"):
            assert read_mask(tmp_path / "mask.tif").tolist() == IDS.tolist()

    def test_cmyk(self, tmp_path):
        Image.fromarray(np.array([[(0, 0, 0), (255, 0, 0)]], np.uint8)).convert("CMYK").save(tmp_path / "mask.tif")
        with pytest.warns(MediaNotice, match=r"\(255, 0, 0\) is object 1"):
            assert read_mask(tmp_path / "mask.tif").tolist() == [[0, 1]]


def test_a_mask_that_lies_on_its_side():
    with pytest.raises(MediaError, match="a mask must have the frames' aspect, turn it by 90 degrees"):
        fit_mask(IDS, (3, 2), "m.png")
