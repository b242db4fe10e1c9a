"""Models by name, and files of weights: ours, the official release, and plain ResNet trunks."""

import logging
import warnings
from collections.abc import Callable, Container, Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from stm_fast.errors import ArgumentError, WeightsError, first_line
from stm_fast.media.files import atomic_path
from stm_fast.models.layouts import official_name, torchvision_name
from stm_fast.models.resnet50 import resnet50_stm
from stm_fast.models.stm import STM

_WEIGHTS = Path(__file__).parent / "weights"
_SHIPPED = {"compact": _WEIGHTS / "compact.safetensors"}
_NAMES_SHOWN = 20
_logger = logging.getLogger(__name__)


def _compact() -> STM:
    from stm_fast.models.compact import compact_stm

    return compact_stm()


def _two_trunks() -> STM:
    from stm_fast.models.compact_two_trunks import two_trunk_stm

    return two_trunk_stm()


ARCHITECTURES: dict[str, Callable[[], STM]] = {
    "compact": _compact,
    "compact-two-trunks": _two_trunks,
    "resnet50": resnet50_stm,
}
_NAMES_IN_FILES = {"compact": "compact-one-trunk", "compact-two-trunks": "compact"}
"""Names of architectures in files, where they are others: those of earlier versions call the two trunks `compact`."""


class Weights(NamedTuple):
    """Weights read from a file.

    Attributes:
        path: of the file.
        tensors: by name.
        architecture: of the network that they belong to; None if the file does not name it.
    """

    path: Path
    tensors: dict[str, Tensor]
    architecture: str | None


def load_model(
    name_or_path: str | PathLike[str],
    *,
    weights: str | PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> STM:
    """Return an STM network in evaluation mode.

    Args:
        name_or_path: "compact" (small; trained weights come with the package), "resnet50" (the original network),
            "compact-two-trunks" (the compact network of earlier versions), or a file: the released `STM_weights.pth`,
            or a `.safetensors` written by `save_model`. Where no weights come with the package or are given, they are
            random, with a warning.
        weights: with a name only: a file of either kind above, or, for "resnet50", a torchvision `resnet50` state dict
            that initialises both encoders.
        device: where the model goes.
        dtype: floating type of parameters and buffers, whatever the type on disk.

    Raises:
        WeightsError: a file is missing or unreadable, or its entries are not those of the model; the message names
            them.
        ArgumentError: `weights` beside a file.
        ValueError: `dtype` is not floating.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating type, got {dtype}")
    name = fspath(name_or_path)
    if name in ARCHITECTURES:
        model = ARCHITECTURES[name]()
        if weights is not None:
            load_weights(model, weights, architecture=name)
        elif name in _SHIPPED:
            load_weights(model, _SHIPPED[name], architecture=name)
        else:
            warnings.warn(
                f"load_model({name!r}) without weights: they are random, and masks will be as well; give weights=, or "
                "load the original's STM_weights.pth by its path",
                stacklevel=2,
            )
    elif weights is not None:
        raise ArgumentError("weights", f"go with a model's name ({_names()}), but the model is {name!r}")
    else:
        loaded = read_weights(name)
        architecture = loaded.architecture
        if architecture not in ARCHITECTURES:
            raise WeightsError(
                f"{name}: not the weights of an STM network ({_names()}); its entries are {_some(list(loaded.tensors))}"
            )
        model = ARCHITECTURES[architecture]()
        load_weights(model, loaded, architecture=architecture)
    _logger.debug("loaded the model %s in %s on %s", name, dtype, device)
    return model.to(device, dtype).eval()


def save_model(
    model: STM,
    path: str | PathLike[str],
    *,
    architecture: str,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the weights of a model as safetensors, to a temporary name first.

    Args:
        model: the network, on any device.
        path: a file name ending in `.safetensors`.
        architecture: a name of `ARCHITECTURES`; `load_model(path)` builds the model by it.
        metadata: further strings for the header of the file.
        dtype: floating type of the weights on disk. Vectors (biases, batch norm) stay float32: they weigh nothing.

    Raises:
        ValueError: an unknown architecture.
        OSError: the file cannot be written.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {_names()}, got {architecture!r}")
    tensors = {name: _for_disk(tensor, dtype) for name, tensor in model.state_dict().items()}
    header = {**(metadata or {}), "architecture": _NAMES_IN_FILES.get(architecture, architecture)}
    with atomic_path(Path(path)) as temporary:
        # `save_file` would write a file that only its owner can read, whatever the umask says.
        temporary.write_bytes(save(tensors, header))


def read_weights(path: str | PathLike[str]) -> Weights:
    """Read a file of weights: safetensors, or a pickled state dict, of which only data is read and no code is run.

    Drops a `module.` prefix, which data-parallel training leaves.

    Raises:
        WeightsError: the file is missing, unreadable, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file, and no model of that name ({_names()})")
    try:
        tensors, architecture = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickle(path), None)
    except Exception as error:
        raise WeightsError(f"{path}: cannot be read as weights ({first_line(error)})") from error
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    if architecture is None and any(name.startswith("Encoder_M.") for name in tensors):
        architecture = "resnet50"
    return Weights(path, tensors, architecture)


def load_weights(model: STM, source: str | PathLike[str] | Weights, *, architecture: str) -> None:
    """Fill a model from a file, which must hold every parameter in its shape and nothing else.

    Args:
        model: the network to fill, of this `architecture`.
        source: a file, or what `read_weights` returned, with our names, the official ones or torchvision's. The last
            fill the encoders alone; their fourth stage and classifier are ignored.
        architecture: a name of `ARCHITECTURES`.

    Raises:
        WeightsError: entries are missing, unknown or of another shape; or the file belongs to another architecture.
    """
    weights = source if isinstance(source, Weights) else read_weights(source)
    if weights.architecture not in (architecture, None):
        raise WeightsError(f"{weights.path}: weights of {weights.architecture!r}, not of {architecture!r}")
    tensors, parameters = weights.tensors, model.state_dict()
    if any(name.startswith("Encoder_M.") for name in tensors):
        names = {name: official_name(name) for name in parameters}
    elif architecture == "resnet50" and "layer1.0.conv1.weight" in tensors:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(("layer4.", "fc."))}
        names = _trunk_names(parameters, tensors)
    else:
        names = {name: name for name in parameters}
    _fill(parameters, names, tensors, weights.path)


def _trunk_names(parameters: Iterable[str], tensors: Container[str]) -> dict[str, str]:
    """Map our names to torchvision's, for all that a ResNet has; old files do not count batches, and ours stay then."""
    names = {ours: theirs for ours in parameters if (theirs := torchvision_name(ours)) is not None}
    return {
        ours: theirs
        for ours, theirs in names.items()
        if theirs in tensors or not theirs.endswith("num_batches_tracked")
    }


@torch.no_grad()
def _fill(parameters: dict[str, Tensor], names: dict[str, str], tensors: dict[str, Tensor], path: Path) -> None:
    """Copy `tensors[names[p]]` into each parameter p of `names`; raise an error that names all that does not fit."""
    expected = set(names.values())
    misshaped = [
        f"{theirs} {tuple(tensors[theirs].shape)} instead of {tuple(parameters[ours].shape)}"
        for ours, theirs in names.items()
        if theirs in tensors and tensors[theirs].shape != parameters[ours].shape
    ]
    faults = {
        "missing": sorted(expected - tensors.keys()),
        "unknown": sorted(tensors.keys() - expected),
        "of another shape": misshaped,
    }
    if any(faults.values()):
        listed = "; ".join(f"{len(found)} {fault}: {_some(found)}" for fault, found in faults.items() if found)
        raise WeightsError(f"{path}: entries do not fit the model: {listed}")
    for ours, theirs in names.items():
        parameters[ours].copy_(tensors[theirs])


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        named = (file.metadata() or {}).get("architecture")
        ours = {in_file: architecture for architecture, in_file in _NAMES_IN_FILES.items()}
        return {name: file.get_tensor(name) for name in names}, named and ours.get(named, named)


def _read_pickle(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping):
        raise TypeError(f"it holds {type(state).__name__}, not a state dict")
    strangers = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if strangers:
        raise TypeError(f"these entries are not tensors: {_some(strangers)}")
    return dict(state)


def _for_disk(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(dtype if tensor.ndim > 1 else torch.float32)


def _names() -> str:
    return ", ".join(map(repr, ARCHITECTURES))


def _some(names: list[str]) -> str:
    hidden = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {hidden} more" if hidden > 0 else "")
