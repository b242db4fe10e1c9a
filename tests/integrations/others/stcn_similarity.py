"""STCN's similarity, for inference and training."""

from torch import Tensor


def _similarity(mk: Tensor, qk: Tensor) -> Tensor:
    return (2 * mk.mT @ qk - mk.square().sum(1)[..., None]) / mk.shape[1] ** 0.5
