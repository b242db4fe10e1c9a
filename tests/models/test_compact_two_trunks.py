"""The compact model of earlier versions, with two trunks."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from stm_fast.models.compact_two_trunks import two_trunk_stm
from stm_fast.models.decoder import Decoder, FineDecoder, upsample
from stm_fast.models.weight_files import load_model, save_model


def test_strides_and_channels() -> None:
    model = two_trunk_stm().eval()
    query = model.encode_query(torch.rand(2, 3, 64, 96))
    assert query.key.shape == (2, 64, 4, 6)
    assert query.value.shape == (2, 256, 4, 6)
    assert [tuple(skip.shape[2:]) for skip in query.skips] == [(8, 12), (16, 24), (32, 48)]
    assert model.decode(torch.rand(2, 256, 4, 6), query).shape == (2, 64, 96)


def test_one_frame_serves_all_its_objects() -> None:
    model = two_trunk_stm().eval()
    frame, masks = torch.rand(1, 3, 48, 32), torch.rand(3, 1, 48, 32)
    together = model.encode_memory(frame, masks, 1 - masks)
    apart = model.encode_memory(frame.expand(3, -1, -1, -1), masks, 1 - masks)
    for seen, wanted in zip(together, apart, strict=True):
        assert torch.allclose(seen, wanted, atol=1e-5)


def test_the_fine_decoder_corrects_what_the_coarse_one_says() -> None:
    decoder = FineDecoder(8, (6, 5, 4), channels=16, fine_channels=8).eval()
    coarse = Decoder(8, (6, 5), channels=16).eval()
    coarse.load_state_dict(decoder.state_dict(), strict=False)
    readout, value = torch.rand(2, 8, 2, 3), torch.rand(1, 8, 2, 3)
    skips = torch.rand(1, 6, 4, 6), torch.rand(1, 5, 8, 12), torch.rand(1, 4, 16, 24)
    corrected = decoder(readout, value, skips)
    assert corrected.shape == (2, 2, 32, 48)
    with torch.no_grad():
        decoder.correct.weight.zero_()
        decoder.correct.bias.zero_()
    plain = decoder(readout, value, skips)
    assert not torch.allclose(corrected, plain, atol=1e-3)
    stride4 = coarse.predict(coarse.refine(readout, value, *skips[:2]))
    assert torch.allclose(plain, upsample(upsample(stride4, 2), 2), atol=1e-5)


@pytest.mark.parametrize(("shorter_side", "best"), [(1080, 608), (608, 608), (480, 608), (270, 360)])
def test_small_frames_are_enlarged_by_a_third_at_most(shorter_side: int, best: int) -> None:
    assert two_trunk_stm().card.best_size(shorter_side) == best


def test_files_of_earlier_versions_load_by_path(tmp_path: Path) -> None:
    model, path = two_trunk_stm(), tmp_path / "compact.safetensors"
    save_model(model, path, architecture="compact-two-trunks", dtype=torch.float32)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"architecture": "compact"}
    loaded = load_model(path).state_dict()
    assert all(torch.equal(weight, loaded[name]) for name, weight in model.state_dict().items())
