"""First masks without painting: from boxes and points to the mask of an object in one frame."""

from stm_fast.prompters.hints import Box, Hints, Point
from stm_fast.prompters.label_map import label_map
from stm_fast.prompters.registry import Prompter, available_prompters, make_prompter

__all__ = ["Box", "Hints", "Point", "Prompter", "available_prompters", "label_map", "make_prompter"]
