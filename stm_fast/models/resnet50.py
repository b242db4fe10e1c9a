"""The original STM network (Oh et al., ICCV 2019)."""

from stm_fast.models.decoder import Decoder
from stm_fast.models.encoders import KeyValueHead, MemoryEncoder, QueryEncoder
from stm_fast.models.stm import STM


def resnet50_stm() -> STM:
    """Return an STM on two ResNet-50 trunks with random weights: 128 channels of keys, 512 of values.

    `stm_fast.load_model` loads the released weights into it.
    """
    return STM(
        query_encoder=QueryEncoder(),
        memory_encoder=MemoryEncoder(),
        query_head=KeyValueHead(1024, key_channels=128, value_channels=512),
        memory_head=KeyValueHead(1024, key_channels=128, value_channels=512),
        decoder=Decoder(value_channels=512, skip_channels=(512, 256), channels=256),
    )
