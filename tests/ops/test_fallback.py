"""The reference serves where nothing else can, and says once why."""

import os
import subprocess
import sys
from pathlib import Path

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

CHOOSE_ON_A_GPU = """
import sys
import warnings
sys.modules["triton"] = None
import torch
from stm_fast.kernels import chips
from stm_fast.ops import preference
from stm_fast.ops.backends import cuda, registry
from stm_fast.ops.compiled import location, recipe
from stm_fast.ops.operands import Operands
chips.refused = cuda._refused = lambda device: None
cuda._without_gpu = lambda: None
preference.preferred = lambda device: {}
recipe.LIBRARIES["cuda"] = "nothing.so"
recipe.shutil.which = lambda command, **options: None
class OnGPU(torch.Tensor):
    device = torch.device("cuda", 0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    query = torch.ones(1, 4, 5).as_subclass(OnGPU)
    operands = Operands(query, query, None, None, None, 1.0)
    for call in (("read", operands, (query[:, None],)), ("usage", operands, (query[:, 0],))):
        print(registry.choose("auto", registry.Call(*call)).__name__)
print(*(warning.message for warning in caught), sep="\\n")
"""


def lines_of(program: str, **environment: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", program],
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
    first, second, warning = lines_of(
        CHOOSE_ON_A_GPU, STM_FAST_CACHE=str(tmp_path), STM_FAST_EMULATE_CUDA="0", TRITON_INTERPRET="0"
    )
    assert first == second == "stm_fast.ops.backends.reference"
    assert warning.startswith("reads on cuda take the slower 'reference' backend, because 'triton' cannot be used: ")
    assert "pip install 'stm-fast[gpu]'; 'cuda' cannot be used: CUDA's compiler is not installed" in warning
    assert warning.endswith("install CUDA's toolkit, or triton")
