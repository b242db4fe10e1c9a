"""Signatures that typer reads: parameters that commands share are written once and added to each."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

R = TypeVar("R")


class Parameter:
    """A parameter of a command.

    Args:
        annotation: its type, annotated with `typer.Option`; or `typer.Context`.
        default: what it is if it is left out; a parameter without one is required.
    """

    def __init__(self, annotation: Any, default: Any = inspect.Parameter.empty) -> None:
        self.annotation, self.default = annotation, default


def with_parameters(
    run: Callable[..., R], command: Callable[..., Any], added: Mapping[str, Parameter], *, in_place_of: str = ""
) -> Callable[..., R]:
    """Give a wrapper the signature of a command and further parameters.

    Args:
        run: wraps the command, and takes all parameters by name.
        command: whose signature is extended.
        added: the further parameters by name.
        in_place_of: a parameter of the command that they replace; if empty, they follow its last.
    """
    keyword = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(name, keyword, default=each.default) for name, each in added.items()]
    signature = inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += more if parameter.name == in_place_of else [parameter.replace(kind=keyword)]
    if not in_place_of:
        parameters += more
    annotations = {name: each for name, each in command.__annotations__.items() if name != in_place_of}
    run.__annotations__ = annotations | {name: each.annotation for name, each in added.items()}
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[each.replace(annotation=run.__annotations__[each.name]) for each in parameters]
    )
    return run
