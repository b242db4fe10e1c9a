"""What a loop over exported parts has to know of a network."""

import stm_fast
from stm_fast.models.stm import STM


def facts(model: STM) -> dict[str, str]:
    """Return facts as texts by name, which every exported file carries. Their meaning is in docs/runtimes.md."""
    card = model.card
    return {
        "stm_fast.version": stm_fast.__version__,
        "stm_fast.stride": str(model.stride),
        "stm_fast.input": "RGB in [0, 1]; it is normalised inside",
        "stm_fast.padding": f"zeros to multiples of {model.stride}, the larger half right and bottom",
        "stm_fast.aggregation": "inside: the probabilities of background and objects sum to one",
        "stm_fast.working_size": str(card.working_size),
        "stm_fast.max_enlargement": str(card.max_enlargement),
        "stm_fast.hole_size": str(card.hole_size),
        "stm_fast.top_k": "all" if card.top_k is None else str(card.top_k),
        "stm_fast.shares_keys": str(model.shares_keys).lower(),
        "stm_fast.guided": str(model.guided).lower(),
    }
