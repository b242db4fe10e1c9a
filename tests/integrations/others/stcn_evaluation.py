"""STCN's network for evaluation: it reads with the bank that it is handed, and shares the decoder with training."""

from torch import Tensor, nn

from tests.integrations.others.stcn_network import Decoder


class STCN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder = Decoder()

    def segment_with_query(self, mem_bank: object, qk: Tensor) -> Tensor:
        return self.decoder(mem_bank.match_memory(qk))
