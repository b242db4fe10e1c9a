"""Which mask is of which frame, and which is the first that counts."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from stm_fast.errors import MediaError
from stm_fast.media.frames import Frame, FrameSource
from stm_fast.media.masks import read_mask, write_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.media.sources import open_frames
from stm_fast.tracking import prompts as prompts_module
from stm_fast.tracking.prompt_names import numbers_in
from stm_fast.tracking.prompts import PromptReader, find_prompts, prompts_of

SIZE = (32, 48)
OBJECT, BLANK = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
OBJECT[8:20, 8:20] = 1

pytestmark = pytest.mark.filterwarnings("error::stm_fast.media.notices.MediaNotice")


class Counted(FrameSource):
    """A video whose frames are counted from 0; of a stream the number of frames is not known."""

    def __init__(self, path, count):
        self.path, self.count, self.size, self.fps, self.first_name = path, count, SIZE, None, "00000"

    def _decode(self):
        raise AssertionError("masks are found without decoding")

    def may_hold(self, name):
        return name.isdecimal() and name == f"{int(name):05d}" and (self.count is None or int(name) < self.count)


@pytest.fixture
def video(tmp_path):
    return Counted(tmp_path / "video.mp4", 10)


@pytest.fixture
def stream(tmp_path):
    return Counted(tmp_path / "video.mkv", None)


@pytest.fixture
def images(tmp_path):
    """(names) -> a folder of frames."""

    def make(*names):
        for name in names:
            write_mask(tmp_path / "frames" / f"{name}.png", OBJECT)
        return open_frames(tmp_path / "frames")

    return make


@pytest.fixture
def masks(tmp_path):
    """(masks by name) -> a folder of them."""

    def make(**given):
        for name, mask in given.items():
            write_mask(tmp_path / "masks" / f"{name.removeprefix('n')}.png", mask)
        return tmp_path / "masks"

    return make


def found(folder, frames, **options):
    return {name: path.stem for name, path in find_prompts(folder, frames, **options).items()}


class TestVideo:
    def test_names_of_frames(self, masks, video):
        assert found(masks(n00000=OBJECT, n00007=OBJECT), video) == {"00000": "00000", "00007": "00007"}

    @pytest.mark.parametrize("name", ["0", "0000", "00000", "000000"])
    def test_any_number_of_digits(self, masks, video, name):
        assert found(masks(**{f"n{name}": OBJECT}), video) == {"00000": name}

    @pytest.mark.parametrize("name", ["00001", "0001", "1"])
    def test_a_first_mask_of_frame_1_is_told(self, masks, video, name):
        folder = masks(**{f"n{name}": OBJECT})
        with pytest.warns(
            MediaNotice, match="the first mask in .* belongs to frame 1, counted from 0; FFmpeg counts from 1"
        ):
            assert found(folder, video) == {"00001": name}

    def test_a_first_mask_of_a_later_frame_is_told(self, masks, stream):
        with pytest.warns(MediaNotice, match="the first mask in .* belongs to frame 37, counted from 0"):
            assert found(masks(n00037=OBJECT), stream) == {"00037": "00037"}

    def test_masks_from_1_to_the_number_of_frames_are_counted_from_1(self, masks, video):
        folder = masks(**{f"n{i:04d}": OBJECT for i in range(1, 11)})
        with pytest.warns(MediaNotice, match="seem to be counted from 1, as by FFmpeg: the last is 10, of 10 frames"):
            assert found(folder, video) == {f"{i - 1:05d}": f"{i:04d}" for i in range(1, 11)}

    def test_masks_past_the_end_are_told(self, masks, video):
        folder = masks(n00000=OBJECT, n00010=OBJECT, n00099=OBJECT)
        with pytest.warns(MediaNotice, match="2 masks in .* are not named like a frame .* the first is 00010"):
            assert found(folder, video) == {"00000": "00000"}

    def test_frames_come_in_the_order_of_their_numbers(self, masks, stream):
        assert list(found(masks(n3=OBJECT, n00000=OBJECT, n020=OBJECT, n100=OBJECT), stream)) == [
            "00000",
            "00003",
            "00020",
            "00100",
        ]

    def test_more_than_99999_frames(self, masks, stream):
        assert list(found(masks(n0=OBJECT, n123456=OBJECT), stream)) == ["00000", "123456"]

    @pytest.mark.parametrize("template", ["frame_{:04d}", "clip2-{:03d}_mask", "{:05d}_gt", "{:05d}.jpg", "v1.2_{}"])
    def test_exports_with_a_number_in_their_names(self, masks, video, template):
        names = [template.format(number) for number in (0, 1, 5)]
        with pytest.warns(MediaNotice, match="matched to frames by the number in their names: .* is number 0"):
            folder = found(masks(**dict.fromkeys(names, OBJECT)), video)
        assert folder == dict(zip(("00000", "00001", "00005"), names, strict=True))

    def test_one_export_with_a_number_in_its_name(self, masks, video):
        with pytest.warns(MediaNotice) as told:
            assert found(masks(v2_frame_0001=OBJECT), video) == {"00001": "v2_frame_0001"}
        assert "v2_frame_0001 is number 1" in str(told[0].message)
        assert "belongs to frame 1, counted from 0" in str(told[1].message)

    def test_two_masks_of_one_frame(self, masks, video):
        with pytest.raises(MediaError, match=r"0.png and 00000.png in .* belong to the same frame: keep one of them"):
            found(masks(n0=OBJECT, n00000=OBJECT), video)

    def test_names_with_several_numbers_that_change(self, masks, video):
        """As one file for each object: which number is the frame's cannot be told."""
        with pytest.raises(MediaError, match=r"no mask in .* is named like a frame: frames are called 00000"):
            found(masks(n00000_1=OBJECT, n00000_2=OBJECT, n00001_1=OBJECT), video)

    def test_a_single_file_is_of_the_first_frame(self, masks, video):
        path = masks(first=OBJECT) / "first.png"
        assert find_prompts(path, video) == {"00000": path}

    def test_a_single_file_named_like_another_frame_is_told(self, masks, video):
        path = masks(n00005=OBJECT) / "00005.png"
        with pytest.warns(MediaNotice, match=r"00005.png is used as the mask of the first frame"):
            assert find_prompts(path, video) == {"00000": path}


class TestImages:
    def test_names_match_exactly(self, masks, images):
        frames = images("00001", "00002", "00003")
        assert found(masks(n00001=OBJECT, n00003=OBJECT), frames) == {"00001": "00001", "00003": "00003"}

    def test_a_later_first_mask_needs_no_notice(self, masks, images):
        assert found(masks(n00003=OBJECT), images("00000", "00001", "00002", "00003")) == {"00003": "00003"}

    @pytest.mark.parametrize("template", ["{:04d}", "mask_{:02d}", "img_{:03d}_mask"])
    def test_the_number_tells_where_no_name_does(self, masks, images, template):
        frames = images("img_001", "img_002", "img_010")
        names = [template.format(number) for number in (2, 10)]
        with pytest.warns(MediaNotice, match=rf"matched by number, {names[0]}.png to img_002"):
            matched = found(masks(**{f"n{name}": OBJECT for name in names}), frames)
        assert matched == dict(zip(("img_002", "img_010"), names, strict=True))

    def test_a_number_that_no_frame_has(self, masks, images):
        """Counted from 0 beside frames that are counted from 1: which is meant cannot be told."""
        with pytest.raises(MediaError, match=r"frames are called img_001 and so on, masks 0 and so on"):
            found(masks(n0=OBJECT, n1=OBJECT), images("img_001", "img_002"))

    def test_the_folder_of_frames_is_not_that_of_masks(self, images):
        frames = images("0", "1")
        with pytest.raises(MediaError, match="is the folder of frames"):
            find_prompts(frames.path, frames)


class TestBlank:
    def test_masks_before_the_first_object(self, masks, video):
        folder = masks(n00000=BLANK, n00001=BLANK, n00002=OBJECT, n00003=OBJECT)
        reader = PromptReader(find_prompts(folder, video), SIZE)
        frames = [Frame(f"{index:05d}", np.zeros((*SIZE, 3), np.uint8)) for index in range(3)]
        assert [reader.new_objects(frame) is None for frame in frames[:2]] == [True, True]
        np.testing.assert_array_equal(reader.new_objects(frames[2]), OBJECT)

    def test_all(self, masks, video):
        with pytest.raises(MediaError, match=r"all 3 masks in .* are empty: one must hold at least one object"):
            find_prompts(masks(n00000=BLANK, n00001=BLANK, n00002=BLANK), video)

    def test_of_void_alone(self, masks, video):
        folder = masks(n00000=np.full(SIZE, 255, np.uint8), n00001=OBJECT)
        assert list(find_prompts(folder, video, void=255)) == ["00000", "00001"]
        with pytest.raises(MediaError, match=r"is empty: .* \(a pixel that is not 0 or void, 255\)"):
            find_prompts(folder / "00000.png", video, void=255)

    def test_no_mask_is_read_past_the_first_object(self, masks, stream, monkeypatch):
        read = []

        def count(path, *arguments, **options):
            read.append(Path(path).stem)
            return read_mask(path, *arguments, **options)

        monkeypatch.setattr(prompts_module, "read_mask", count)
        folder = masks(n00000=BLANK, n00001=BLANK, **{f"n{index:05d}": OBJECT for index in range(2, 50)})
        assert len(find_prompts(folder, stream)) == 50
        assert read == ["00000", "00001", "00002"]


class TestVoid:
    @pytest.fixture
    def folder(self, masks):
        mask = OBJECT.copy()
        mask[8] = 255
        return masks(n00000=mask)

    def frame(self):
        return Frame("00000", np.zeros((*SIZE, 3), np.uint8))

    def test_is_told_where_it_is_followed(self, folder, video):
        reader = PromptReader(find_prompts(folder, video), SIZE)
        with pytest.warns(MediaNotice, match="id 255 is followed as an object; void 255 ignores it"):
            assert np.unique(reader.new_objects(self.frame())).tolist() == [0, 1, 255]

    def test_is_ignored_where_it_is_named(self, folder, video):
        reader = PromptReader(find_prompts(folder, video, void=255), SIZE, void=255)
        assert np.unique(reader.new_objects(self.frame())).tolist() == [0, 1]

    def test_is_ignored_in_files_and_arrays(self, folder, video):
        ids = read_mask(folder / "00000.png")
        assert list(prompts_of(folder, video, void=255)) == list(prompts_of(ids, video, void=255)) == ["00000"]
        for given in (folder, ids):
            reader = PromptReader(prompts_of(given, video, void=255), SIZE, void=255)
            assert np.unique(reader.new_objects(self.frame())).tolist() == [0, 1]

    @pytest.mark.parametrize(("void", "error"), [(0, ValueError), (1.5, TypeError)])
    def test_out_of_range(self, folder, video, void, error):
        with pytest.raises(error, match="void must be an"):
            find_prompts(folder, video, void=void)
        with pytest.raises(error, match="void must be an"):
            PromptReader({}, SIZE, void=void)


def test_masks_whose_frames_never_came_are_told(masks, stream):
    reader = PromptReader(find_prompts(masks(n00000=OBJECT, n00009=OBJECT, n00010=OBJECT), stream), SIZE)
    reader.new_objects(Frame("00000", np.zeros((*SIZE, 3), np.uint8)))
    with pytest.warns(
        MediaNotice, match=r"2 masks were not used: the clip has no frames of their names, such as 00009"
    ):
        reader.finish()


def test_nothing_is_told_where_every_mask_was_used(masks, stream):
    reader = PromptReader(find_prompts(masks(n00000=OBJECT), stream), SIZE)
    reader.new_objects(Frame("00000", np.zeros((*SIZE, 3), np.uint8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader.finish()


def test_a_folder_of_folders_is_told(masks, video, tmp_path):
    (masks(n00000=OBJECT)).rename(tmp_path / "clip")
    (tmp_path / "all").mkdir()
    (tmp_path / "clip").rename(tmp_path / "all" / "clip")
    with pytest.raises(MediaError, match="holds no image, but clip in it does: give that folder"):
        find_prompts(tmp_path / "all", video)


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["a_1", "a_2"], {"a_1": 1, "a_2": 2}),
        (["7_a_2", "7_a_1"], {"7_a_1": 1, "7_a_2": 2}),
        (["v2_001"], {"v2_001": 1}),
        (["a_1", "b_2"], {}),
        (["1_1", "2_2"], {}),
        (["a", "b"], {}),
        ([], {}),
    ],
)
def test_the_number_in_names(names, numbers):
    assert numbers_in(names) == numbers
    assert list(numbers_in(names)) == list(numbers)
