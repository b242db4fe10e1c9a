"""Recipes: those of the package, settings in their place, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("omegaconf")

from stm_fast.errors import StmFastError
from stm_fast.training.recipe import Recipe, Schedule, settings_of
from stm_fast.training.recipe_files import load_recipe, recipe_names, save_recipe


def load(name: str, *settings: str) -> Recipe:
    start = [] if any(setting.startswith("start=") for setting in settings) else ["start=none"]
    return load_recipe(name, [*start, *settings])


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_of_the_package_load_and_return_from_disk(name: str, tmp_path: Path) -> None:
    recipe = load(name)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe


def test_each_recipe_says_what_it_is() -> None:
    assert recipe_names().keys() == {
        "stm-paper-static",
        "stm-paper-video",
        "stcn-like",
        "compact",
        "compact-crowds",
        "compact-ghosts",
        "smoke",
    }
    assert all(20 < len(title) < 120 for title in recipe_names().values())


@pytest.mark.parametrize("name", ["stm-paper-static", "stm-paper-video"])
def test_the_papers_stages_are_those_of_section_3_5(name: str) -> None:
    recipe = load(name)
    (stage,) = recipe.rounds[0].stages
    assert (stage.frames, stage.size, stage.clips, stage.max_objects) == (3, 384, 4, 3)
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate) == ("adam", 1e-5)
    assert recipe.freeze == ("batch-norm",)
    assert recipe.augmentation == "paper"
    # What the field has added is off.
    assert (recipe.loss.hardest, recipe.loss.soft_iou, recipe.ema, recipe.precision) == (1, 0, 0, "fp32")
    assert (recipe.optimizer.weight_decay, recipe.optimizer.clip_norm, recipe.optimizer.accumulate) == (0, None, 1)
    assert recipe.rounds[0].schedule == Schedule()


def test_settings_replace_those_of_a_recipe() -> None:
    recipe = load(
        "compact",
        "optimizer.learning_rate=1e-4",
        "rounds.*.stages.*.size=48",
        "rounds.0.stages.1.steps=7",
        "validation.videos={layout: folder, root: here}",
        "freeze=[early]",
        "optimizer.clip_norm=null",
    )
    assert recipe.optimizer.learning_rate == 1e-4
    assert {stage.size for part in recipe.rounds for stage in part.stages} == {48}
    assert recipe.rounds[0].stages[1].steps == 7
    assert recipe.validation.videos is not None
    assert recipe.validation.videos.root == "here"
    assert recipe.freeze == ("early",)
    assert recipe.optimizer.clip_norm is None


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("soup=1", "soup is no setting: those there are model, start"),
        ("optimizer.rate=1", "optimizer.rate is no setting: those there are name, learning_rate"),
        ("rounds.0.stages.0.sise=1", "rounds.0.stages.0.sise is no setting"),
        ("rounds.0.stages.0.size=big", "rounds.0.stages.0.size: .*'big'.*Integer"),
        ("rounds.0.stages.0.size=50", "rounds.0.stages.0.size must be a multiple of 16, got 50"),
        ("rounds.7.stages.0.size=48", r"items of rounds are 0 to 0 or \*, got '7'"),
        ("rounds=3", "rounds must be a list, got 3"),
        ("rounds=[]", "rounds must have at least one round"),
        ("optimizer=adam", "optimizer must be a mapping of names to values, got 'adam'"),
        ("optimizer.name=sgd", "optimizer.name must be one of adam, adamw, got 'sgd'"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate must be above 0 and finite, got 0"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate must be above 0 and finite, got nan"),
        ("optimizer.learning_rate=.inf", "optimizer.learning_rate must be above 0 and finite, got inf"),
        ("optimizer.weight_decay=.inf", "optimizer.weight_decay must be at least 0 and finite, got inf"),
        ("seed=99999999999999999999", "seed must be at least 0 and at most 4294967295, got 9"),
        ("data.0.repeat=1000000000", "data.0.repeat must be at least 1 and at most 1000, got 1"),
        ("optimizer.accumulate=3", "optimizer.accumulate must be at most the clips of a step, which are 2, got 3"),
        ("rounds.0.stages.0.epochs=3", "rounds.0.stages.0 must have either steps or epochs"),
        ("loss.hardest=0", "loss.hardest must be above 0 and at most 1, got 0"),
        ("ema=1", "ema must be at least 0 and below 1, got 1"),
        ("freeze=[heads]", "freeze must be one of batch-norm, depthwise, early, trunk, got 'heads'"),
        ("precision=int8", "precision must be one of fp32, bf16, fp16, got 'int8'"),
        ("validation.best_by=jf", "validation.best_by must be loss or j unless validation.videos names a dataset"),
        ("data=[{folder: here}]", "data.0.layout must name a layout, got ''"),
        ("data=[]", "rounds.0.data must name a dataset, or `data` must"),
        ("workers", "settings have the form key=value, got 'workers'"),
        ("workers=[1", "workers: the value '\\[1' is not YAML"),
        ("start=''", "earlier stage, imagenet or none, got ''"),
    ],
)
def test_mistakes_are_told_in_a_sentence(setting: str, sentence: str) -> None:
    with pytest.raises(StmFastError, match=sentence):
        load("compact", setting)


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: [{layout: duts}]\nrounds: [{stages: [{epochs: 2}]}]\n")
    assert load_recipe(str(path)).rounds[0].stages[0].epochs == 2
    for text in ("- a\n- b\n", "5\n"):
        path.write_text(text)
        with pytest.raises(StmFastError, match="holds no settings"):
            load_recipe(str(path))
    for text in ("a: [", "a: " + "[" * 2000 + "]" * 2000):
        path.write_text(text)
        with pytest.raises(StmFastError, match="is not a YAML file"):
            load_recipe(str(path))
    path.write_text("data: [{layout: '???'}]")
    with pytest.raises(StmFastError, match=r"data\[0\].layout has no value"):
        load_recipe(str(path))
    with pytest.raises(StmFastError, match="neither a YAML file nor one of the package's: compact"):
        load_recipe("soup")


def test_settings_that_decide_nothing_may_change_when_a_run_resumes() -> None:
    recipe = load("compact")
    assert settings_of(replace(recipe, workers=9, checkpoint_every=3)) == settings_of(recipe)
    changed = settings_of(replace(recipe, seed=1))
    assert {name for name, value in changed.items() if settings_of(recipe)[name] != value} == {"seed"}
    assert settings_of(recipe)["rounds.0.stages.2.smallest_crop"] == 0.7
