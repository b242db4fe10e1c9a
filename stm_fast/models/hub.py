"""Networks in the layout of the Hugging Face Hub: a folder of `config.json`, `model.safetensors` and `README.md`.

This module needs the package huggingface_hub (extra `hub`); nothing else of stm-fast imports it.
"""

import re
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch

from stm_fast.errors import ArgumentError, StmFastError, WeightsError
from stm_fast.models.stm import STM
from stm_fast.models.weight_files import ARCHITECTURES, load_model, load_weights, read_weights, save_model

try:
    from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download
except ImportError as error:
    raise StmFastError(
        f"networks of the Hub need the package huggingface_hub, which is not installed: pip install 'stm-fast[hub]' "
        f"({error})"
    ) from error

WEIGHTS_FILE = "model.safetensors"
_SHIPPED = "compact"
_SHIPPED_CARD = Path(__file__).parent / "weights" / "README.md"


class HubSTM(
    STM,
    PyTorchModelHubMixin,
    library_name="stm-fast",
    pipeline_tag="image-segmentation",
    tags=["video-object-segmentation"],
):
    """An STM that is saved to and loaded from folders and repositories of the Hub.

    ```python
    HubSTM.from_file("runs/mine/last.safetensors").save_pretrained("mine")
    segmenter = Segmenter(HubSTM.from_pretrained("mine"))
    ```

    `save_pretrained`, `from_pretrained` and `push_to_hub` are those of `huggingface_hub.PyTorchModelHubMixin`. Local
    folders need no network. `stm_fast.load_model` reads the file of weights as well. Pickled weights are never loaded.

    Args:
        architecture: "compact", "resnet50" or another name that `stm_fast.load_model` takes. Weights are random.

    Attributes:
        architecture: see above.

    Raises:
        ArgumentError: there is no such architecture.
    """

    def __init__(self, architecture: str) -> None:
        if architecture not in ARCHITECTURES:
            raise ArgumentError("architecture", f"must be one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
        made = ARCHITECTURES[architecture]()
        super().__init__(
            made.query_encoder,
            made.memory_encoder,
            made.query_head,
            made.memory_head,
            made.decoder,
            made.card,
            guided=made.guided,
        )
        self.architecture = architecture

    @classmethod
    def from_file(cls, name_or_path: str | PathLike[str]) -> "HubSTM":
        """Return the network that `stm_fast.load_model` returns, in float32 on the CPU.

        Raises:
            WeightsError: a file is missing or unreadable, or its entries are not those of a network.
        """
        name = fspath(name_or_path)
        loaded = load_model(name)
        architecture = name if name in ARCHITECTURES else read_weights(name).architecture
        assert architecture is not None
        model = cls(architecture)
        model.load_state_dict(loaded.state_dict())
        return model.eval()

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return the card of the shipped weights if these are they, else that of the Hub's template."""
        if not self._is_shipped():
            return super().generate_model_card(*args, **kwargs)
        text = _SHIPPED_CARD.read_text(encoding="utf-8")
        text = re.sub(r"^!\[[^\]]*\]\([^)]*\)\n", "", text, flags=re.MULTILINE)
        # What the page links to in this repository is not in the folder.
        text = re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]*\)", r"\1", text)
        return ModelCard(f"---\n{self._hub_mixin_info.model_card_data.to_yaml()}\nlicense: apache-2.0\n---\n\n{text}")

    def _is_shipped(self) -> bool:
        if self.architecture != _SHIPPED:
            return False
        shipped, own = load_model(_SHIPPED).state_dict(), self.state_dict()
        return all(torch.equal(tensor.cpu().float(), shipped[name].float()) for name, tensor in own.items())

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self, save_directory / WEIGHTS_FILE, architecture=self.architecture, dtype=torch.float32)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, architecture: str | None = None, map_location: str = "cpu", **where: Any
    ) -> "HubSTM":
        """Return a network in evaluation mode; see the mixin."""
        if architecture is None:
            raise WeightsError(f"{model_id}: there is no config.json that names an architecture")
        folder = Path(model_id)
        file = folder / WEIGHTS_FILE if folder.is_dir() else hf_hub_download(model_id, WEIGHTS_FILE, **where)
        model = cls(architecture)
        load_weights(model, file, architecture=architecture)
        return model.to(map_location).eval()
