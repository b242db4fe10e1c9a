"""Masks with soft edges and JPEG's noise: the objects that were drawn come out, whole and alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from stm_fast.errors import MediaError
from stm_fast.media.areas import filled
from stm_fast.media.masks import read_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.media.soft_edges import harden

DATA = Path(__file__).parent / "data"

pytestmark = pytest.mark.filterwarnings("ignore::stm_fast.media.notices.MediaNotice")


def enlarged(mask, factor=10):
    return mask.repeat(factor, 0).repeat(factor, 1)


def painted(mask, *colours):
    return Image.fromarray(np.array([(0, 0, 0), *colours], np.uint8)[mask])


def overlap(mask, truth, i):
    return ((mask == i) & (truth == i)).sum() / ((mask == i) | (truth == i)).sum()


def assert_like(mask, truth, least=0.95):
    assert np.unique(mask).tolist() == np.unique(truth).tolist()
    for i in np.unique(truth):
        assert overlap(mask, truth, i) >= least


def test_soft_colours_are_given_to_the_nearest_region(discs):
    with pytest.warns(
        MediaNotice, match="mask_soft.png has soft edges: pixels of 88 blended colours .* of 3 flat ones"
    ):
        mask = read_mask(DATA / "mask_soft.png")
    red, green, _ = np.moveaxis(np.array(Image.open(DATA / "mask_soft.png")), 2, 0)
    np.testing.assert_array_equal(mask, np.where(red > 127, 1, np.where(green > 127, 2, 0)))
    assert_like(mask, discs, 0.9)


def test_few_soft_shades_of_one_colour(discs):
    """Of red at 64, 128, 192 and 255 the shades lie between red and black, and are cut at one half."""
    with pytest.warns(MediaNotice, match=r"now numbered: \(255, 0, 0\) is object 1$"):
        mask = read_mask(DATA / "mask_soft_red.png")
    picture = np.array(Image.open(DATA / "mask_soft_red.png"))[..., 0]
    np.testing.assert_array_equal(mask[picture != 128], picture[picture != 128] > 128)
    assert np.unique(mask).tolist() == [0, 1]


@pytest.mark.parametrize("resample", ["BILINEAR", "BICUBIC", "LANCZOS", "BOX"])
@pytest.mark.parametrize("size", [(960, 640), (160, 100)], ids=["larger", "smaller"])
def test_resampled_masks(tmp_path, discs, size, resample):
    """Bicubic and Lanczos overshoot: there are colours beyond those of the objects."""
    picture = painted(enlarged(discs, 4), (200, 40, 40), (40, 180, 60))
    picture.resize(size, Image.Resampling[resample]).save(tmp_path / "mask.png")
    truth = np.array(Image.fromarray(discs).resize(size, Image.Resampling.NEAREST))
    assert_like(read_mask(tmp_path / "mask.png"), truth, 0.9)


@pytest.mark.parametrize("radius", [1, 4, 8])
def test_blurred_masks(tmp_path, discs, radius):
    picture = painted(enlarged(discs), (255, 0, 0), (0, 255, 0)).filter(ImageFilter.GaussianBlur(radius))
    picture.save(tmp_path / "mask.png")
    assert_like(read_mask(tmp_path / "mask.png"), enlarged(discs))


def test_edges_blended_in_linear_light(saved):
    """Half red and half green is (186, 186, 0) there, far from the line between them."""
    mask = np.zeros((160, 160), np.uint8)
    mask[42:122, 42:82], mask[42:122, 82:122] = 1, 2
    light = (np.array(painted(mask, (255, 0, 0), (0, 255, 0))) / 255) ** 2.2
    soft = np.rint(255 * light.reshape(40, 4, 40, 4, 3).mean((1, 3)) ** (1 / 2.2)).astype(np.uint8)
    assert (186, 186, 0) in {tuple(colour) for colour in soft.reshape(-1, 3).tolist()}
    found, blocks = read_mask(saved(soft)), mask.reshape(40, 4, 40, 4)
    pure = blocks.min((1, 3)) == blocks.max((1, 3))
    np.testing.assert_array_equal(found[pure], blocks.max((1, 3))[pure])
    assert np.unique(found).tolist() == [0, 1, 2]


def test_touching_objects_keep_their_outline(saved):
    """Blends of three colours where the objects and the background meet are of neither a fourth object."""
    mask = np.zeros((200, 200), np.uint8)
    mask[40:160, 40:100], mask[40:160, 100:160] = 1, 2
    picture = painted(mask, (255, 0, 0), (0, 255, 0)).rotate(7, Image.Resampling.BICUBIC)
    truth = np.array(Image.fromarray(mask).rotate(7, Image.Resampling.NEAREST))
    assert_like(read_mask(saved(np.array(picture))), truth)


def test_davis_colours_with_soft_edges_keep_their_ids(saved, discs):
    """Half of (128, 0, 0) is (64, 0, 0), which is itself a colour of the palette: id 8."""
    picture = painted(enlarged(discs, 4), (128, 0, 0), (128, 0, 128)).resize((300, 200), Image.Resampling.BILINEAR)
    truth = np.array([0, 1, 5])[np.array(Image.fromarray(discs).resize((300, 200), Image.Resampling.NEAREST))]
    assert_like(read_mask(saved(np.array(picture))), truth)


def test_thin_things_of_a_colour_in_between_are_objects(saved):
    """A dark red line that leaves a red square is no soft edge: most of it is far from red."""
    mask = np.zeros((100, 100), np.uint8)
    mask[20:50, 20:50], mask[50:90, 30:32] = 2, 1
    with pytest.warns(MediaNotice, match="is object 2$"):
        np.testing.assert_array_equal(read_mask(saved(np.array(painted(mask, (128, 0, 0), (255, 0, 0))))), mask)


def test_tiny_objects_are_objects(saved):
    picture = np.zeros((40, 80, 3), np.uint8)
    for index, column in enumerate((10, 30, 50, 70)):
        picture[20, column] = (255 - 60 * index, 200, 0)
    mask = read_mask(saved(picture))
    assert sorted(np.bincount(mask.ravel())[1:]) == [1, 1, 1, 1]


def test_grey_ids_with_soft_edges_keep_their_ids(saved, discs):
    """Where {0, 128, 255} was resized, ids are those that fill areas, not the 50 levels in between."""
    grey = Image.fromarray(np.array([0, 128, 255], np.uint8)[discs]).resize((192, 128), Image.Resampling.BILINEAR)
    with pytest.warns(MediaNotice, match="soft edges: pixels between its ids 128, 255 were given to the nearest"):
        mask = read_mask(saved(np.array(grey)))
    assert_like(mask, np.array([0, 128, 255])[discs].repeat(2, 0).repeat(2, 1))


def test_soft_white_with_every_level_of_grey(saved, discs):
    white = Image.fromarray(np.where(enlarged(discs, 20) > 0, 255, 0).astype(np.uint8))
    soft = np.array(white.filter(ImageFilter.GaussianBlur(6)))
    assert len(np.unique(soft)) > 250
    with pytest.warns(MediaNotice, match="cut at one half"):
        np.testing.assert_array_equal(read_mask(saved(soft)), soft > 127)


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_colours_of_a_jpeg(tmp_path, discs, quality):
    painted(enlarged(discs, 4), (255, 0, 0), (0, 255, 0)).save(tmp_path / "mask.jpg", quality=quality)
    with pytest.warns(MediaNotice, match="has noisy colours, as JPEG leaves them"):
        mask = read_mask(tmp_path / "mask.jpg")
    assert_like(mask, enlarged(discs, 4))


def test_a_jpeg_saved_as_png(tmp_path, saved, discs):
    painted(enlarged(discs, 4), (255, 0, 0), (0, 255, 0)).save(tmp_path / "mask.jpg", quality=75)
    assert_like(read_mask(saved(np.array(Image.open(tmp_path / "mask.jpg")))), enlarged(discs, 4))


def test_davis_colours_of_a_jpeg_are_ids(tmp_path, discs):
    painted(enlarged(discs, 4), (128, 0, 0), (128, 0, 128)).save(tmp_path / "mask.jpg", quality=90)
    assert_like(read_mask(tmp_path / "mask.jpg"), np.array([0, 1, 5])[enlarged(discs, 4)])


def test_two_jpegs_of_one_clip_agree(tmp_path, discs):
    colours = {}
    painted(enlarged(discs, 4), (250, 50, 83), (36, 179, 83)).save(tmp_path / "a.jpg", quality=90)
    painted(enlarged(discs, 4), (250, 50, 83), (36, 179, 83)).save(tmp_path / "b.jpg", quality=40)
    first, second = read_mask(tmp_path / "a.jpg", colours), read_mask(tmp_path / "b.jpg", colours)
    assert_like(second, first)


def test_black_and_white_jpeg_is_one_object(tmp_path, discs):
    white = Image.fromarray(np.where(enlarged(discs, 4) > 0, 255, 0).astype(np.uint8))
    white.save(tmp_path / "mask.jpg", quality=50)
    assert_like(read_mask(tmp_path / "mask.jpg"), (enlarged(discs, 4) > 0).astype(np.uint8))


def test_ids_do_not_survive_jpeg(tmp_path, discs):
    Image.fromarray(enlarged(discs, 4)).save(tmp_path / "mask.jpg", quality=50)
    with pytest.raises(MediaError, match="values are noisy, as JPEG leaves them: save masks as PNG"):
        read_mask(tmp_path / "mask.jpg")


@pytest.fixture
def photograph():
    """A scene with gradients, textures and flat parts."""
    picture = Image.new("RGB", (160, 120), (90, 130, 200))
    draw = ImageDraw.Draw(picture)
    for row in range(120):
        draw.line((0, row, 160, row), (60 + row, 100 + row // 2, 220 - row))
    draw.ellipse((30, 30, 90, 90), (180, 140, 90))
    noise = np.random.default_rng(0).normal(0, 6, (120, 160, 3))
    return np.clip(np.array(picture) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("form", ["RGB", "L", "P", "posterised"])
def test_photographs_are_no_masks(tmp_path, photograph, form):
    image = Image.fromarray(photograph)
    (image.quantize(20) if form == "posterised" else image.convert(form)).save(tmp_path / "mask.png")
    with pytest.raises(MediaError, match=r"colours: a colour mask|levels of grey and few flat areas"):
        read_mask(tmp_path / "mask.png")


def test_filled_squares():
    labels = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    assert filled(labels).tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, False, False, False],
        [False, False, False, False],
    ]


def test_hard_masks_are_left_alone(discs):
    assert harden(discs, np.array([(0, 0, 0), (255, 0, 0), (128, 0, 0)], np.uint8)) is None
