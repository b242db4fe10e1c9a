"""What clips are drawn from: stills, videos, synthetic clips and mixtures."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cv2")

from stm_fast.data.layouts import open_videos
from stm_fast.data.stills.layouts import open_stills
from stm_fast.data.synthetic.pool import ClipPool, PoolSpec, make_pool
from stm_fast.errors import ArgumentError, MediaError
from stm_fast.media.notices import MediaNotice
from stm_fast.training.augment.augmentation import Augmentation
from stm_fast.training.augment.crops import SquareCrop
from stm_fast.training.augment.presets import PRESETS, Preset
from stm_fast.training.batch import VOID, Example, collate
from stm_fast.training.sampling import ClipSource, Sampling
from stm_fast.training.sources.mixed import MixedSource
from stm_fast.training.sources.stills import StillSource
from stm_fast.training.sources.synthetic import SyntheticSource
from stm_fast.training.sources.videos import VideoSource, draw_times
from tests.data.miniature_stills import MAKERS as STILL_MAKERS
from tests.data.miniatures import MAKERS as VIDEO_MAKERS
from tests.data.pictures import asset_library
from tests.training.clip_sources import Picture, Video

TINY = Sampling(clips=1, frames=3, size=32, max_objects=3, max_skip=2)
WHOLE = Preset(Augmentation(), Augmentation(crop=SquareCrop(1.0)))
"""Frames of videos that are their largest squares."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ClipPool:
    root: Path = tmp_path_factory.mktemp("sources")
    asset_library(root / "assets")
    list(make_pool(root / "assets", root / "pool", PoolSpec(clips=1, frames=4, size=64), workers=1))
    return ClipPool(root / "pool")


@pytest.fixture(params=["stills, paper", "stills, stcn", "videos, paper", "videos, stcn", "synthetic"])
def source(request: pytest.FixtureRequest, pool: ClipPool) -> ClipSource:
    kind, _, preset = request.param.partition(", ")
    if kind == "stills":
        return StillSource([Picture(seed, objects=seed % 4, void=seed % 2 == 0) for seed in range(6)], PRESETS[preset])
    if kind == "videos":
        return VideoSource([Video("a", 9, later=4), Video("b", 3)], PRESETS[preset])
    return SyntheticSource(pool)


def some(source: ClipSource, sampling: Sampling, count: int, index: int | None = None) -> list[Example]:
    """Draw clips until there are `count`."""
    found = []
    for seed in range(20 * count):
        rng = np.random.default_rng(seed)
        example = source.draw(int(rng.integers(len(source))) if index is None else index, rng, sampling)
        if example is not None:
            found.append(example)
        if len(found) == count:
            return found
    raise AssertionError("almost no draw gives a clip")


def test_clips_are_as_the_sampler_wants_them(source: ClipSource) -> None:
    for frames, masks in some(source, TINY, 25):
        assert frames.shape == (3, 32, 32, 3)
        assert masks.shape == (3, 32, 32)
        assert frames.dtype == masks.dtype == np.uint8
        assert frames.flags.c_contiguous
        assert masks.flags.c_contiguous
        ids = sorted(set(np.unique(masks[0])) - {0, VOID})
        assert ids == list(range(1, len(ids) + 1))
        assert 1 <= len(ids) <= 3
        assert set(np.unique(masks)) <= {0, VOID, *ids}
        assert len(collate([(frames, masks)]).clip) == len(ids)


def test_objects_are_chosen_among_those_that_are_seen() -> None:
    """One large object among hundreds of specks is found each time."""

    class Crowd:
        def read(self) -> tuple[np.ndarray, np.ndarray]:
            mask = np.zeros((60, 60), np.uint8)
            mask[::4, ::4] = np.arange(1, 226).reshape(15, 15)
            mask[20:40, 20:40] = 240
            return np.zeros((60, 60, 3), np.uint8), mask

    one = Sampling(clips=1, frames=2, size=32, max_objects=1, smallest_crop=1.0)
    source = StillSource([Crowd()], PRESETS["paper"])
    examples = [source.draw(0, np.random.default_rng(seed), one) for seed in range(30)]
    assert all(example is not None and (example[1][0] == 1).mean() > 0.05 for example in examples)


def test_the_same_generator_gives_the_same_clip(source: ClipSource) -> None:
    def draw(seed: int) -> list[Example | None]:
        return [source.draw(index, np.random.default_rng(seed), TINY) for index in range(len(source))]

    first, again, other = draw(3), draw(3), draw(4)
    for one, same in zip(first, again, strict=True):
        assert (one is None) == (same is None)
        if one is not None and same is not None:
            np.testing.assert_array_equal(one[0], same[0])
            np.testing.assert_array_equal(one[1], same[1])
    assert any(a is None or b is None or not np.array_equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("preset", ["paper", "stcn"])
@settings(max_examples=15, deadline=None)
@given(height=st.integers(8, 90), width=st.integers(8, 90), size=st.sampled_from([16, 48]), seed=st.integers(0, 99))
def test_pictures_of_any_size_give_frames_of_the_wanted_one(
    preset: str, height: int, width: int, size: int, seed: int
) -> None:
    sampling = Sampling(clips=1, frames=2, size=size)
    source = StillSource([Picture(seed, 2, height, width), Picture(seed + 1, 1, width, height)], PRESETS[preset])
    videos = VideoSource([Video("v", 2, height=height + 30, width=width + 30)], PRESETS[preset])
    for drawn in (source, videos):
        example = drawn.draw(0, np.random.default_rng(seed), sampling)
        assert example is None or example[0].shape == (2, size, size, 3)


def test_frames_of_a_picture_move() -> None:
    frames, masks = some(StillSource([Picture(1)], PRESETS["paper"]), TINY, 1)[0]
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(frames[1], frames[2])


def test_pasted_objects_lie_over_the_picture_and_move_apart_from_it() -> None:
    """The picture's object fills it, so a pasted one is seen where it hides it."""

    class Full:
        def read(self) -> tuple[np.ndarray, np.ndarray]:
            return np.full((40, 40, 3), (0, 0, 200), np.uint8), np.ones((40, 40), np.uint8)

    source = StillSource([Full(), Picture(2), Picture(3)], PRESETS["paper"])
    covers = []
    for frames, masks in some(source, TINY, 60, index=0):
        blue = int(np.bincount(masks[0][frames[0][..., 2] == 200], minlength=2).argmax())
        for number in set(np.unique(masks)) - {0, VOID, blue}:
            inside = masks == number
            red = (frames[inside] == (255, 0, 0)).all(axis=-1)
            if red.mean() > 0.5:  # not another blue square
                covers.append(inside)
    assert len(covers) > 20
    assert any(not np.array_equal(cover[0], cover[1]) for cover in covers)


def test_pictures_are_never_pasted_over_themselves_nor_twice() -> None:
    """Three pictures have three colours, and a clip has each at most once."""

    class Square:
        def __init__(self, colour: int) -> None:
            self.colour = colour

        def read(self) -> tuple[np.ndarray, np.ndarray]:
            mask = np.zeros((40, 40), np.uint8)
            mask[8:32, 8:32] = 1
            return np.full((40, 40, 3), self.colour, np.uint8), mask

    source = StillSource([Square(50), Square(120), Square(190)], PRESETS["paper"])
    for frames, masks in some(source, TINY, 40):
        ids = set(np.unique(masks[0])) - {0, VOID}
        colours = {int(np.median(frames[0][masks[0] == number])) for number in ids}
        assert len(colours) == len(ids)
    assert some(StillSource([Square(50)], PRESETS["paper"]), TINY, 5)


def test_a_picture_alone_is_never_pasted_on_by_stcn() -> None:
    source = StillSource([Picture(1), Picture(2)], PRESETS["stcn"])
    assert {int(masks.max()) for _, masks in some(source, TINY, 20)} == {1}


def test_void_stays_void() -> None:
    source = StillSource([Picture(1, void=True, width=60)], Preset(Augmentation(crop=SquareCrop(1.0)), Augmentation()))
    ((_, masks),) = some(source, TINY, 1)
    assert (masks[:, :3] == VOID).all()
    assert not (masks[:, 5:] == VOID).any()
    seen = [masks for _, masks in some(StillSource([Picture(1, void=True)], PRESETS["paper"]), TINY, 20)]
    assert any((masks == VOID).any() for masks in seen)


def test_too_small_and_absent_objects_give_no_clip() -> None:
    class Speck:
        def __init__(self, side: int) -> None:
            self.side = side

        def read(self) -> tuple[np.ndarray, np.ndarray]:
            mask = np.zeros((64, 64), np.uint8)
            mask[30 : 30 + self.side, 30 : 30 + self.side] = 1
            return np.zeros((64, 64, 3), np.uint8), mask

    source = StillSource([Speck(0), Speck(1), Speck(20)], PRESETS["stcn"])
    draws = [[source.draw(index, np.random.default_rng(seed), TINY) for seed in range(9)] for index in range(3)]
    assert not any(draws[0])
    assert not any(draws[1])
    assert all(draws[2])


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 40), frames=st.integers(1, 6), max_skip=st.integers(0, 30), seed=st.integers(0, 99))
def test_times_are_in_order_and_within_the_skip(length: int, frames: int, max_skip: int, seed: int) -> None:
    length = max(length, frames)
    times = draw_times(length, frames, max_skip, np.random.default_rng(seed))
    assert len(times) == frames
    assert times[0] >= 0
    assert times[-1] < length
    assert ((np.diff(times) >= 1) & (np.diff(times) <= max_skip + 1)).all()


def test_every_skip_and_every_start_is_drawn() -> None:
    draws = [draw_times(20, 3, 2, np.random.default_rng(seed)) for seed in range(600)]
    gaps = Counter(int(gap) for times in draws for gap in np.diff(times))
    assert set(gaps) == {1, 2, 3}
    assert min(gaps.values()) > 300
    assert {int(times[0]) for times in draws} == set(range(18))
    assert {int(times[-1]) for times in draws} >= set(range(4, 20))


def shown_times(frames: np.ndarray) -> list[int]:
    return [int(frame[-1, -1, 0]) for frame in frames]


def test_frames_and_masks_of_a_video_are_of_the_same_times_in_order() -> None:
    source = VideoSource([Video("a", 30)], WHOLE)
    for frames, masks in some(source, TINY, 20):
        times = shown_times(frames)
        assert ((np.diff(times) >= 1) & (np.diff(times) <= 3)).all()
        assert ((masks == 1) != (frames[..., 1] > 127)).mean() < 0.005  # pixels on an edge


def test_half_of_stcn_clips_run_backwards() -> None:
    backwards = Preset(WHOLE.stills, WHOLE.videos, reverse=0.5)
    seen = [shown_times(frames) for frames, _ in some(VideoSource([Video("a", 30)], backwards), TINY, 60)]
    assert 15 < sum(times[0] > times[1] > times[2] for times in seen) < 45
    assert 15 < sum(times[0] < times[1] < times[2] for times in seen) < 45


def test_max_skip_is_divided_by_the_interval() -> None:
    source = VideoSource([Video("a", 60)], WHOLE, interval=5)
    sampling = Sampling(clips=1, frames=3, size=32, max_skip=14)
    gaps = {int(gap) for frames, _ in some(source, sampling, 60) for gap in np.diff(shown_times(frames))}
    assert gaps == {1, 2, 3}


def test_objects_that_appear_later_are_background() -> None:
    source = VideoSource([Video("a", 6, later=1)], WHOLE)
    for frames, masks in some(source, TINY, 20):
        assert int(masks.max()) == (1 if shown_times(frames)[0] == 0 else 2)


def test_at_most_max_objects_are_kept_each_as_often() -> None:
    source = VideoSource([Video("a", 6, later=0)], WHOLE)
    one = Sampling(clips=1, frames=2, size=32, max_objects=1)
    first = [bool(masks[0][:, :12].any()) for _, masks in some(source, one, 60)]
    assert 15 < sum(first) < 45


def test_faults_of_videos_are_named() -> None:
    with pytest.raises(MediaError, match="no video has two annotated frames"):
        VideoSource([Video("a", 1)], WHOLE)
    with pytest.raises(ArgumentError, match=r"frames must be at most 4, .*; got 5"):
        VideoSource([Video("a", 4)], WHOLE).draw(0, np.random.default_rng(0), Sampling(1, frames=5, size=32))
    assert (
        VideoSource([Video("a", 4), Video("b", 9)], WHOLE).draw(0, np.random.default_rng(0), Sampling(1, 5, 32)) is None
    )
    broken = Video("a", 3)
    broken.broken = "00001"
    with pytest.raises(MediaError, match=r"00001\.jpg"):
        VideoSource([broken], WHOLE).draw(0, np.random.default_rng(0), TINY)
    odd = Video("a", 3)
    odd.read_frame = lambda name: np.zeros((48, 64, 3), np.uint8)  # type: ignore[method-assign]
    odd.read_truth = lambda name: np.ones((48, 63 + (name == "00000")), np.uint8)  # type: ignore[method-assign]
    with pytest.raises(MediaError, match="mask 00001 of a is 63x48 pixels, and frame 00000 64x48"):
        VideoSource([odd], WHOLE).draw(0, np.random.default_rng(0), TINY)


def test_specks_that_shrinking_removes_give_no_clip() -> None:
    """A large frame is shrunk before it is cropped."""
    video = Video("a", 3, height=640, width=640)

    def read_truth(name: str) -> np.ndarray:
        mask = np.zeros((640, 640), np.uint8)
        mask[1, 1] = 1
        return mask

    video.read_truth = read_truth  # type: ignore[method-assign]
    assert VideoSource([video], WHOLE).draw(0, np.random.default_rng(0), TINY) is None


def test_a_mask_without_a_frame_is_named() -> None:
    video = Video("a", 3)
    video.read_frame = lambda name: {}[name]  # type: ignore[method-assign]
    with pytest.raises(MediaError, match="a has a mask of frame 00000 but no such frame"):
        VideoSource([video], WHOLE).draw(0, np.random.default_rng(0), TINY)


def test_sparse_annotation_is_told() -> None:
    sparse = Video("a", 4)
    sparse.frame_names = lambda: [f"{number:05d}" for number in range(16)]  # type: ignore[method-assign]
    with pytest.warns(MediaNotice, match="4 of the 16 frames of a are annotated: .* max_skip counts annotated frames"):
        VideoSource([sparse], WHOLE)
    with pytest.warns(MediaNotice, match="max_skip is divided by 5"):
        VideoSource([sparse], WHOLE, interval=5)


def test_a_pool_of_shorter_clips_is_refused(pool: ClipPool) -> None:
    with pytest.raises(ArgumentError, match="frames must be at most 4"):
        SyntheticSource(pool).draw(0, np.random.default_rng(0), Sampling(1, frames=5, size=32))


class Numbered:
    """A source whose clips say what was drawn."""

    def __init__(self, length: int) -> None:
        self.drawn = Counter[int]()
        self.length = length

    def __len__(self) -> int:
        return self.length

    def draw(self, index: int, rng: np.random.Generator, sampling: Sampling) -> None:
        assert 0 <= index < self.length
        self.drawn[index] += 1


def test_an_epoch_of_a_mixture_draws_each_source_as_often_as_it_says() -> None:
    first, second = Numbered(3), Numbered(2)
    mixed = MixedSource(((first, 1), (second, 5)))
    assert len(mixed) == 3 + 5 * 2
    for index in range(len(mixed)):
        mixed.draw(index, np.random.default_rng(0), TINY)
    assert first.drawn == {0: 1, 1: 1, 2: 1}
    assert second.drawn == {0: 5, 1: 5}


def test_faults_of_mixtures_are_named() -> None:
    with pytest.raises(ArgumentError, match="at least one source"):
        MixedSource(())
    with pytest.raises(ArgumentError, match="repeat must be at least 1, got 0"):
        MixedSource(((Numbered(1), 0),))


def test_sources_reach_other_processes(source: ClipSource) -> None:
    sent = pickle.dumps(source)
    assert len(sent) < 3000  # files are not sent
    again = pickle.loads(sent)
    for index in range(len(source)):
        first, second = (each.draw(index, np.random.default_rng(index), TINY) for each in (source, again))
        assert (first is None) == (second is None)
        if first is not None:
            np.testing.assert_array_equal(first[0], second[0])


@pytest.mark.filterwarnings("ignore::stm_fast.media.notices.MediaNotice")
@pytest.mark.parametrize("layout", sorted(VIDEO_MAKERS))
def test_clips_of_every_layout_of_videos(layout: str, tmp_path: Path) -> None:
    """Objects of the miniatures have a colour each, which must be found under each id of a clip."""
    root = VIDEO_MAKERS[layout](tmp_path)
    subset = {"sa-v": "sav_val", "long-video": None, "folder": None}.get(layout, "train")
    source = VideoSource(open_videos(layout, root, subset), PRESETS["paper"])
    for frames, masks in some(source, Sampling(clips=1, frames=2, size=48, max_skip=1), 6):
        for number in set(np.unique(masks[0])) - {0, VOID}:
            colour = np.median(frames[masks == number], axis=0)
            assert sorted(colour > 127) == [False, False, True]


@pytest.mark.parametrize("layout", sorted(STILL_MAKERS))
def test_clips_of_every_layout_of_stills(layout: str, tmp_path: Path) -> None:
    source = StillSource(open_stills(layout, STILL_MAKERS[layout](tmp_path)), PRESETS["paper"])
    assert len(some(source, TINY, 4)) == 4


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    source = VideoSource(open_videos("davis2017", VIDEO_MAKERS["davis2017"](tmp_path), "train"), PRESETS["paper"])
    for file in (tmp_path / "JPEGImages" / "480p").glob("*/00001.jpg"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(MediaError, match=r"00001\.jpg"):
        some(source, TINY, 20)
