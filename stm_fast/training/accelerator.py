"""Devices, mixed precision and processes, by accelerate."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from stm_fast.errors import ArgumentError, StmFastError

if TYPE_CHECKING:
    from accelerate import Accelerator

_PATIENCE = timedelta(hours=6)
"""How long processes wait for the first one, which alone prepares clips and validates."""
_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}

_SPLITTING = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "TP")
"""Kinds of training of accelerate in which no process has the whole model or optimizer."""


def make_accelerator(precision: str, device: str = "auto") -> Accelerator:
    """Return an accelerator for this process, which may be one of several (`accelerate launch`, `torchrun`).

    Args:
        precision: of activations, as in `Recipe.precision`. It replaces that of accelerate's own configuration.
        device: "auto" for what accelerate finds, "cpu", "cuda" or "cuda:1".

    Raises:
        StmFastError: accelerate is not installed, or the device does not serve the precision.
    """
    try:
        from accelerate import Accelerator, InitProcessGroupKwargs
        from accelerate.state import AcceleratorState
        from accelerate.utils import GradientAccumulationPlugin
    except ImportError as error:
        raise StmFastError("training needs accelerate: pip install 'stm-fast[train]'") from error
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    # Another run of this process may have had another precision.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    if precision == "fp16" and (device == "cpu" or not torch.cuda.is_available()):
        raise StmFastError("precision fp16 needs a GPU: use bf16 or fp32")
    handlers = [InitProcessGroupKwargs(timeout=_PATIENCE)]
    return Accelerator(
        mixed_precision=_PRECISIONS[precision],
        cpu=device == "cpu",
        kwargs_handlers=handlers,
        # The trainer accumulates gradients itself; a number in accelerate's own configuration would scale the loss.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )


def check_accelerator(accelerator: Accelerator, precision: str) -> None:
    """Raise an error if a trainer cannot use an accelerator.

    Args:
        accelerator: of `make_accelerator`, or of a user's own program.
        precision: of activations, as in `Recipe.precision`.

    Raises:
        ArgumentError: it has another precision, accumulates gradients, or splits the model over processes.
    """
    has = accelerator.mixed_precision
    if has != _PRECISIONS[precision]:
        raise ArgumentError("accelerator", f"has mixed precision {has}, and the recipe's precision is {precision}")
    steps = accelerator.gradient_accumulation_steps
    if steps != 1:
        raise ArgumentError("accelerator", f"must leave gradient accumulation to the recipe, got {steps} steps of it")
    kind = str(accelerator.distributed_type.value)
    if kind in _SPLITTING:
        raise ArgumentError("accelerator", f"must train by plain data parallelism, got {kind}: see `accelerate config`")
