"""Weights between those of two stages of a training: of the query's encoder and head a mean, of the rest the second's.

    python -m tools.mix_weights FIRST.safetensors SECOND.safetensors OUT.safetensors [--share 0.6]

A stage that begins from another's weights stays near them, so that a mean of both is a network too, and can be better
than either on what neither was trained on (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). Both
files are of the compact network. `make weights` makes the weights of the package so.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from stm_fast.models.stm import STM
from stm_fast.models.weight_files import load_model, save_model

QUERY = ("query_encoder.", "query_head.")


def mixed(first: STM, second: STM, share: float) -> STM:
    """Return the second network, of whose query's encoder and head the first keeps 1 - `share`; it is changed."""
    if not 0 <= share <= 1:
        raise SystemExit(f"share must be in [0, 1], got {share}")
    begin, end = first.state_dict(), second.state_dict()
    second.load_state_dict({name: _mean(begin[name], end[name], share, name) for name in end})
    return second


def _mean(first: Tensor, second: Tensor, share: float, name: str) -> Tensor:
    return torch.lerp(first, second, share) if name.startswith(QUERY) and second.is_floating_point() else second


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.6, help="of the second in the query's encoder and head")
    given = parser.parse_args()
    save_model(mixed(load_model(given.first), load_model(given.second), given.share), given.out, architecture="compact")
