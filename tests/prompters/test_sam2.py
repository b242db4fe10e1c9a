"""Segment Anything 2 by transformers: a tiny network of random weights, and one whose answers are known."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from stm_fast.errors import WeightsError
from stm_fast.prompters import Hints
from stm_fast.prompters.sam2 import Sam2Prompter

SIDE = 64
IMAGE = np.random.default_rng(0).integers(0, 255, (48, 96, 3), np.uint8)


class Known(torch.nn.Module):
    """A network that fills the box it is given, and notes what it was asked."""

    asked = None

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(prompt_encoder_config=SimpleNamespace(image_size=SIDE))

    @classmethod
    def from_pretrained(cls, name, *, local_files_only):
        if name == "absent":
            raise OSError("no such weights")
        cls.local = local_files_only
        return cls()

    def forward(self, pixel_values, multimask_output, **given):
        Known.asked = {"multimask_output": multimask_output, "pixels": pixel_values.shape, **given}
        logits = torch.full((1, 1, 3, SIDE, SIDE), -1.0)
        if "input_boxes" in given:
            x0, y0, x1, y1 = given["input_boxes"].flatten().round().int().tolist()
            logits[0, 0, 1, y0:y1, x0:x1] = 1
        return SimpleNamespace(pred_masks=logits, iou_scores=torch.tensor([[[0.1, 0.9, 0.2]]]))


@pytest.fixture
def known(monkeypatch):
    module = ModuleType("transformers")
    module.Sam2Model = Known
    monkeypatch.setitem(sys.modules, "transformers", module)


def test_coordinates_are_those_of_the_square(known):
    found = Sam2Prompter("somewhere")(
        IMAGE, Hints(boxes=((24, 12, 72, 36),), foreground=((48, 24),), background=((2, 2),))
    )
    asked = Known.asked
    assert Known.local
    assert asked["pixels"] == (1, 3, SIDE, SIDE)
    assert asked["input_labels"].tolist() == [[[1, 0]]]
    torch.testing.assert_close(asked["input_points"][0, 0, 0], torch.tensor([48.5 * SIDE / 96, 24.5 * SIDE / 48]))
    wanted = np.zeros((48, 96), bool)
    wanted[12:36, 24:72] = True
    assert (found & wanted).sum() / (found | wanted).sum() > 0.9


def test_each_box_is_a_part(known):
    found = Sam2Prompter("somewhere")(IMAGE, Hints(boxes=((0, 0, 24, 24), (60, 30, 96, 48))))
    assert found[10, 10]
    assert found[40, 80]
    assert not found[10, 80]


def test_a_mask_is_given_as_logits(known):
    mask = np.zeros((48, 96), bool)
    mask[:24] = True
    Sam2Prompter("somewhere")(IMAGE, Hints(foreground=((48, 24),)), mask)
    assert not Known.asked["multimask_output"]
    assert Known.asked["input_masks"][0, 0, :24].min() == 10
    assert Known.asked["input_masks"][0, 0, 24:].max() == -10


def test_weights_that_are_not_there_are_named(known, monkeypatch):
    with pytest.raises(WeightsError, match=r"absent.*no such weights.*STM_FAST_SAM2"):
        Sam2Prompter("absent")
    monkeypatch.setenv("STM_FAST_SAM2", "absent")
    with pytest.raises(WeightsError, match="absent"):
        Sam2Prompter()


def test_a_network_of_transformers_takes_all_hints(tmp_path):
    sam2 = pytest.importorskip("transformers.models.sam2.configuration_sam2")
    from transformers import Sam2Model

    trunk = sam2.Sam2HieraDetConfig(
        hidden_size=12,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[12, 24, 48, 96],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 4],
        global_attention_blocks=[3],
    )
    vision = sam2.Sam2VisionConfig(
        backbone_config=trunk,
        backbone_channel_list=[96, 48, 24, 12],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )
    prompts = sam2.Sam2PromptEncoderConfig(hidden_size=32, image_size=SIDE, patch_size=16)
    decoder = sam2.Sam2MaskDecoderConfig(hidden_size=32, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32)
    config = sam2.Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    Sam2Model(config).save_pretrained(tmp_path)
    prompter = Sam2Prompter(str(tmp_path))
    for hints in (Hints(boxes=((4, 4, 40, 30),)), Hints(foreground=((9, 9),), background=((60, 20),))):
        for mask in (None, np.eye(48, 96, dtype=bool)):
            found = prompter(IMAGE, hints, mask)
            assert (found.shape, found.dtype) == ((48, 96), bool)
