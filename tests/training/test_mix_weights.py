"""Weights between those of two stages."""

import pytest
import torch

from stm_fast.models.compact import compact_stm
from stm_fast.models.stm import STM
from tools.mix_weights import mixed


def filled(value: float) -> STM:
    network = compact_stm()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)
    return network


def test_a_share_of_the_query_and_all_of_the_rest_is_the_second_s() -> None:
    network = mixed(filled(1.0), filled(2.0), 0.6)
    for name, parameter in network.named_parameters():
        of_query = name.startswith(("query_encoder.", "query_head."))
        assert torch.allclose(parameter, torch.tensor(1.6 if of_query else 2.0)), name


def test_a_share_beyond_the_whole_is_refused() -> None:
    with pytest.raises(SystemExit, match="share must be in"):
        mixed(filled(1.0), filled(2.0), 1.5)
