"""From the data entries of a recipe to open datasets."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("cv2")

from stm_fast.errors import MediaError, StmFastError
from stm_fast.training.data import open_data
from stm_fast.training.recipe import DataEntry, Recipe, Round, Validation
from stm_fast.training.sources.stills import StillSource
from stm_fast.training.sources.videos import VideoSource
from tests.data.miniature_stills import make_pairs
from tests.data.miniatures import make_davis
from tests.training.tiny_runs import STAGE, TINY

PAIRS = DataEntry("pairs", "pairs")
DAVIS = DataEntry("davis2017", "DAVIS", "train")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_pairs(folder / "pairs")
    make_davis(folder / "DAVIS")
    return folder


def recipe(*entries: DataEntry, **changes: object) -> Recipe:
    return replace(TINY, data=entries, validation=Validation(), **changes)


def test_stills_and_videos_mix_and_each_is_opened_once(root: Path) -> None:
    mixed = recipe(PAIRS, replace(DAVIS, repeat=3), rounds=(Round((STAGE,)), Round((STAGE,), data=(PAIRS,))))
    data = open_data(mixed, root)
    assert [len(source) for source in data.rounds] == [3 + 3 * 2, 3]
    (stills, _), (videos, repeat) = data.rounds[0].parts
    assert isinstance(stills, StillSource)
    assert isinstance(videos, VideoSource)
    assert repeat == 3
    assert data.rounds[1].parts[0][0] is stills
    assert (data.validation, data.videos) == (None, None)


def test_an_entry_may_have_a_folder_of_its_own(root: Path) -> None:
    data = open_data(recipe(DataEntry("pairs", root=str(root / "pairs"))), None)
    assert len(data.rounds[0]) == 3


def test_videos_of_validation_have_the_protocol_of_their_layout(root: Path) -> None:
    videos = DataEntry("davis2017", "DAVIS", "val")
    data = open_data(replace(recipe(PAIRS), validation=Validation(data=(PAIRS,), videos=videos)), root)
    assert data.videos is not None
    assert data.videos.name == "DAVIS 2017 val"
    assert data.protocol.name == "DAVIS semi-supervised"


def test_all_that_is_missing_is_told_at_once(root: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError) as raised:
        open_data(recipe(PAIRS, DAVIS, DataEntry("duts", "DUTS")), tmp_path)
    for name in ("pairs", "DAVIS-2017-trainval-480p.zip", "DUTS-TR.zip"):
        assert name in str(raised.value)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (DataEntry("soup"), "layout of a dataset must be one of synthetic, shapes, .*duts.*davis2017.*, got 'soup'"),
        (
            DataEntry("synthetic", set="test"),
            "set of the layout synthetic must be one of train, validation, got 'test'",
        ),
        (DataEntry("shapes", set="test"), "set of the layout shapes must be one of train, validation, got 'test'"),
        (PAIRS, "no folder for the dataset pairs: give --data DIR, which holds pairs/"),
    ],
)
def test_mistakes_are_told(entry: DataEntry, sentence: str) -> None:
    with pytest.raises(StmFastError, match=sentence):
        open_data(recipe(entry), None, {"train": Path("a"), "validation": Path("b")})


def test_an_unknown_augmentation_is_told(root: Path) -> None:
    with pytest.raises(StmFastError, match="augmentation must be one of paper, stcn, got 'none'"):
        open_data(recipe(PAIRS, augmentation="none"), root)
