"""Launches that are kept: what is decided and compiled for one call serves every call like it.

A plan holds all that a call's launches need but its tensors: tiles, splits, grids, numbers and compiled kernels. Its
key names all that these are made from, see `stm_fast.kernels.launch.key_of`. Whatever else decides about them calls
`forget` when it changes, as `stm_fast.kernels.tiles.use_tuned` does. Kernels that were not launched on a GPU, because
they are interpreted or only compiled, are planned anew for every call.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

MAX_PLANS = 512
"""A memory that grows needs one for each of its sizes: where there are more, all are forgotten."""
_DESCRIPTOR = "_descriptor"


class Launch:
    """A launch of a kernel that is done again and again, with other tensors of the same forms."""

    def __init__(self, kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any]) -> None:
        """Keep what a launch needs.

        Args:
            kernel: a function that `triton.jit` made.
            grid: of one to three sides.
            arguments: the kernel's, and options of the launch. Every launch is given those that are tensors, which are
                not kept, and those that are absent.
        """
        self.compiled: Any = None
        self._kernel, self._grid = kernel, (*grid, 1, 1)[:3]
        self._fixed: list[Any] = []
        self._given: list[tuple[int, str]] = []
        self._described: list[tuple[int, str, dict[str, Any]]] = []
        self._options = arguments.copy()
        for place, name in enumerate(kernel.arg_names):
            argument = self._options.pop(name, None)
            if name not in arguments or isinstance(argument, Tensor):
                self._given.append((place, name))
                argument = None
            elif isinstance(argument, TensorDescriptor):
                self._described.append((place, name.removesuffix(_DESCRIPTOR), vars(argument) | {"base": None}))
                argument = None
            self._fixed.append(argument)

    def __call__(self, tensors: dict[str, Any]) -> None:
        """Launch the kernel on the current stream.

        What triton does to find the compiled kernel takes longer than all the rest, and is done once.

        Args:
            tensors: by the names of the kernel's arguments; others are ignored.
        """
        arguments = self._fixed.copy()
        for place, name in self._given:
            arguments[place] = tensors[name]
        for place, name, fields in self._described:
            # Triton's constructor would check again what was checked of tensors of this form.
            arguments[place] = descriptor = object.__new__(TensorDescriptor)
            descriptor.__dict__.update(fields, base=tensors[name])
        if self.compiled is not None:
            self.compiled[self._grid](*arguments)
            return
        compiled = self._kernel[self._grid](*arguments, **self._options)
        if getattr(compiled, "function", None) is not None:
            self.compiled = compiled


class Plan(NamedTuple):
    """The launches of a call.

    Attributes:
        launches: by what they are for.
        splits: into how many splits the memory is split.
        room: for candidates of a query in a split, where the best are sought.
        copied: names of tensors that are `stm_fast.kernels.launch.aligned` first.
    """

    launches: dict[str, Launch]
    splits: int = 1
    room: int = 0
    copied: tuple[str, ...] = ()


_plans: dict[Hashable, Plan] = {}


def plan_of(key: Hashable, make: Callable[[], Plan]) -> Plan:
    """The plan that is kept under a key, or a new one."""
    plan = _plans.get(key)
    if plan is None or any(launch.compiled is None for launch in plan.launches.values()):
        if len(_plans) >= MAX_PLANS:
            forget()
        plan = _plans[key] = make()
    return plan


def forget() -> None:
    """Drop all plans, since something has changed that their keys do not name."""
    _plans.clear()
