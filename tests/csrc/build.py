"""Builds the kernels' own tests, which need no torch: natively, for another machine, or with a sanitizer.

    python tests/csrc/build.py OUT [--test cuda] [--machine aarch64] [--compiler aarch64-linux-gnu-g++] [FLAG ...]

Leaves OUT/kernels, or with --test cuda OUT/cuda, in which the CUDA kernels are emulated. Flags are given to the
compiler and to the linker.
"""

import argparse
import importlib.util
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--test", choices=("kernels", "cuda"), default="kernels")
    parser.add_argument("--machine", default=platform.machine())
    parser.add_argument("--compiler")
    options, flags = parser.parse_known_args()
    spec = importlib.util.spec_from_file_location("recipe", ROOT / "stm_fast" / "ops" / "compiled" / "recipe.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    test = recipe.Object(f"{options.test}.o", Path(__file__).with_name(f"{options.test}.cpp"))
    tested = recipe.kernel_objects(CSRC, options.machine) if options.test == "kernels" else []
    common = (*recipe.common_flags(CSRC), *flags)
    options.out.mkdir(parents=True, exist_ok=True)
    rules = recipe.ninja_rules(
        options.compiler or recipe.find_compiler(), common, [*tested, test], ("-pthread", *flags), options.test
    )
    (options.out / f"{options.test}.ninja").write_text(rules)
    sys.exit(
        subprocess.run([recipe.find_ninja(), "-C", options.out, "-f", f"{options.test}.ninja", "--quiet"]).returncode
    )


if __name__ == "__main__":
    main()
