"""mypy checks the launchers of the kernels: only the kernels themselves are without complete annotations."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "kernels").glob("*.py"))


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


def is_kernel(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator).startswith("triton.jit") for decorator in function.decorator_list)


def is_annotated(function: ast.FunctionDef) -> bool:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    missing = [each.arg for each in every if each is not None and each.annotation is None]
    return function.returns is not None and missing in ([], ["self"], ["cls"])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_all_but_kernels_are_annotated(path: Path) -> None:
    assert not [each.name for each in functions(path) if not is_kernel(each) and not is_annotated(each)]


def test_the_rules_of_mypy_are_relaxed_for_modules_of_kernels_only() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    relaxed = {path.stem for path in MODULES if f'"stm_fast.kernels.{path.stem}"' in text}
    assert relaxed == {path.stem for path in MODULES if any(map(is_kernel, functions(path)))}
    assert "stm_fast.kernels.*" not in text
