"""Which frames are tracked, in which order, and what is refused."""

import sys

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import ArgumentError
from stm_fast.media.sources import open_frames
from stm_fast.tracking.route import Route
from stm_fast.tracking.sequence import FrameSequence

END = sys.maxsize


@pytest.fixture
def clip():
    """Ten frames, 00000 to 00009."""
    return FrameSequence(np.zeros((10, 8, 8, 3), np.uint8))


@pytest.fixture
def images(tmp_path):
    """Frames 1.png to 9.png, so that names are not numbers."""
    for name in range(1, 10):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    return open_frames(tmp_path)


@pytest.mark.parametrize(
    ("route", "passes"),
    [
        (Route(), (range(END),)),
        (Route(from_frame=4), (range(4, END),)),
        (Route("backward", 4), (range(4, -1, -1),)),
        (Route("both", "00004"), (range(4, END), range(4, -1, -1))),
        (Route(frames="2:7"), (range(2, 7),)),
        (Route(frames="2:7:2"), (range(2, 7, 2),)),
        (Route(frames="3:"), (range(3, END),)),
        (Route(frames=":"), (range(END),)),
        (Route(frames=":10"), (range(10),)),
        (Route(frames="00002:00007"), (range(2, 7),)),
        (Route("both", 5, "1:9:2"), (range(5, 9, 2), range(5, 0, -2))),
        (Route("both", 5, "::2"), (range(5, END, 2), range(5, 0, -2))),
        (Route("backward", 5, ":6:3"), (range(5, 1, -3),)),
    ],
)
def test_passes(clip, route, passes):
    assert route.passes(clip, route.start(clip)) == passes


def test_every_pass_begins_at_the_start_frame(clip):
    for route in (Route("both", 5, "::2"), Route("both", 0), Route("both", 9, "3:")):
        start = route.start(clip)
        assert [numbers[0] for numbers in route.passes(clip, start)] == [start, start]


@pytest.mark.parametrize(("direction", "start"), [("backward", 7), ("both", 2)])
def test_without_a_start_frame_masks_say_where_to_begin(clip, direction, start):
    route = Route(direction, frames=":8")
    assert route.start(clip) is None
    assert route.start_at_masks(clip, ["00002", "00007", "00009"]) == start


def test_names_come_before_numbers(images):
    assert Route(from_frame="9").start(images) == 8
    assert Route(from_frame=9).start(images) == 8
    assert Route(from_frame="0").start(images) == 0
    assert Route(frames="2:5").passes(images, 1) == (range(1, 4),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"direction": "up"}, "direction must be one of forward, backward, both, got up"),
        (
            {"from_frame": 10},
            "from_frame must name frames of the frames, such as 00000, or .* of 10, got 10",
        ),
        ({"from_frame": -1}, "from_frame must name frames .* got -1"),
        ({"from_frame": "x"}, "from_frame must name frames .* got x"),
        ({"frames": "5"}, r"frames must be A:B or A:B:S with S from 1, such as 100:200:2, got 5"),
        ({"frames": "1:5:0"}, "with S from 1.* got 1:5:0"),
        ({"frames": "1:5:-1"}, "with S from 1.* got 1:5:-1"),
        ({"frames": slice(5)}, r"frames must be a text such as 100:200:2, got slice"),
        ({"frames": "5:5"}, "frames must be A:B with A before B, got 5:5"),
        ({"frames": "0:11"}, "frames must name frames .* got 11"),
        ({"frames": "10:"}, "frames must name frames .* got 10"),
        ({"from_frame": 3, "frames": "0:9:2"}, "from_frame must be one of the frames 0:9:2, got 3"),
        ({"from_frame": 7, "frames": ":7"}, "from_frame must be one of the frames :7, got 7"),
    ],
)
def test_what_cannot_be_tracked(clip, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        Route(**arguments).start(clip)


def test_masks_outside_the_range_do_not_say_where_to_begin(clip):
    with pytest.raises(ArgumentError, match="from_frame must be given to track backward"):
        Route("backward", frames=":5").start_at_masks(clip, ["00007"])
