"""What cannot be used or fails is told once, and another backend serves."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

READ_TWICE = """
import warnings
from pathlib import Path
from stm_fast.ops.compiled import recipe
recipe.LIBRARIES["cpu"] = "nothing.so"
import torch
from stm_fast.ops import memory_read
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        print(tuple(memory_read(torch.ones(1, 4, 5), torch.ones(1, 4, 6), torch.ones(1, 3, 6)).shape))
print(*(warning.message for warning in caught), sep="\\n")
"""

SERVE_ON_A_GPU = """
import sys
import warnings
sys.modules["triton"] = None
import torch
from stm_fast.ops import dispatch, preference
from stm_fast.ops.calls import Read, Usage
from stm_fast.ops.compiled import recipe
from stm_fast.kernels.operands import Operands
torch.cuda.is_available = lambda: True
torch.cuda.get_device_capability = lambda device: (9, 0)
preference.preferred = lambda device: {}
recipe.LIBRARIES["cuda"] = "nothing.so"
recipe.shutil.which = lambda command, **options: None
class OnGPU(torch.Tensor):
    device = torch.device("cuda", 0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    query = torch.ones(1, 4, 5).as_subclass(OnGPU)
    operands = Operands(query, query, None, None, None, 1.0)
    out, lse = dispatch.run_op(Read(operands, query[:, None]))
    (usage,) = dispatch.run_op(Usage(operands, lse))
    print(out.unique().tolist(), round(usage.sum().item(), 3))
print(*(warning.message for warning in caught), sep="\\n")
"""

BROKEN_TRITONS = """
import sys
import torch
from pathlib import Path
from stm_fast.errors import BackendUnavailableError
from stm_fast.ops import memory_read
from stm_fast.ops.backends import triton
for content in ({contents}):
    package = Path({folder!r}) / str(hash(content)) / "triton"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(content)
    sys.path.insert(0, str(package.parent))
    for name in [name for name in sys.modules if name.startswith(("triton", "stm_fast.kernels."))]:
        del sys.modules[name]
    triton.unavailable.cache_clear()
    triton._import_failure.cache_clear()
    try:
        memory_read(torch.ones(1, 4, 5), torch.ones(1, 4, 6), torch.ones(1, 3, 6), backend="triton")
    except BackendUnavailableError as error:
        print(error)
"""

UNCOMPILABLE = """
import warnings
import torch
from stm_fast.ops import memory_read
from stm_fast.ops.backends import registry, triton
from stm_fast.kernels import forward
from tests.ops import uncompilable
del registry.BACKENDS["cpu"]
triton.device_type = lambda: "cpu"
triton.unavailable = lambda device: None
tensors = torch.ones(1, 4, 5), torch.ones(1, 4, 6), torch.ones(1, 3, 6)
launch = forward.read
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    forward.read = uncompilable.read
    print(memory_read(*tensors).unique().tolist(), memory_read(*tensors).unique().tolist())
    forward.read = launch
    usage = memory_read(*tensors, return_usage=True).usage
print(*(warning.message for warning in caught), sep="\\n")
"""


def lines_of(program: str, **environment: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_on_a_cpu_without_a_library_and_a_compiler(tmp_path: Path) -> None:
    first, second, warning = lines_of(
        READ_TWICE, CXX="no-such-compiler", STM_FAST_CACHE=str(tmp_path), STM_FAST_CPU_ISA=""
    )
    assert first == second == "(1, 3, 5)"
    assert warning.startswith("reads on cpu take the slower 'reference' backend, because 'cpu' cannot be used: ")
    assert "CXX is 'no-such-compiler'): install one of C++20" in warning


def test_on_a_gpu_without_triton_and_nvcc(tmp_path: Path) -> None:
    numbers, warning = lines_of(
        SERVE_ON_A_GPU, STM_FAST_CACHE=str(tmp_path), STM_FAST_EMULATE_CUDA="0", TRITON_INTERPRET="0"
    )
    assert numbers == "[1.0] 5.0"
    assert warning.startswith("reads on cuda:0 take the slower 'reference' backend, because 'triton' cannot be used: ")
    assert "pip install 'stm-fast[gpu]'; 'cuda' cannot be used: CUDA's compiler is not installed" in warning
    assert warning.endswith("install CUDA's toolkit, or triton")


def test_a_broken_triton_is_refused_with_the_reason(tmp_path: Path) -> None:
    tritons = {
        "__version__ = '3.5.1+git'": "it needs triton 3.6 or later, not 3.5.1+git",
        "raise OSError('libtriton.so: undefined symbol')": "OSError: libtriton.so: undefined symbol",
        "": "AttributeError: module 'triton' has no attribute '__version__'",
        "__version__ = '4.0.0'": "No module named 'triton.language'",
    }
    program = BROKEN_TRITONS.format(contents=", ".join(map(repr, tritons)), folder=str(tmp_path))
    said = lines_of(program, TRITON_INTERPRET="1")
    for line, reason in zip(said, tritons.values(), strict=True):
        assert line.startswith("backend 'triton' cannot serve read: ")
        assert reason in line


def test_a_kernel_that_triton_cannot_compile_or_launch(tmp_path: Path) -> None:
    """Errors of triton itself: a kernel compiled for a GPU, and one launched where there is none."""
    pytest.importorskip("triton")
    numbers, uncompiled, unlaunched = lines_of(UNCOMPILABLE, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))
    assert numbers == "[1.0] [1.0]"
    assert re.fullmatch(
        "reads on cpu take the slower 'reference' backend, because 'triton' failed in read with CompilationError: "
        r".*cannot convert None of type .* to tensor.* "
        r"\(it is not tried again in this process; backend='triton' raises the whole error\)",
        uncompiled,
    )
    assert "because 'triton' failed in usage with RuntimeError: 0 active drivers" in unlaunched
