"""Which frames of which objects are scored, and the numbers of vos-benchmark on fixed masks."""

import numpy as np
import pytest

from stm_fast.data.clips import Clip
from stm_fast.data.video.sa_v import SavMask
from stm_fast.evaluation.clip_score import score_clip
from stm_fast.evaluation.finished import results_for, truth_in
from stm_fast.evaluation.object_score import MeanScore
from stm_fast.evaluation.protocol import DAVIS, VOS_BENCHMARK, protocol_of
from stm_fast.evaluation.score import score_set
from stm_fast.media.masks import write_mask

pytest.importorskip("vos_benchmark")

SIZE = (48, 64)
FRAMES = 7


def disk(row, column, radius, value):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.where((rows - row) ** 2 + (columns - column) ** 2 <= radius**2, value, 0).astype(np.uint8)


def over(below, above):
    return np.where(above > 0, above, below)


def scenes():
    """Clips of true and resulting masks: a moving pair, and an object that appears late, goes and comes back."""
    pair = [over(disk(20, 15 + 4 * i, 10, 1), disk(30, 45 - 3 * i, 8, 2)) for i in range(FRAMES)]
    found = [over(disk(21, 16 + 4 * i, 9, 1), disk(30, 45 - 4 * i, 8, 2)) for i in range(FRAMES)]
    late = [disk(24, 32, 6 + i, 3) if i in (2, 3, 5, 6) else np.zeros(SIZE, np.uint8) for i in range(FRAMES)]
    missed = [disk(24, 34, 6 + i, 3) if i in (3, 4, 5) else np.zeros(SIZE, np.uint8) for i in range(FRAMES)]
    return {"pair": (pair, found), "late": (late, missed)}


@pytest.fixture
def folders(tmp_path):
    """Folders of true and resulting masks, as vos-benchmark takes them."""
    for clip, kinds in scenes().items():
        for kind, masks in zip(("truth", "results"), kinds, strict=True):
            for index, mask in enumerate(masks):
                write_mask(tmp_path / kind / clip / f"{index:05d}.png", mask)
    return tmp_path / "truth", tmp_path / "results"


def scored(truth, results, protocol=VOS_BENCHMARK, void=None):
    dataset = truth_in(truth)
    scores, unscored = score_set(dataset, results_for(dataset, results), {}, void, protocol)
    assert not unscored
    return {(each.clip, each.object_id): each for each in scores}


def test_scores_are_those_of_vos_benchmark(folders):
    """Of its own function on the same folders, to the last bit."""
    from vos_benchmark.benchmark import benchmark

    truth, results = folders
    (jf,), (j,), (f,), (objects,) = benchmark([str(truth)], [str(results)], num_processes=1, verbose=False)
    found = scored(truth, results)
    theirs = {(clip, i): (js[i] / 100, fs[i] / 100) for clip, (js, fs) in objects.items() for i in js}
    assert found.keys() == theirs.keys()
    for key, each in found.items():
        assert (each.j, each.f) == pytest.approx(theirs[key], rel=1e-12)
    mean = MeanScore.of(found.values())
    assert (mean.jf * 100, mean.j * 100, mean.f * 100) == pytest.approx((jf, j, f), rel=1e-12)


GOLDEN = {
    "folder": {("late", 3): (0.3855, 0.2969), ("pair", 1): (0.6993, 0.5262), ("pair", 2): (0.6271, 0.5176)},
    "youtube-vos2019": {("late", 3): (0.3855, 0.2969), ("pair", 1): (0.7135, 0.5479), ("pair", 2): (0.5832, 0.4657)},
    "lvos": {("late", 3): (0.5139, 0.3959), ("pair", 1): (0.6993, 0.5262), ("pair", 2): (0.6271, 0.5176)},
    "vost": {("late", 3): (0.5084, 0.4375), ("pair", 1): (0.6993, 0.5262), ("pair", 2): (0.6271, 0.5176)},
}
"""J and F by vos-benchmark 0.1.0, whose boundary of 0.8 % of the diagonal is one pixel here."""
SCORED = {
    "folder": {"pair": range(1, 6), "late": range(2, 6)},
    "davis2017": {"pair": range(1, 6), "late": range(1, 6)},
    "mose": {"pair": range(1, 6), "late": range(1, 6)},
    "youtube-vos2019": {"pair": range(1, 7), "late": range(3, 7)},
    "lvos": {"pair": range(1, 6), "late": range(3, 6)},
    "vost": {"pair": range(1, 6), "late": range(1, 6)},
}
"""Frames in which the objects of each clip are scored."""


@pytest.mark.parametrize("layout", GOLDEN)
def test_golden_scores_of_fixed_masks(folders, layout):
    found = scored(*folders, protocol_of(layout))
    assert {key: (round(each.j, 4), round(each.f, 4)) for key, each in found.items()} == GOLDEN[layout]


def overlap(mask, truth):
    union = (mask | truth).sum()
    return (mask & truth).sum() / union if union else 1.0


@pytest.mark.parametrize("layout", SCORED)
def test_frames_that_are_scored(folders, layout):
    """J is the mean overlap over them, here computed apart."""
    for (clip, object_id), each in scored(*folders, protocol_of(layout)).items():
        truth, results = scenes()[clip]
        overlaps = [overlap(results[i] == object_id, truth[i] == object_id) for i in SCORED[layout][clip]]
        assert each.j == pytest.approx(np.mean(overlaps))
        assert each.j_last == (pytest.approx(np.mean(overlaps[-2:])) if layout == "vost" else None)


def test_the_last_quarter_of_five_frames_is_two(folders):
    assert scored(*folders, protocol_of("vost"))["pair", 1].j_last == pytest.approx(0.6406357)


@pytest.mark.parametrize(
    ("layout", "j"),
    [("folder", 1.0), ("youtube-vos", 1.0), ("davis2017", 0.5), ("mose", 0.5), ("vost", 0.5), ("lvos", 0.5)],
)
def test_void_is_left_out_or_background_as_the_toolkits_have_it(tmp_path, layout, j):
    truth, result = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    truth[:20, :20], truth[:20, 20:40], result[:20, :40] = 1, 255, 1
    files = {}
    for name in "abc":
        files[name] = tmp_path / "truth" / f"{name}.png"
        write_mask(files[name], truth)
        write_mask(tmp_path / "results" / f"{name}.png", result)
    (found,) = score_clip(Clip("clip", tmp_path, files, files), tmp_path / "results", 255, protocol_of(layout))
    assert found.j == pytest.approx(j)


def test_an_object_given_in_the_last_frame_alone_is_not_scored_after_it(tmp_path):
    files = {}
    for name, shown in (("a", 1), ("b", 1), ("c", 2)):
        files[name] = tmp_path / "truth" / f"{name}.png"
        write_mask(files[name], disk(20, 20, 8, shown))
        write_mask(tmp_path / "results" / f"{name}.png", disk(20, 20, 8, shown))
    clip = Clip("clip", tmp_path, files, files)
    found = score_clip(clip, tmp_path / "results", None, protocol_of("youtube-vos"))
    assert [each.object_id for each in found] == [1]


def test_objects_of_the_prompts_count_in_all_inner_frames_and_others_nowhere(tmp_path):
    """In the truth, object 1 is in the first frame alone, and object 2 appears after it."""
    files = {}
    for name, shown, found in (("a", 1, 1), ("b", 2, 0), ("c", 2, 1), ("d", 2, 2)):
        files[name] = tmp_path / "truth" / f"{name}.png"
        write_mask(files[name], disk(20, 20, 8, shown))
        write_mask(tmp_path / "results" / f"{name}.png", disk(20, 20, 8, found))
    first = Clip("clip", tmp_path, {"a": files["a"]}, files)
    every = Clip("clip", tmp_path, files, files)

    def j(clip, layout):
        return {each.object_id: each.j for each in score_clip(clip, tmp_path / "results", None, protocol_of(layout))}

    assert j(first, "davis2017") == j(first, "vost") == {1: 0.5}  # right in b, where it is not, and wrong in c
    assert j(every, "mose") == {1: 0.5, 2: 0.0}
    assert j(first, "folder") == {2: 0.0}  # vos-benchmark takes the objects of the scored truth


def test_versions_of_a_layout_have_its_protocol():
    assert protocol_of("youtube-vos2018").name == protocol_of("youtube-vos").name == "YouTube-VOS"
    assert protocol_of("davis2016") is protocol_of("davis2017") is DAVIS
    assert protocol_of("folder") is VOS_BENCHMARK


def test_objects_of_sa_v_have_frames_and_masks_of_their_own(tmp_path):
    """The hand lies over the person and takes its pixels in the result, which costs the person; it has no mask in a."""
    person, hand = disk(24, 30, 16, 1), disk(24, 36, 5, 1)
    truth = {}
    for name in "abcde":
        shown = {1: person} if name == "a" else {1: person, 2: hand}
        for object_id, mask in shown.items():
            write_mask(tmp_path / "truth" / str(object_id) / f"{name}.png", mask)
        truth[name] = SavMask({each: tmp_path / "truth" / str(each) / f"{name}.png" for each in shown})
        result = over(person, 2 * hand) if name in "bd" else person
        write_mask(tmp_path / "results" / f"{name}.png", result)
    clip = Clip("clip", tmp_path, truth, truth)
    one, two = score_clip(clip, tmp_path / "results", 255, protocol_of("sa-v"))
    alone = 1 - hand.sum() / person.sum()
    assert one.j == pytest.approx((2 * alone + 1) / 3)  # b, c and d
    assert two.j == pytest.approx(1 / 2)  # c and d
