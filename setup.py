"""The compiled libraries of stm-fast; everything else about the distribution is in pyproject.toml.

Nothing here imports torch or the package, and torch need not be installed. Where there is no compiler the wheel is
pure, and the CPU kernels are built when they are first needed. STM_FAST_CUDA=1 asks for the CUDA kernels, and 0 leaves
them out.
"""

import importlib.util
import os
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("recipe", ROOT / "stm_fast" / "ops" / "compiled" / "recipe.py")
recipe = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(recipe)
ENGINES = ["cpu", *(["cuda"] if recipe.cuda_is_wanted() else [])]


class BuildLibrary(build_ext):
    """Builds the libraries with their own recipe instead of setuptools' compiler."""

    def build_extension(self, ext: Extension) -> None:
        """Compile the kernels; without a compiler, leave them out."""
        target = Path(self.get_ext_fullpath(ext.name))
        engine = ext.name.rpartition("_")[2]
        try:
            built = recipe.build(ROOT / "stm_fast" / "csrc", Path(self.build_temp).resolve() / engine, engine)
        except recipe.BuildError as error:
            if os.environ.get("STM_FAST_STRICT") or (engine == "cuda" and os.environ.get("STM_FAST_CUDA")):
                raise
            self.warn(f"installing without the compiled {engine} kernels: {error}")
            target.unlink(missing_ok=True)
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


class Wheel(bdist_wheel):
    """A wheel for this platform if it holds a library, else one for all."""

    def run(self) -> None:
        """Build first, and nothing of an earlier build: the tag depends on what could be built."""
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        self.run_command("build")
        if not self.get_finalized_command("build_ext").get_outputs():
            self.distribution.ext_modules = []
            self.root_is_pure = True
        super().run()


setup(
    ext_modules=[Extension(f"stm_fast._{engine}", sources=[], py_limited_api=True) for engine in ENGINES],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
