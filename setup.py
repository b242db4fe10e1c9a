"""Packages and the compiled library of stm-fast; everything else about the distribution is in pyproject.toml.

Nothing here imports torch or the package. Where torch or a compiler is missing the package is installed without the
library, which is then built when it is first needed.
"""

import os
import runpy
import shutil
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
RECIPE = ROOT / "stm_fast" / "ops" / "compiled" / "recipe.py"


class BuildLibrary(build_ext):
    """Builds the library with its own recipe instead of setuptools' compiler."""

    def build_extension(self, ext: Extension) -> None:
        """Compile `csrc`; without a compiler, go on without."""
        recipe = runpy.run_path(str(RECIPE))
        target = Path(self.get_ext_fullpath(ext.name))
        try:
            built = recipe["build"](ROOT / "csrc", Path(self.build_temp).resolve() / "cpu", target.name)
        except recipe["BuildError"] as error:
            if os.environ.get("STM_FAST_STRICT"):
                raise
            self.warn(f"installing without the compiled library: {error}")
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        shutil.copy2(built, partial)
        partial.replace(target)

    def copy_extensions_to_source(self) -> None:
        """Put the library into the checkout of an editable installation."""
        for ext in self.extensions:
            built = Path(self.build_lib) / self.get_ext_filename(ext.name)
            if built.exists():
                partial = (ROOT / self.get_ext_filename(ext.name)).with_suffix(".partial")
                shutil.copy2(built, partial)
                partial.replace(partial.with_suffix(".so"))

    def get_outputs(self) -> list[str]:
        """What was built; nothing where nothing could be."""
        return [path for path in super().get_outputs() if Path(path).exists()]


setup(
    packages=[*find_packages(include=["stm_fast", "stm_fast.*"]), "stm_fast.csrc", "stm_fast.kernels"],
    package_dir={"stm_fast.csrc": "csrc", "stm_fast.kernels": "kernels"},
    package_data={"stm_fast.csrc": ["**/*.h", "**/*.cpp", "**/*.cu"], "stm_fast.kernels": ["budgets.json"]},
    ext_modules=[Extension("stm_fast._cpu", sources=[], py_limited_api=True)],
    cmdclass={"build_ext": BuildLibrary},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
