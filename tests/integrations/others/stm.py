"""The memory module of the official STM."""

import torch
from torch import Tensor, nn


class Memory(nn.Module):
    def forward(self, m_in: Tensor, m_out: Tensor, q_in: Tensor, q_out: Tensor) -> tuple[Tensor, Tensor]:
        affinity = (m_in.flatten(2).mT @ q_in.flatten(2) / m_in.shape[1] ** 0.5).softmax(1)
        return torch.cat([(m_out.flatten(2) @ affinity).view_as(m_out[:, :, 0]), q_out], 1), affinity
