"""How the compiled libraries are built. Imports neither the package nor torch: setup.py imports this file."""

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

COMMON_FLAGS = ("-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno")
WARNING_FLAGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-warning-option", "-Wno-maybe-uninitialized")
"""Added where STM_FAST_STRICT is set, as `make` does; a user's compiler may warn of what ours does not. GCC 12 takes
the vectors in its own headers for uninitialized."""
KERNEL_FLAGS = ("-ffp-contract=fast",)
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c", "-mprefer-vector-width=512")
INSTRUCTION_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "amx": (*_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
        "avx512bf16": (*_AVX512, "-mavx512bf16"),
        "avx512": _AVX512,
        "avx2": ("-mavx2", "-mfma", "-mf16c"),
        "baseline": (),
    },
    "aarch64": {"baseline": ()},
}
"""Flags of each instruction set of a machine; "baseline" is what every such machine executes."""


LIBRARIES = {"cpu": "_cpu.abi3.so", "cuda": "_cuda.abi3.so", "cuda_emulated": "_cuda_emulated.abi3.so"}
"""File of each library. The emulated one does on CPU tensors what that for CUDA does on a GPU; it is for tests."""
CUDA_FLAGS = (
    "-std=c++20",
    "-O3",
    "--expt-relaxed-constexpr",
    "--threads",
    "0",
    "-Xcompiler",
    "-fPIC,-fvisibility=hidden",
)
CUDA_STRICT_FLAGS = ("-Werror", "all-warnings", "-Xptxas", "-warn-spills")
CUDA_CHIPS = ("80", "86", "89", "90", "100", "120")
"""Compute capabilities that binaries are made for; later ones compile the code for the first of them when it is loaded.
STM_FAST_CUDA_CHIPS, such as "86" or "80,90", names others."""


class BuildError(Exception):
    """A library cannot be built; the message says why and what to do."""


class Toolchain(NamedTuple):
    """What compiles.

    Attributes:
        compiler: command of a C++20 compiler.
        ninja: command of ninja.
    """

    compiler: str
    ninja: str


def find_toolchain() -> Toolchain:
    """What this machine has.

    Raises:
        BuildError: something is missing.
    """
    return Toolchain(find_compiler(), find_ninja())


def find_compiler() -> str:
    """The command of a C++ compiler; raises BuildError."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    words = shlex.split(compiler) if compiler else []
    if compiler is None or not words or shutil.which(words[0]) is None:
        raise BuildError(
            f"no C++ compiler is installed (CXX, c++, g++ and clang++ were tried; CXX is {compiler!r}): "
            "install one of C++20, such as g++"
        )
    return compiler


def find_ninja() -> str:
    """The command of ninja; raises BuildError."""
    beside_python = str(Path(sys.executable).parent)
    ninja = shutil.which("ninja") or shutil.which("ninja", path=beside_python)
    if ninja is None:
        raise BuildError("ninja is not installed: pip install ninja")
    return ninja


def find_nvcc() -> str:
    """The command of CUDA's compiler; raises BuildError."""
    homes = filter(None, (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"))
    tried = [os.environ.get("CUDACXX"), *(str(Path(home) / "bin" / "nvcc") for home in homes), "nvcc"]
    nvcc = next((command for command in tried if command and shutil.which(command)), None)
    if nvcc is None:
        raise BuildError(
            "CUDA's compiler is not installed (CUDACXX, CUDA_HOME, /usr/local/cuda and nvcc were tried): "
            "install CUDA's toolkit, or triton"
        )
    return nvcc


def cuda_is_wanted() -> bool:
    """Whether to install the CUDA kernels: STM_FAST_CUDA says so, or torch is one for CUDA and nvcc is there."""
    asked = os.environ.get("STM_FAST_CUDA")
    if asked is not None:
        return asked not in ("", "0")
    torch = find_spec("torch")
    if torch is None or torch.origin is None:
        return False
    version = Path(torch.origin).with_name("version.py")
    if not version.exists() or not re.search(r"^cuda\b.*=\s*['\"]", version.read_text(), re.MULTILINE):
        return False
    try:
        find_nvcc()
    except BuildError:
        return False
    return True


def source_key(csrc: Path, engine: str) -> str:
    """Tells one state of an engine's sources and recipe from another. Its library carries its own."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    if engine == "cuda":
        digest.update(os.environ.get("STM_FAST_CUDA_CHIPS", "").encode())
    others = {"cpu", "cuda"} - {engine}
    for path in sorted(path for path in csrc.rglob("*") if path.suffix in (".h", ".cpp", ".cu")):
        place = path.relative_to(csrc)
        if others.isdisjoint((place.parts[0], place.stem)):
            digest.update(place.as_posix().encode() + b"\0" + path.read_bytes())
    return f"stm-fast-source-{digest.hexdigest()[:24]}"


def build(
    csrc: Path,
    folder: Path,
    library: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    inherited: Sequence[int] = (),
) -> Path:
    """Compile a library; its path.

    Args:
        csrc: the sources.
        folder: where; it may hold an earlier or an unfinished build.
        library: its name in `LIBRARIES`.
        progress: told after each file how many are built, of how many.
        inherited: file descriptors that the compilers keep open, even when this process is killed before them.

    Raises:
        BuildError: it cannot be compiled; the message has the first error.
    """
    toolchain = find_toolchain()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "build.ninja").write_text(ninja_file(csrc.resolve(), toolchain, library))
    said: list[str] = []
    with subprocess.Popen(
        [toolchain.ninja, "-C", str(folder)],
        env={**os.environ, "LC_ALL": "C", "NINJA_STATUS": "[%f/%t] "},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=inherited,
    ) as ninja:
        assert ninja.stdout is not None
        try:
            for line in ninja.stdout:
                said.append(line)
                step = re.match(r"\[(\d+)/(\d+)\] ", line)
                if step and progress:
                    progress(int(step[1]), int(step[2]))
        except BaseException:
            ninja.terminate()  # and not kill: it ends its compilers
            raise
    if ninja.returncode != 0:
        log = folder.with_name("build.log")
        log.write_text("".join(said))
        first = next((line for line in said if re.search(r"\b(error|fatal)\b.*:", line)), "it did not say why")
        raise BuildError(f"the compiler failed: {first.strip()} (all it said is in {log})")
    return folder / LIBRARIES[library]


def ninja_file(csrc: Path, toolchain: Toolchain, library: str) -> str:
    """A build.ninja whose target is the library."""
    engine = library.partition("_")[0]
    # The key is in the flags of all files: an older object file does not pass for one of these sources.
    key = f'-DSTM_SOURCE_KEY="{source_key(csrc, engine)}"'
    common: tuple[str, ...] = (*common_flags(csrc), key)
    link: tuple[str, ...] = ("-shared",)
    linker = toolchain.compiler
    if library == "cpu":
        kernels = kernel_objects(csrc, platform.machine())
    elif library == "cuda_emulated":
        common = (*common, "-DSTM_EMULATED")
        kernels = [Object(f"{source.stem}.o", source, ("-x", "c++")) for source in cuda_sources(csrc)]
    else:
        host = [word for word in shlex.split(toolchain.compiler) if word not in ("ccache", "sccache", "distcc")]
        nvcc = (find_nvcc(), "-ccbin", host[0])
        linker = shlex.join(nvcc)
        link = (*link, "-cudart", "static")
        command = shlex.join((*nvcc, *cuda_flags(csrc), key))
        kernels = [Object(f"{source.stem}.o", source, command=command) for source in cuda_sources(csrc)]
    objects = [*kernels, Object("binding.o", csrc / "bindings" / f"{engine}.cpp")]
    return ninja_rules(toolchain.compiler, common, objects, link, LIBRARIES[library], linker)


def cuda_sources(csrc: Path) -> list[Path]:
    """The CUDA kernels and what launches them, in files that compile at the same time."""
    return sorted((csrc / "cuda").glob("*.cu"))


def cuda_flags(csrc: Path) -> tuple[str, ...]:
    """Flags of nvcc: binaries for all chips from code that is made once."""
    chips = _chips()
    codes = ",".join([*(f"sm_{chip}" for chip in chips), f"compute_{chips[0]}"])
    strict = CUDA_STRICT_FLAGS if os.environ.get("STM_FAST_STRICT") else ()
    target = ("-gencode", f"arch=compute_{chips[0]},code=[{codes}]")
    return (*CUDA_FLAGS, *strict, *target, f"-I{csrc}", f"-I{csrc / 'include'}")


def _chips() -> list[str]:
    """Those asked for, or those of `CUDA_CHIPS` that this nvcc knows, the least first."""
    asked = os.environ.get("STM_FAST_CUDA_CHIPS")
    if asked:
        return sorted(filter(None, re.split(r"[,;\s]+", asked)), key=lambda chip: int(re.sub(r"\D", "", chip) or 0))
    run = subprocess.run([find_nvcc(), "--list-gpu-code"], capture_output=True, text=True, check=False)
    return [chip for chip in CUDA_CHIPS if f"sm_{chip}" in run.stdout.split()] or list(CUDA_CHIPS)


class Object(NamedTuple):
    """An object file, its source and flags, and the command that compiles it, if that is not everyone's."""

    name: str
    source: Path
    flags: tuple[str, ...] = ()
    command: str | None = None


def kernel_objects(csrc: Path, machine: str) -> list[Object]:
    """The kernels, for every instruction set of a kind of machine: nothing of torch."""
    sets = INSTRUCTION_SETS.get(machine, {"baseline": ()})
    engines = [
        Object(f"cpu_{name}.o", csrc / "cpu" / "engine.cpp", (*KERNEL_FLAGS, f"-DSTM_ISA={name}", *flags))
        for name, flags in sets.items()
    ]
    return engines + [
        Object(f"{name}.o", csrc / "cpu" / f"{name}.cpp") for name in ("supported_engines", "runtime", "select")
    ]


def common_flags(csrc: Path) -> tuple[str, ...]:
    """Flags of every file."""
    strict = WARNING_FLAGS if os.environ.get("STM_FAST_STRICT") else ()
    return (*COMMON_FLAGS, *strict, f"-I{csrc}", f"-I{csrc / 'include'}")


def ninja_rules(
    compiler: str,
    common: tuple[str, ...],
    objects: list[Object],
    link: tuple[str, ...],
    target: str,
    linker: str | None = None,
) -> str:
    """Return a build.ninja that compiles `objects` and links them to `target`."""
    lines = [
        "rule compile",
        "  command = $compiler $flags -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {(linker or compiler).replace('$', '$$')} $in {_shell(link)} -o $out",
    ]
    everyones = f"{compiler} {_shell(common)}"
    for item in objects:
        command = everyones if item.command is None else item.command.replace("$", "$$")
        lines += [f"build {item.name}: compile {_path(item.source)}"]
        lines += [f"  compiler = {command}", f"  flags = {_shell(item.flags)}"]
    lines += [f"build {target}: link {' '.join(item.name for item in objects)}", f"default {target}"]
    return "\n".join(lines) + "\n"


def _shell(words: tuple[str, ...]) -> str:
    return shlex.join(words).replace("$", "$$")


def _path(path: Path) -> str:
    """A path as ninja wants it."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")
