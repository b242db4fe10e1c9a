"""The code of the page on other runtimes runs."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "runtimes.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S)


@pytest.mark.parametrize(
    ("names", "needs", "made"),
    [
        ("HubSTM", "huggingface_hub", "mine/model.safetensors"),
        ("translations", "onnxscript", "reader.onnx"),
        pytest.param("export_onnx", "onnxruntime", "models/decode_unguided.onnx", marks=pytest.mark.slow),
        pytest.param("export_programs", "torch", "programs/step.pt2", marks=pytest.mark.slow),
    ],
)
def test_code_of_the_page_runs(
    names: str, needs: str, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(needs)
    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in BLOCKS if names in block]
    exec(compile(code, "docs/runtimes.md", "exec"), {"__name__": "page"})
    assert (tmp_path / made).is_file()


def test_every_block_is_run() -> None:
    assert len(BLOCKS) == 4
