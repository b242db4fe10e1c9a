"""Recipes on disk: YAML files, in the package and of users, whose settings can be overridden one by one."""

from collections.abc import Iterable
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from stm_fast.errors import StmFastError
from stm_fast.media.files import write_text
from stm_fast.training.recipe import Recipe
from stm_fast.training.recipe_check import check_recipe

_FOLDER = Path(__file__).parent / "recipes"
_SUFFIXES = (".yaml", ".yml")

T = TypeVar("T")


def recipe_names() -> dict[str, str]:
    """Return the recipes of the package and the first line of each, which says what it trains."""
    return {path.stem: _title(path) for path in sorted(_FOLDER.glob("*.yaml"))}


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def load_recipe(name_or_path: str, overrides: Iterable[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        name_or_path: a name of `recipe_names`, or a YAML file.
        overrides: settings of the form `key=value`. A key is a dotted path such as `optimizer.learning_rate` or
            `rounds.0.stages.1.size`, where `*` stands for every item of a list; a value is YAML.

    Raises:
        StmFastError: there is no such recipe; it is not YAML; or a setting is unknown, of the wrong type or impossible.
            The message names the setting, its value and what is allowed.
    """
    from yaml import YAMLError

    omegaconf = _omegaconf()
    path = _path(name_or_path)
    try:
        raw = omegaconf.OmegaConf.load(path)
    except OSError as error:
        if error.errno is not None:
            raise
        raise StmFastError(f"{path} holds no settings: a recipe is a mapping of names to values") from error
    except (YAMLError, UnicodeDecodeError, RecursionError, omegaconf.errors.OmegaConfBaseException) as error:
        raise StmFastError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error
    if not omegaconf.OmegaConf.is_dict(raw):
        raise StmFastError(f"{path} holds no settings: a recipe is a mapping of names to values")
    for override in overrides:
        _override(raw, override)
    if missing := omegaconf.OmegaConf.missing_keys(raw):
        raise StmFastError(f"{min(missing)} has no value, as '???' stands for one that is missing")
    recipe = _typed(raw, Recipe)
    check_recipe(recipe)
    return recipe


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with all its settings as YAML.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(path, _omegaconf().OmegaConf.to_yaml(_omegaconf().OmegaConf.create(asdict(recipe))))


def _omegaconf() -> Any:
    try:
        import omegaconf
        import omegaconf.errors
    except ImportError as error:
        raise StmFastError("training needs omegaconf: pip install 'stm-fast[train]'") from error
    return omegaconf


def _path(name_or_path: str) -> Path:
    shipped = _FOLDER / f"{name_or_path}.yaml"
    if name_or_path in recipe_names():
        return shipped
    path = Path(name_or_path)
    if path.suffix in _SUFFIXES and path.is_file():
        return path
    raise StmFastError(
        f"recipe {name_or_path!r} is neither a YAML file nor one of the package's: {', '.join(recipe_names())}"
    )


def _override(raw: Any, override: str) -> None:
    key, equals, text = override.partition("=")
    if not key or not equals:
        raise StmFastError(f"settings have the form key=value, got {override!r}")
    omegaconf = _omegaconf()
    try:
        value = omegaconf.OmegaConf.create(f"value: {text}").value if text else None
    except Exception as error:
        raise StmFastError(f"{key}: the value {text!r} is not YAML") from error
    try:
        for each in _expanded(raw, key.split("."), ""):
            omegaconf.OmegaConf.update(raw, each, value)
    except (omegaconf.errors.OmegaConfBaseException, ValueError, TypeError) as error:
        raise StmFastError(f"{key}: {str(error).splitlines()[0]}") from error


def _expanded(raw: Any, parts: list[str], before: str) -> list[str]:
    """Return the paths of a key, one for each item of a list where it has a `*`."""
    omegaconf = _omegaconf()
    if not parts:
        return [before]
    node = omegaconf.OmegaConf.select(raw, before) if before else raw
    if omegaconf.OmegaConf.is_list(node):
        known = [str(index) for index in range(len(node))]
        if parts[0] not in ("*", *known):
            allowed = f"0 to {len(node) - 1} or *" if len(node) else "none, as it is empty"
            raise StmFastError(f"items of {before} are {allowed}, got {parts[0]!r} in {'.'.join([before, *parts])}")
        chosen = known if parts[0] == "*" else parts[:1]
    else:
        chosen = parts[:1]
    return [path for item in chosen for path in _expanded(raw, parts[1:], f"{before}.{item}".lstrip("."))]


def _typed(raw: Any, kind: type[T], path: str = "") -> T:
    """Convert a mapping into a dataclass, and what it holds into the types of its fields."""
    omegaconf = _omegaconf()
    if not omegaconf.OmegaConf.is_dict(raw):
        raise StmFastError(f"{path.rstrip('.')} must be a mapping of names to values, got {raw!r}")
    hints = get_type_hints(kind)
    raw, nested = omegaconf.OmegaConf.create(raw), {}
    for each in fields(kind):  # type: ignore[arg-type]
        inner = next((part for part in (hints[each.name], *get_args(hints[each.name])) if is_dataclass(part)), None)
        if each.name not in raw or inner is None or raw[each.name] is None:
            continue
        value = raw.pop(each.name)
        if get_origin(hints[each.name]) is not tuple:
            nested[each.name] = _typed(value, inner, f"{path}{each.name}.")  # type: ignore[arg-type]
        elif omegaconf.OmegaConf.is_list(value):
            items = (_typed(item, inner, f"{path}{each.name}.{index}.") for index, item in enumerate(value))  # type: ignore[arg-type]
            nested[each.name] = tuple(items)  # type: ignore[assignment]
        else:
            raise StmFastError(f"{path}{each.name} must be a list, got {value!r}")
    try:
        merged = omegaconf.OmegaConf.merge(omegaconf.OmegaConf.structured(kind), raw)
        made: T = omegaconf.OmegaConf.to_object(merged)
    except omegaconf.errors.OmegaConfBaseException as error:
        raise StmFastError(f"{path}{_sentence(error, raw, kind)}") from error
    lists = {name: tuple(value) for name, value in vars(made).items() if isinstance(value, list)}
    return replace(made, **lists, **nested)  # type: ignore[type-var]


def _sentence(error: Any, raw: Any, kind: type) -> str:
    """Say which setting is wrong, what it is and what is allowed."""
    known = [each.name for each in fields(kind)]
    unknown = [str(name) for name in raw if name not in known]
    if unknown:
        return f"{unknown[0]} is no setting: those there are {', '.join(known)}"
    return f"{error.full_key}: {str(error).splitlines()[0]}"
