"""The official STM's class with the fused read: scripts written for it run with one changed import."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stm_fast.inference.frames import Geometry
from stm_fast.models.aggregation import PROBABILITY_FLOOR, aggregate, other_masks
from stm_fast.models.layouts import official_name
from stm_fast.models.resnet50 import resnet50_stm
from stm_fast.ops import memory_read


class STM(nn.Module):
    """The network of seoungwugoh/STM as its evaluation script calls it, without the matrix of queries × memory.

    The memory has the script's form: tensors padded to K slots, where slot 0 is the background's and stays zero.
    Weights load by their official names, with or without the `module.` prefix, and a `state_dict` has these names too.

    Args:
        backend: backend of the read; see `stm_fast.memory_read`.
        top_k: number of best memory tokens per location that the softmax is taken over; the official network reads all.
    """

    def __init__(self, backend: str = "auto", top_k: int | None = None) -> None:
        super().__init__()
        self.backend = backend
        self.top_k = top_k
        self.network = resnet50_stm()
        self.register_load_state_dict_pre_hook(_from_official_names)  # type: ignore[no-untyped-call]
        self.register_state_dict_post_hook(_to_official_names)  # type: ignore[no-untyped-call]

    def forward(self, *args: Tensor, **kwargs: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """Call `memorize(frame, masks, num_objects)` or `segment(frame, keys, values, num_objects)`."""
        second = args[1] if len(args) > 1 else kwargs.get("masks", kwargs.get("keys"))
        if isinstance(second, Tensor) and second.ndim > 4:
            return self.segment(*args, **kwargs)
        return self.memorize(*args, **kwargs)

    def memorize(self, frame: Tensor, masks: Tensor, num_objects: Tensor | int) -> tuple[Tensor, Tensor]:
        """Encode keys and values of a frame.

        Args:
            frame: RGB `(1, 3, H, W)` in [0, 1].
            masks: soft masks, or hard ones of any dtype, `(1, K, H, W)`; slot 0 is the background.
            num_objects: number of objects, in the slots from 1; a number, or a tensor with one number.

        Returns:
            `(1, K, 128, 1, h, w)` and `(1, K, 512, 1, h, w)` at stride 16, zero in slots without an object.
        """
        objects = _slots(num_objects, masks.shape[1])
        geometry = _geometry(frame)
        inner = geometry.pad(masks[0, objects, None].to(frame.dtype))
        parts = self.network.encode_memory(geometry.pad(frame), inner, other_masks(inner))
        key, value = (_in_slots(part, masks.shape[1], objects).unsqueeze(3) for part in parts)
        return key, value

    def segment(self, frame: Tensor, keys: Tensor, values: Tensor, num_objects: Tensor | int) -> Tensor:
        """Compute the logits of a frame from the memory.

        Args:
            frame: RGB `(1, 3, H, W)` in [0, 1].
            keys: `(1, K, 128, T, h, w)`, results of `memorize` concatenated along T.
            values: `(1, K, 512, T, h, w)`, likewise.
            num_objects: as for `memorize`.

        Returns:
            Aggregated logits `(1, K, H, W)`; their softmax over K is what goes into memory next.
        """
        slots, objects = keys.shape[1], _slots(num_objects, keys.shape[1])
        geometry = _geometry(frame)
        query = self.network.encode_query(geometry.pad(frame))
        query_key = query.key.expand(objects.stop - 1, -1, -1, -1)
        readout = memory_read(query_key, keys[0, objects], values[0, objects], top_k=self.top_k, backend=self.backend)
        logits = aggregate(geometry.unpad(self.network.decode(readout, query)))
        floor = logits.new_tensor(PROBABILITY_FLOOR)
        unused = torch.log(floor / (1 - floor)).expand(slots - len(logits), *logits.shape[1:])
        return torch.cat([logits, unused])[None]


def _slots(num_objects: Tensor | int, slots: int) -> slice:
    """Return the slots of the objects."""
    number = int(num_objects.flatten()[0]) if isinstance(num_objects, Tensor) else int(num_objects)
    if not 1 <= number < slots:
        raise ValueError(f"num_objects is {number}; allowed are 1 to {slots - 1}, the slots beside the background's")
    return slice(1, number + 1)


def _geometry(frame: Tensor) -> Geometry:
    if frame.ndim != 4 or frame.shape[:2] != (1, 3):
        raise ValueError(f"frame has shape {tuple(frame.shape)}; allowed is (1, 3, H, W)")
    return Geometry.of((frame.shape[2], frame.shape[3]), None, 16)


def _in_slots(part: Tensor, slots: int, objects: slice) -> Tensor:
    """Put `(N, C, h, w)` into the slots of N objects; return `(1, slots, C, h, w)`, zero elsewhere."""
    padded = part.new_zeros(1, slots, *part.shape[1:])
    padded[0, objects] = part
    return padded


def _names(module: nn.Module) -> dict[str, str]:
    """Map the official names of all entries to ours."""
    ours = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
    return {official_name(name.removeprefix("network.")): name for name in ours}


def _from_official_names(module: "STM", state_dict: dict[str, Any], prefix: str, *_: object) -> None:
    for theirs, ours in _names(module).items():
        for spelled in (f"{prefix}{theirs}", f"{prefix}module.{theirs}"):
            if spelled in state_dict:
                state_dict[f"{prefix}{ours}"] = state_dict.pop(spelled)


def _to_official_names(module: "STM", state_dict: dict[str, Any], prefix: str, _: Mapping[str, Any]) -> None:
    for theirs, ours in _names(module).items():
        state_dict[f"{prefix}{theirs}"] = state_dict.pop(f"{prefix}{ours}")
