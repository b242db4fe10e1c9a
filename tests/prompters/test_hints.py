"""Boxes and points: how they are written, and which cannot be used."""

import pytest

from stm_fast.errors import ArgumentError
from stm_fast.prompters import Box, Hints, Point
from stm_fast.prompters.hints import parse_hints

SIZE = (120, 200)


def test_texts_become_the_hints_of_each_object():
    found = parse_hints(["2:40,30,100,90"], ["1:5,6,+", "2:50,60,+", "1:7,8,-", "1:9,10,+"])
    assert list(found.items()) == [
        (1, Hints(foreground=(Point(5, 6), Point(9, 10)), background=(Point(7, 8),))),
        (2, Hints(boxes=(Box(40, 30, 100, 90),), foreground=(Point(50, 60),))),
    ]
    assert parse_hints([], []) == {}


@pytest.mark.parametrize("text", ["", "1", "40,30,100,90", "1:40,30,100", "1:a,30,100,90", "x:1,2,3,4", "1:1.5,2,3,4"])
def test_a_box_of_another_form_is_an_error(text):
    with pytest.raises(ArgumentError, match="ID:X0,Y0,X1,Y1") as error:
        parse_hints([text], [])
    assert error.value.argument == "box"


@pytest.mark.parametrize("text", ["1:5,6", "1:5,6,*", "1:5,+", "5,6,+", "1:5,6,7,+", "1:5,y,-"])
def test_a_point_of_another_form_is_an_error(text):
    with pytest.raises(ArgumentError, match=r"ID:X,Y,\+ or ID:X,Y,-") as error:
        parse_hints([], [text])
    assert error.value.argument == "point"


@pytest.mark.parametrize("text", ["0:5,6,+", "256:5,6,+"])
def test_ids_are_those_of_a_palette(text):
    with pytest.raises(ArgumentError, match="from 1 to 255"):
        parse_hints([], [text])


@pytest.mark.parametrize(
    ("hints", "problem"),
    [
        (Hints(), "got background alone"),
        (Hints(background=((5, 5),)), "got background alone"),
        (Hints(boxes=((10, 10, 10, 20),)), "x0 < x1"),
        (Hints(boxes=((10, 10, 201, 20),)), "200×120, got 10,10,201,20 of object 3"),
        (Hints(boxes=((-1, 10, 20, 20),)), "in the frame"),
        (Hints(foreground=((200, 5),)), "200×120, got 200,5 of object 3"),
        (Hints(foreground=((5, 5),), background=((5, -1),)), "in the frame"),
        (Hints(foreground=((5, 5),), background=((5, 5),)), "got both"),
        (Hints(boxes=((10, 10, 20, 20),), foreground=((20, 15),)), "outside of its boxes"),
        (Hints(foreground=((5.5, 5),)), "whole numbers"),
    ],
)
def test_hints_that_show_no_object_are_errors(hints, problem):
    with pytest.raises(ArgumentError, match=problem):
        hints.check(SIZE, "object 3")


def test_the_last_pixel_is_in_the_frame():
    Hints(boxes=((0, 0, 200, 120),), foreground=((199, 119),)).check(SIZE)


def test_background_alone_corrects_an_object_that_is_known():
    Hints(background=((5, 5),)).check(SIZE, known=True)
