"""The attention modules of AOT and DeAOT."""

import math

import torch
from torch import Tensor, nn


class MultiheadAttention(nn.Module):
    def __init__(
        self,
        d_model: int,
        num_head: int = 8,
        dropout: float = 0.0,
        use_linear: bool = True,
        use_dis: bool = False,
        max_mem_len_ratio: float = -1,
        top_k: int = -1,
    ) -> None:
        super().__init__()
        self.num_head, self.d_model, self.use_linear, self.use_dis = num_head, d_model, use_linear, use_dis
        self.T = (d_model // num_head) ** 0.5
        self.max_mem_len_ratio, self.top_k, self.drop_prob = float(max_mem_len_ratio), top_k, dropout
        if use_linear:
            self.linear_Q, self.linear_K, self.linear_V = (nn.Linear(d_model, d_model) for _ in range(3))
        self.dropout, self.projection = nn.Dropout(dropout), nn.Linear(d_model, d_model)

    def forward(self, Q: Tensor, K: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
        if self.use_linear:
            Q, K, V = self.linear_Q(Q), self.linear_K(K), self.linear_V(V)
        values, affinity = attention(self, Q, K, V)
        return self.projection(values), affinity


class GatedPropagation(nn.Module):
    def __init__(
        self,
        d_qk: int,
        d_vu: int,
        num_head: int = 8,
        dropout: float = 0.0,
        use_linear: bool = True,
        use_dis: bool = False,
        max_mem_len_ratio: float = -1,
        top_k: int = -1,
        expand_ratio: float = 2.0,
    ) -> None:
        super().__init__()
        self.expand_d_vu, self.d_vu = int(d_vu * expand_ratio), d_vu
        self.num_head, self.use_linear, self.use_dis = num_head, use_linear, use_dis
        self.T = (d_qk // num_head) ** 0.5
        self.max_mem_len_ratio, self.top_k, self.drop_prob = float(max_mem_len_ratio), top_k, dropout
        if use_linear:
            self.linear_QK = nn.Linear(d_qk, d_qk)
            half = (d_vu // 2, self.expand_d_vu // 2)
            self.linear_V1, self.linear_V2, self.linear_U1, self.linear_U2 = (nn.Linear(*half) for _ in range(4))
        self.dropout, self.dw_conv = nn.Dropout(dropout), Smooth()
        self.projection = nn.Linear(self.expand_d_vu, d_vu)

    def forward(self, Q: Tensor, K: Tensor, V: Tensor, U: Tensor, size_2d: tuple[int, int]) -> tuple[Tensor, Tensor]:
        if self.use_linear:
            Q = K = self.linear_QK(Q)
            V = self.both(V, self.linear_V1, self.linear_V2)
            U = self.both(U, self.linear_U1, self.linear_U2)
        values, affinity = attention(self, Q, K, V)
        return self.projection(self.dw_conv(values * U, size_2d)), affinity

    def both(self, tokens: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
        one, two = tokens.chunk(2, dim=-1)
        per_head = [half.unflatten(-1, (self.num_head, -1)) for half in (first(one), second(two))]
        return nn.functional.silu(torch.cat(per_head, -1).flatten(2))


class Smooth(nn.Module):
    """Stands for the depthwise convolution: any map on the grid."""

    def forward(self, tokens: Tensor, size_2d: tuple[int, int]) -> Tensor:
        grid = tokens.permute(1, 2, 0).unflatten(2, size_2d)
        return nn.functional.avg_pool2d(grid, 3, 1, 1).flatten(2).permute(2, 0, 1)


def attention(module: nn.Module, Q: Tensor, K: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
    query, key, value = (x.unflatten(2, (module.num_head, -1)).permute(1, 2, 0, 3) for x in (Q / module.T, K, V))
    ratio = len(K) / len(Q)
    if not module.training and 0 < module.max_mem_len_ratio < ratio:
        query = query * math.log(ratio) / math.log(module.max_mem_len_ratio)
    scores = query @ key.mT
    if module.use_dis:
        scores = 2 * scores - key.square().sum(-1)[..., None, :]
    if not module.training and 0 < module.top_k < scores.shape[-1]:
        kept = scores.topk(module.top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < kept, -math.inf)
    affinity = module.dropout(scores.softmax(-1))
    return (affinity @ value).permute(2, 0, 1, 3).flatten(2), affinity
