"""Policies, which decide which frames a memory keeps, and their parts."""

from stm_fast.memory.policies.admission import Certain, Novel, WhenFull, uncertainty
from stm_fast.memory.policies.base import Admission, Eviction, ObjectMemory
from stm_fast.memory.policies.eviction import LeastUsed, MostAlike, Oldest
from stm_fast.memory.policies.long_term import LongTerm
from stm_fast.memory.policies.novelty import distance
from stm_fast.memory.policies.policy import MemoryPolicy

__all__ = [
    "Admission",
    "Certain",
    "Eviction",
    "LeastUsed",
    "LongTerm",
    "MemoryPolicy",
    "MostAlike",
    "Novel",
    "ObjectMemory",
    "Oldest",
    "WhenFull",
    "distance",
    "uncertainty",
]
