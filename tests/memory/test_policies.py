import math

import pytest

from stm_fast import MemoryPolicy
from stm_fast.memory import presets


def test_the_default_is_the_official_policy() -> None:
    policy = MemoryPolicy()
    assert [index for index in range(12) if policy.keeps(index, annotated=index == 0)] == [0, 5, 10]
    assert all(policy.memorises(index, annotated=False) for index in range(12))
    assert policy.pins(annotated=True)
    assert not policy.pins(annotated=False)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (MemoryPolicy(every=None), [0, 7]),
        (MemoryPolicy(every=None, keep_first=False), []),
        (MemoryPolicy(every=3, keep_first=False), [0, 3, 6, 9]),
        (MemoryPolicy(every=4, keep_previous=False), [0, 4, 7, 8]),
    ],
)
def test_what_is_kept_of_a_video_annotated_twice(policy: MemoryPolicy, kept: list[int]) -> None:
    assert [index for index in range(10) if policy.keeps(index, annotated=index in (0, 7))] == kept


def test_without_the_previous_frame_only_kept_ones_are_memorised() -> None:
    policy = MemoryPolicy(every=4, keep_previous=False)
    assert [index for index in range(10) if policy.memorises(index, annotated=index in (0, 7))] == [0, 4, 7, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every must be at least 1 or None, got 0"),
        ({"keep_first": False, "keep_previous": False}, "one of keep_first and keep_previous must be True"),
        ({"max_frames": 1}, "max_frames must be at least 2 with this policy or None, got 1"),
        ({"max_frames": 0, "keep_first": False}, "max_frames must be at least 1 with this policy or None, got 0"),
    ],
)
def test_bad_policies(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemoryPolicy(**arguments)


@pytest.mark.parametrize("name", ["every", "max_frames", "max_tokens", "max_bytes"])
@pytest.mark.parametrize("number", [2.5, math.nan, "3"])
def test_numbers_that_are_not_whole(name: str, number: object) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a whole number or None, got"):
        MemoryPolicy(**{name: number})


@pytest.mark.parametrize("preset", [presets.window, presets.least_used, presets.long_term, presets.diverse])
def test_too_few_frames_of_a_preset(preset) -> None:
    with pytest.raises(ValueError, match="max_frames must be at least 2 with this policy or None, got -1"):
        preset(-1)
