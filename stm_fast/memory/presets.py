"""Policies that have a name."""

from dataclasses import replace

from stm_fast.memory.certainty import Certain, WhenFull
from stm_fast.memory.evictions import LeastUsed, LongTerm, MostAlike
from stm_fast.memory.policies import MemoryPolicy

AUTO_FRAMES = 25
"""Frames that `auto` remembers before it consolidates: every clip of DAVIS, of 104 frames at most, is read as the paper
does."""
LONG_TERM_FRAMES = 20
DIVERSE_FRAMES = 20


def auto(frames: int = AUTO_FRAMES, every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """Return a policy that is `official` for a short video and `long_term` for the rest of a longer one.

    Until an object has `frames` frames in memory nothing goes. Then the older half of the working frames becomes
    prototypes, again and again, and frames that the network is not sure of stay no more: memory and the time of a frame
    are bounded.
    """
    policy = long_term(frames, every, max_bytes)
    return replace(policy, admission=WhenFull(Certain(), frames))


def official(every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """The first frame, every n-th and the previous one (STM paper, section 3.5); nothing goes while there is room."""
    return MemoryPolicy(every=every, max_bytes=max_bytes)


def window(frames: int, every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """The same, but of so many frames: the oldest goes that was not annotated."""
    return MemoryPolicy(every=every, max_frames=frames, max_bytes=max_bytes)


def least_used(frames: int, every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """So many frames: the one goes that was read least."""
    return MemoryPolicy(every=every, max_frames=frames, max_bytes=max_bytes, eviction=LeastUsed())


def long_term(frames: int = LONG_TERM_FRAMES, every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """So many working frames, the older half of which become prototypes when there is no more room, as in XMem.

    Frames that the network is not sure of do not become either.
    """
    eviction = LongTerm(recent=max(frames, 0) // 2)
    return MemoryPolicy(every=every, max_frames=frames, max_bytes=max_bytes, admission=Certain(), eviction=eviction)


def diverse(frames: int = DIVERSE_FRAMES, every: int = 5, max_bytes: int | None = None) -> MemoryPolicy:
    """So many frames that differ: but for the last quarter, five at most, the one goes that is most like another.

    Frames that the network is not sure of do not stay.
    """
    eviction = MostAlike(recent=min(MostAlike.recent, max(frames, 0) // 4))
    return MemoryPolicy(every=every, max_frames=frames, max_bytes=max_bytes, admission=Certain(), eviction=eviction)
