"""Whether a read of others gives what the fused read gives: both are run on the same few numbers.

Nothing of the process is touched meanwhile, neither its random state nor its default dtype or device: other threads may
be in the middle of their work.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from stm_fast.errors import IntegrationError

TOLERANCE = 1e-3
"""How far a read of others may be from the fused one, relative to the largest number, to count as the same."""

_DRAWS = {
    *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal", "bernoulli"),
    *("multinomial", "poisson", "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_"),
    *("random_", "uniform_", "kaiming_uniform_"),
}
"""Functions of torch that draw random numbers, of `torch.nn.init` those that a mode sees as one."""


def check_alike(label: str, theirs: Callable[[], Sequence[Tensor]], ours: Callable[[], Sequence[Tensor]]) -> None:
    """Run a read of others beside ours on the same few numbers.

    Raises:
        IntegrationError: one of them fails, or they give something else.
    """
    try:
        with _same_numbers():
            expected = theirs()
        with _same_numbers():
            found = ours()
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise IntegrationError(
            f"{label} is of a version that is not known: used as known versions are, it raised "
            f"{type(error).__name__}: {reason}"
        ) from error
    for read, wanted in zip(found, expected, strict=True):
        if read.shape != wanted.shape or not _close(read, wanted):
            raise IntegrationError(
                f"{label} is of a version that is not known: on the same numbers it does not give what the fused read "
                f"gives"
            )


def takes(owner: type, name: str, known: Sequence[str]) -> bool:
    """Whether a class has a method with these parameters, after the first.

    Raises:
        IntegrationError: it has these and others.
    """
    method = vars(owner).get(name)
    if method is None or not callable(method):
        return False
    parameters = tuple(inspect.signature(method).parameters)[1:]
    if {*known} < {*parameters}:
        raise IntegrationError(
            f"{owner.__module__}.{owner.__qualname__}.{name} is of a version that is not known: its parameters are "
            f"{', '.join(parameters)}; known are {', '.join(known)}"
        )
    return parameters == (*known,)


@contextmanager
def _same_numbers() -> Iterator[None]:
    """A context of plain float32 on the CPU with the same random numbers each time, for this thread alone."""
    plain = torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext()
    with torch.no_grad(), plain, _OwnNumbers():
        yield


class _OwnNumbers(TorchFunctionMode):
    """New tensors are float32 on the CPU unless they are asked for otherwise; random numbers are a generator's own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func in _device_constructors() and options.get("device") is None:
            options["device"] = "cpu"
        if getattr(func, "__name__", "") in _DRAWS and options.get("generator") is None:
            options["generator"] = self.generator
        result = func(*args, **options)
        made = func in _device_constructors() or func is torch.normal
        if made and options.get("dtype") is None and result.dtype == torch.get_default_dtype():
            return result.float()
        return result


def _close(read: Tensor, wanted: Tensor) -> bool:
    return bool((read - wanted).abs().max() <= TOLERANCE * wanted.abs().max())
