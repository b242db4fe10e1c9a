"""STCN's network for training: it reads with a module of its own."""

import torch
from torch import Tensor, nn

from tests.integrations.others.stcn_similarity import _similarity


class Decoder(nn.Module):
    def forward(self, readout: Tensor) -> Tensor:
        return readout.mean(1)


class MemoryReader(nn.Module):
    def get_affinity(self, mk: Tensor, qk: Tensor) -> Tensor:
        return _similarity(mk.flatten(2), qk.flatten(2)).softmax(1)

    def readout(self, affinity: Tensor, mv: Tensor, qv: Tensor) -> Tensor:
        return torch.cat([torch.bmm(mv.flatten(2), affinity).view_as(mv[:, :, 0]), qv], 1)


class STCN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory, self.decoder = MemoryReader(), Decoder()
