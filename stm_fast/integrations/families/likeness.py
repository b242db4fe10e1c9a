"""Check that other people's read gives the same as the fused read: both run on the same small tensors.

The process keeps its random state, default dtype and default device, since other threads may be running.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from stm_fast.errors import IntegrationError

TOLERANCE = 1e-3
"""Largest difference between their read and ours that counts as equal, relative to the largest number."""

_DRAWS = {
    *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal", "bernoulli"),
    *("multinomial", "poisson", "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_"),
    *("random_", "uniform_", "kaiming_uniform_"),
}
"""Functions of torch that draw random numbers, with those of `torch.nn.init` that a mode sees as one call."""

_CONSTRUCTORS = {
    *(torch.arange, torch.as_tensor, torch.asarray, torch.bartlett_window, torch.blackman_window, torch.empty),
    *(torch.empty_permuted, torch.empty_strided, torch.eye, torch.fft.fftfreq, torch.fft.rfftfreq, torch.full),
    *(torch.hamming_window, torch.hann_window, torch.kaiser_window, torch.linspace, torch.logspace, torch.normal),
    *(torch.ones, torch.rand, torch.randn, torch.range, torch.scalar_tensor, torch.tensor, torch.zeros),
}
"""Functions of torch that make a tensor of the default dtype."""


def check_alike(label: str, theirs: Callable[[], Sequence[Tensor]], ours: Callable[[], Sequence[Tensor]]) -> None:
    """Run their read and ours on the same small tensors.

    Raises:
        IntegrationError: one of them fails, or the results differ.
    """
    try:
        with _same_numbers():
            expected = theirs()
        with _same_numbers():
            found = ours()
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise IntegrationError(
            f"{label} is of an unknown version: called as known versions are, it raised "
            f"{type(error).__name__}: {reason}"
        ) from error
    for read, wanted in zip(found, expected, strict=True):
        if read.shape != wanted.shape or not _close(read, wanted):
            raise IntegrationError(
                f"{label} is of an unknown version: on the same numbers its result is not that of the fused read"
            )


def takes(owner: type, name: str, known: Sequence[str]) -> bool:
    """Return whether a class has a method with these parameters, after the first.

    Raises:
        IntegrationError: it has these and other parameters.
    """
    method = vars(owner).get(name)
    if method is None or not callable(method):
        return False
    parameters = tuple(inspect.signature(method).parameters)[1:]
    if {*known} < {*parameters}:
        raise IntegrationError(
            f"{owner.__module__}.{owner.__qualname__}.{name} is of an unknown version: its parameters are "
            f"{', '.join(parameters)}; known are {', '.join(known)}"
        )
    return parameters == (*known,)


@contextmanager
def _same_numbers() -> Iterator[None]:
    """Compute in plain float32 on the CPU, with the same random numbers each time, in this thread only."""
    plain = torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext()
    with torch.no_grad(), plain, torch.device("cpu"), _OwnNumbers():
        yield


class _OwnNumbers(TorchFunctionMode):
    """Makes new tensors float32 unless they are given a dtype, and draws random numbers from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if getattr(func, "__name__", "") in _DRAWS and options.get("generator") is None:
            options["generator"] = self.generator
        result = func(*args, **options)
        by_default = func in _CONSTRUCTORS and options.get("dtype") is None
        return result.float() if by_default and result.dtype == torch.get_default_dtype() else result


def _close(read: Tensor, wanted: Tensor) -> bool:
    return bool((read - wanted).abs().max() <= TOLERANCE * wanted.abs().max())
