"""The clips of the layout `synthetic`: fetched pictures, prepared, and made into clips on disk."""

from contextlib import closing
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

    Pictures go to `out/assets`, clips to `out/clips` and `out/validation`. The seeds of the two sets differ, so that
    their clips do.

    Raises:
        StmFastError: packages are missing, or pictures cannot be fetched.
    """
    from stm_fast.data.synthetic.pool import PoolSpec

    missing = [name for name in ("cv2", "skimage") if find_spec(name) is None]
    if missing:
        raise StmFastError(f"synthetic clips need {', '.join(missing)}: pip install 'stm-fast[train]'")
    settings = recipe.synthetic
    assets = _assets(out, None if settings.pictures is None else Path(settings.pictures))
    specs = {
        "validation": PoolSpec(
            settings.validation_clips, settings.validation_frames, settings.size, seed=recipe.seed + 1
        ),
        "train": PoolSpec(settings.clips, settings.frames, settings.size, recipe.seed),
    }
    folders = {"validation": out / "validation", "train": out / "clips"}
    for name, spec in specs.items():
        _make_pool(assets, folders[name], spec)
    return folders


def _assets(out: Path, sources: Path | None) -> Path:
    """Prepare the pictures if that is not done, and return their folder."""
    from stm_fast.data.synthetic.assets import AssetLibrary, prepare_assets
    from stm_fast.data.synthetic.sources import fetch_sources

    assets = out / "assets"
    if not assets.exists():
        if sources is None:
            sources = out / "sources"
            say(f"Fetching pictures into {sources}")
            fetch_sources(sources)
        say(f"Preparing pictures in {assets}")
        prepare_assets(sources, assets)
    library = AssetLibrary.open(assets)
    say(f"{len(library.cutouts)} cut-outs, {len(library.clipart)} drawings, {len(library.photos)} photographs")
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
