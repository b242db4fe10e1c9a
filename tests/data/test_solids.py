"""Solids: what a renderer must show, and clips in which things turn and bend."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("skimage")

import cv2

from stm_fast.data.synthetic.assets import AssetLibrary
from stm_fast.data.synthetic.clips import synthesise
from stm_fast.data.synthetic.motion import object_path
from stm_fast.data.synthetic.solids.body import MAX_APPROACH, Solid, Turn, dress
from stm_fast.data.synthetic.solids.model import Model, Part, assemble
from stm_fast.data.synthetic.solids.raster import Window, visible_samples
from stm_fast.data.synthetic.solids.relief import relief
from stm_fast.data.synthetic.solids.render import Lamp, View, cast_shadow, render
from stm_fast.errors import StmFastError
from tests.data import models as made
from tests.data.pictures import asset_library

SIZE = 64
AMBIENT = Lamp(np.float32([0, 1, 0]), 1.0, 0.0)
FRONT = np.eye(3, dtype=np.float32)
PLACE = np.float32([[24, 0, 32], [0, 24, 32]])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> AssetLibrary:
    """Pictures, and a green cube and a red one that bends, as models."""
    root = tmp_path_factory.mktemp("assets")
    pictures = asset_library(root)
    (root / "model").mkdir()
    made.cube(colour=(40, 220, 40)).save(root / "model" / "green.npz")
    bent = np.stack([made.CUBE, made.CUBE * np.float32([1.0, 1.5, 0.5])])
    made.cube(bent, colour=(220, 40, 40)).save(root / "model" / "red.npz")
    opened = AssetLibrary.open(root)
    assert len(opened.models) == 2
    assert opened.cutouts == pictures.cutouts
    return opened


def turned(yaw: float) -> np.ndarray:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.float32([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


def drawn(model: Model, rotation: np.ndarray = FRONT, lamp: Lamp = AMBIENT, distance: float = 8.0) -> np.ndarray:
    return render(model, model.textures, 0.0, View(rotation, distance, PLACE), lamp, SIZE)


def test_every_pixel_shows_the_nearest_triangle_over_its_centre() -> None:
    """Against a rasteriser that asks every triangle about every pixel."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(-4, 24, (60, 3, 2)).astype(np.float32)
    nearness = rng.uniform(0.1, 1, (60, 3)).astype(np.float32)
    window = Window(2, 3, 18, 20)
    samples = visible_samples(corners, nearness, window)
    shown = np.full((window.height, window.width), -1)
    shown.ravel()[samples.pixel] = samples.triangle
    wrong = 0
    for y in range(window.top, window.bottom):
        for x in range(window.left, window.right):
            wrong += shown[y - window.top, x - window.left] != _nearest(corners, nearness, x + 0.5, y + 0.5)
    assert wrong == 0
    assert (shown >= 0).mean() > 0.5


def _nearest(corners: np.ndarray, nearness: np.ndarray, x: float, y: float) -> int:
    best, found = 0.0, -1
    for index, (triangle, near) in enumerate(zip(corners.astype(float), nearness.astype(float), strict=True)):
        system = np.vstack([triangle.T, np.ones(3)])
        weights = np.linalg.solve(system, [x, y, 1])
        if (weights >= 0).all() and weights @ near > best:
            best, found = weights @ near, index
    return found


def test_a_cube_seen_from_the_front_is_a_square_of_its_size() -> None:
    picture = drawn(made.cube(), distance=1e4)
    side = 2 / np.sqrt(3) * 24
    assert picture[..., 3].sum() == pytest.approx(side**2, rel=0.04)
    assert picture[32, 32, 3] == 1
    assert picture[0, 0, 3] == 0
    assert np.allclose(picture[picture[..., 3] > 0][:, :3] * 255, (200, 60, 30), atol=1)


def test_what_is_nearer_looks_larger() -> None:
    far, near = (drawn(made.cube(), distance=distance)[..., 3].sum() for distance in (20.0, 2.5))
    assert near > 1.3 * far


def test_sides_come_into_view_when_it_turns() -> None:
    """The halves of the texture are red and blue; the front of this sheet has one, its back the other."""
    front = np.float32([[-1, -1, 0.1], [1, -1, 0.1], [1, 1, 0.1], [-1, 1, 0.1]])
    sides = np.concatenate([front, front * [1, 1, -1]])
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]] * 3)
    texcoords = np.repeat(np.float32([[0.25, 0.5], [0.75, 0.5]]), 4, 0)
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4], picture[:, 4:] = (255, 0, 0), (0, 0, 255)
    model = assemble([Part(sides[None].astype(np.float32), triangles, texcoords, picture)])
    assert model is not None
    assert np.allclose(drawn(model)[32, 32], [1, 0, 0, 1], atol=0.01)
    assert np.allclose(drawn(model, turned(np.pi))[32, 32], [0, 0, 1, 1], atol=0.01)


def test_textures_are_upright_and_in_perspective() -> None:
    """A square whose texture is dark above and light below, and twice as far on its right side."""
    square = np.float32([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]] * 6)
    texcoords = np.float32([[0, 0.99], [0.99, 0.99], [0.99, 0], [0, 0]])
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0] = np.arange(64)[:, None] * 4
    ramp[..., 1] = np.arange(64)[None] * 4
    model = assemble([Part(square[None], triangles, texcoords, ramp)])
    assert model is not None
    flat = drawn(model)
    assert flat[20, 32, 0] < 0.45 < 0.55 < flat[44, 32, 0]
    assert flat[32, 20, 1] < 0.45 < 0.55 < flat[32, 44, 1]
    tilted = drawn(model, turned(-0.9), distance=1.8)
    columns = np.flatnonzero(tilted[32, :, 3] == 1)
    middle = tilted[32, columns[len(columns) // 2], 1]
    assert abs(middle - 0.5) > 0.08


def test_holes_show_what_is_behind() -> None:
    picture = np.zeros((16, 16, 4), np.uint8)
    picture[..., :3], picture[:8, :, 3] = 128, 255
    square = np.float32([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    texcoords = np.float32([[0, 0.99], [0.99, 0.99], [0.99, 0], [0, 0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]] * 6)
    behind = Part(square[None] - np.float32([0, 0, 0.3]), triangles, texcoords, made.texture((0, 255, 0)))
    model = assemble([Part(square[None], triangles, texcoords, picture), behind])
    assert model is not None
    seen = drawn(model)
    assert np.allclose(seen[24, 32], [0.5, 0.5, 0.5, 1], atol=0.01)
    assert np.allclose(seen[40, 32], [0, 1, 0, 1], atol=0.01)


def test_light_comes_from_the_lamp_whichever_way_triangles_turn() -> None:
    lamp = Lamp(np.float32([1, 0, 0]), 0.2, 0.8)
    model = made.cube(colour=(255, 255, 255))
    inside_out = replace(model, triangles=model.triangles[:, ::-1])
    for solid in (model, inside_out):
        picture = drawn(solid, turned(-np.pi / 4), lamp)
        left, right = picture[32, 22, 0], picture[32, 42, 0]
        assert left == pytest.approx(0.2, abs=0.02)
        assert right == pytest.approx(0.2 + 0.8 * np.cos(np.pi / 4), abs=0.02)


def test_shadows_fall_away_from_the_lamp_onto_the_ground() -> None:
    """Seen from above in front, with the lamp on the right: the shadow lies on the left, and nowhere above the cube."""
    down = np.float32(0.5)
    from_above = np.float32([[1, 0, 0], [0, np.cos(down), -np.sin(down)], [0, np.sin(down), np.cos(down)]])
    view = View(from_above, 8.0, PLACE)
    right = np.float32([0.6, 0.8, 0.0])
    dark = cast_shadow(made.cube(), 0.0, view, Lamp(right, 1.0, 0.0), SIZE)
    solid = render(made.cube(), made.cube().textures, 0.0, view, AMBIENT, SIZE)[..., 3] > 0
    assert dark is not None
    beyond = np.where(solid, 0, dark)
    assert beyond.max() > 0.8
    assert beyond[:, :32].sum() > 3 * beyond[:, 32:].sum()
    assert beyond[:16].max() < 0.05
    low = cast_shadow(made.cube(), 0.0, view, Lamp(np.float32([1, 0, 0]), 1.0, 0.0), SIZE)
    assert low is None


def test_models_outside_the_frame_or_across_its_edge_are_drawn_in_part() -> None:
    model = made.cube()
    whole = drawn(model)
    away = render(
        model, model.textures, 0.0, View(FRONT, 8.0, PLACE + np.float32([[0, 0, 500], [0, 0, 0]])), AMBIENT, SIZE
    )
    moved = render(
        model, model.textures, 0.0, View(FRONT, 8.0, PLACE + np.float32([[0, 0, 32], [0, 0, 0]])), AMBIENT, SIZE
    )
    assert not away.any()
    assert np.allclose(moved[:, 32:], whole[:, :32], atol=1e-3)


def test_a_pose_places_a_solid_as_it_places_a_sprite(library: AssetLibrary) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        solid = Solid.random(library, 3, rng)
        path = solid.move(object_path(3, 0.3, rng), rng)
        assert np.ptp(path.log_scale) <= np.log(MAX_APPROACH) + 0.5
        picture = solid.draw(1, PLACE, SIZE)
        rows, columns = np.nonzero(picture[..., 3] > 0.5)
        assert picture.shape == (SIZE, SIZE, 4)
        assert abs(rows.mean() - 32) < 14
        assert abs(columns.mean() - 32) < 14
        assert 30 < len(rows) < 2500


def test_reliefs_look_like_their_picture_and_bulge() -> None:
    picture = np.zeros((90, 60, 4), np.uint8)
    cv2.ellipse(picture, (30, 45), (22, 36), 0, 0, 360, (40, 220, 40, 255), -1)
    picture[:45, :, 0] = 200
    shape = relief(picture, 0.8, 0.3)
    assert shape is not None
    front, side = drawn(shape, distance=1e3), drawn(shape, turned(0.6), distance=1e3)
    wide, turned_wide = (np.ptp(np.flatnonzero((seen[..., 3] > 0.5).any(0))) for seen in (front, side))
    flat = wide * np.cos(0.6)
    assert np.ptp(np.flatnonzero((front[..., 3] > 0.5).any(1))) == pytest.approx(wide * 36 / 22, abs=2)
    assert flat + 1 < turned_wide < wide
    assert np.allclose(front[20, 32, :3], [200 / 255, 220 / 255, 40 / 255], atol=0.03)
    assert np.allclose(front[44, 32, :3], [40 / 255, 220 / 255, 40 / 255], atol=0.03)
    assert relief(np.zeros((20, 20, 4), np.uint8), 0.8, 0.3) is None


def test_turns_range_from_still_to_fast() -> None:
    steps = []
    for seed in range(60):
        turn = Turn.random(4, np.random.default_rng(seed))
        between = turn.rotations[1:] @ turn.rotations[:-1].transpose(0, 2, 1)
        assert np.allclose(turn.rotations @ turn.rotations.transpose(0, 2, 1), np.eye(3), atol=1e-5)
        assert np.linalg.det(turn.rotations[0]) == pytest.approx(1, abs=1e-5)
        steps.append(np.degrees(np.arccos(np.clip((np.trace(between, axis1=1, axis2=2) - 1) / 2, -1, 1)).mean()))
    assert min(steps) < 2
    assert 15 < max(steps) < 120


def test_twins_are_the_same_model_that_turns_otherwise(library: AssetLibrary) -> None:
    rng = np.random.default_rng(1)
    solid = Solid.random(library, 3, rng)
    same, other = solid.twin(False, rng), solid.twin(True, rng)
    assert same.model is other.model is solid.model
    assert all(np.array_equal(a, b) for a, b in zip(same.textures, solid.textures, strict=True))
    assert not np.array_equal(other.textures[0], solid.textures[0])
    assert not np.array_equal(same.turn.rotations, solid.turn.rotations)


def test_dresses_keep_holes(library: AssetLibrary) -> None:
    texture = np.full((64, 64, 4), (200, 60, 30, 255), np.uint8)
    texture[:, :20, 3] = 0
    changed = 0
    for seed in range(30):
        (dressed,) = dress((texture,), library, np.random.default_rng(seed))
        assert np.array_equal(dressed[..., 3] > 127, texture[..., 3] > 127)
        changed += not np.array_equal(dressed[..., :3], texture[..., :3])
    assert 5 < changed < 25


def test_clips_of_solids_have_exact_masks_and_depend_on_their_seed_alone(library: AssetLibrary) -> None:
    for seed in range(8):
        first, again = (synthesise(library, np.random.default_rng(seed), 3, 64, solids=1.0) for _ in range(2))
        assert np.array_equal(first.frames, again.frames)
        assert np.array_equal(first.masks, again.masks)
        assert first.masks.max() == first.objects >= 1


def test_the_share_of_solids_is_that_asked_for(library: AssetLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    random = Solid.random
    monkeypatch.setattr(Solid, "random", lambda *args: drawn.append(1) or random(*args))
    for seed in range(5):
        synthesise(library, np.random.default_rng(seed), 2, 48)
    assert not drawn
    synthesise(library, np.random.default_rng(0), 2, 48, solids=1.0)
    assert drawn
    with pytest.raises(StmFastError, match="holds no models"):
        synthesise(replace(library, models=()), np.random.default_rng(0), 2, 48, solids=0.5)
