"""Frames that are worth annotating: the least certain ones, spread over the clip."""

import itertools
import json
import math

import pytest

from stm_fast.errors import MediaError
from stm_fast.evaluation.suggest import Absence, Sight, read_sights, suggest


def clip(uncertainties, object_id=1, area=100):
    return {
        f"{index:05d}": {object_id: Sight(area if value is None or value else 0, value or None)}
        for index, value in enumerate(uncertainties)
    }


def write(folder, *lines):
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "frames.jsonl").write_text("\n".join(texts) + "\n")


def line(frame, uncertainty, object_id="1", area=7):
    return {"frame": frame, "objects": {object_id: {"area": area, "uncertainty": uncertainty}}}


def test_least_certain_frames_are_spread_over_the_clip():
    values = [0.3] * 100
    values[40:50] = [0.9, 0.91, 0.92, 0.93, 0.99, 0.94, 0.95, 0.96, 0.97, 0.98]
    values[80] = 0.6
    (found,) = suggest(clip(values), count=2)
    assert [(doubt.frame, doubt.index) for doubt in found.least_certain] == [("00044", 44), ("00080", 80)]
    assert (found.object_id, found.usual) == (1, 0.3)
    assert found.least_certain[0].times_usual == pytest.approx(3.3)
    assert found.least_certain[0].area == 100


@pytest.mark.parametrize("length", [1, 2, 5, 10, 97])
@pytest.mark.parametrize("count", [1, 3, 10])
def test_as_many_frames_as_asked_where_there_are_enough(length, count):
    (found,) = suggest(clip([0.3 + 0.001 * index for index in range(length)]), count)
    indices = sorted(doubt.index for doubt in found.least_certain)
    assert len(indices) >= min(length, max(1, count // 2))
    assert len(indices) <= count
    assert all(later - earlier > length // (2 * count) for earlier, later in itertools.pairwise(indices))


def test_given_masks_are_no_doubt_and_no_absence():
    (found,) = suggest(clip([None, 0.3, 0.4, None, 0.2]), count=5)
    assert [doubt.index for doubt in found.least_certain] == [2, 1, 4]
    assert found.absences == ()


def test_absences_begin_once_the_object_was_there_and_the_longest_are_told():
    (found,) = suggest(clip([0, 0, 0.3, 0, 0.3, 0, 0, 0, 0.3, 0, 0]), count=2)
    assert found.absences == (Absence("00005", "00007", 3), Absence("00009", "00010", 2))


def test_objects_are_apart_and_may_join_late():
    sights = clip([0.3, 0.3, 0.6, 0.3])
    sights["00002"] = sights["00002"] | {12: Sight(5, None)}
    sights["00003"] = sights["00003"] | {12: Sight(5, 0.8)}
    first, second = suggest(sights, 1)
    assert (first.object_id, first.least_certain[0].frame) == (1, "00002")
    assert (second.object_id, second.least_certain[0].frame, second.absences) == (12, "00003", ())


def test_an_object_of_unknown_uncertainty_has_no_doubts():
    (found,) = suggest(clip([None, None]))
    assert (found.usual, found.least_certain, found.absences) == (None, (), ())


def test_count_out_of_range():
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        suggest(clip([0.3]), 0)


def test_later_notes_count_and_broken_lines_are_passed_over(tmp_path):
    write(tmp_path, line("a", 0.1), line("b", None), "", line("a", 0.2), '{"frame": "c", "obj')
    sights = read_sights(tmp_path)
    assert list(sights) == ["a", "b"]
    assert sights["a"][1] == Sight(7, 0.2)
    assert sights["b"][1].uncertainty is None


def test_not_a_number_is_not_known(tmp_path):
    write(tmp_path, line("a", math.nan))
    assert read_sights(tmp_path)["a"][1].uncertainty is None


def test_folders_without_notes(tmp_path):
    with pytest.raises(MediaError, match=r"frames\.jsonl does not exist"):
        read_sights(tmp_path)
    with pytest.raises(MediaError, match=r"frames\.jsonl does not exist"):
        read_sights(tmp_path / "nowhere")
    write(tmp_path, "nothing")
    with pytest.raises(MediaError, match="holds no frame"):
        read_sights(tmp_path)
