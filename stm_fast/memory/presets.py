"""Policies that have a name."""

from stm_fast.memory.certainty import Certain
from stm_fast.memory.evictions import LeastUsed, LongTerm, MostAlike
from stm_fast.memory.policies import MemoryPolicy

LONG_TERM_FRAMES = 20
DIVERSE_FRAMES = 20


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
