"""Copies the headers of torch's stable ABI that the bindings include, from the torch that is installed.

    python -m tools.torch_headers

They go to csrc/third_party/torch. With them the library is compiled where torch is not installed, as in the isolated
build of a wheel. Run it after a binding has come to include another header.
"""

import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from stm_fast.ops.compiled import recipe

CSRC = Path(__file__).parents[1] / "csrc"
HEADERS = CSRC / "third_party" / "torch"
VERSION = HEADERS / "torch" / "headeronly" / "version.h"


def included(include: Path) -> set[Path]:
    """The headers below a folder that the bindings include, directly or not, relative to that folder."""
    found: set[Path] = set()
    for binding in sorted((CSRC / "bindings").glob("*.cpp")):
        flags = [*recipe.COMMON_FLAGS, f"-I{CSRC}", f"-I{CSRC / 'include'}", *recipe.binding_flags(include)]
        listed = subprocess.run(
            [recipe.find_compiler(), *flags, "-M", str(binding)], check=True, capture_output=True, text=True
        ).stdout
        paths = map(Path, re.split(r"(?:\\\n|\s)+", listed.partition(":")[2].strip()))
        found |= {path.relative_to(include) for path in paths if path.is_relative_to(include)}
    return found


def version(header: Path) -> str:
    """The version of torch that a version.h is of."""
    match = re.search(r'TORCH_VERSION\s*\\?\s*"(.+)"', header.read_text())
    if match is None:
        raise ValueError(f"{header} names no version of torch")
    return match[1]


def main() -> None:
    """Replace the copy."""
    torch = metadata.distribution("torch")
    include = Path(str(torch.locate_file("torch/include")))
    license_file = next(file for file in torch.files or () if file.match("*.dist-info/licenses/LICENSE"))
    headers = sorted(included(include))
    shutil.rmtree(HEADERS, ignore_errors=True)
    for header in headers:
        (HEADERS / header).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(include / header, HEADERS / header)
    shutil.copyfile(str(torch.locate_file(license_file)), HEADERS / "LICENSE")
    print(f"{len(headers)} headers of torch {version(VERSION)} are in {HEADERS}")


if __name__ == "__main__":
    main()
