"""How many tokens of a memory each location reads."""

import torch

from stm_fast.errors import ArgumentError
from stm_fast.memory.bank import MemoryBank
from stm_fast.models.card import ModelCard


def readable_top_k(wanted: int | str | None, card: ModelCard, memory: MemoryBank) -> int | None:
    """Return how many tokens each location reads; None for all of them.

    Args:
        wanted: a number; None for all; "auto" for as many as suit the model, or all of them if the memory is read part
            by part.
        card: of the model.
        memory: the memory.

    Raises:
        ArgumentError: not one of these.
        ValueError: a number, and the memory is read part by part.
    """
    ways = {
        "a store": memory.store is not None,
        "values in int8": memory.value_dtype == torch.int8,
        "a memory in parts": memory.part is not None,
    }
    in_parts = next((name for name, is_so in ways.items() if is_so), None)
    if wanted == "auto":
        return card.top_k if in_parts is None else None
    if wanted is None:
        return None
    if isinstance(wanted, str) or wanted < 1:
        raise ArgumentError("top_k", f'must be at least 1, "auto" or None, got {wanted!r}')
    if in_parts is not None:
        raise ValueError(
            f"top_k must be None with {in_parts}, which is read part by part: the best tokens of a part are not the "
            f"best of all, got {wanted}"
        )
    return wanted
