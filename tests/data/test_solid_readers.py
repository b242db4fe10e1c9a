"""Models of other people's formats: what their files say, and files that are damaged."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from stm_fast.data.synthetic.solids.ac3d import read_ac3d
from stm_fast.data.synthetic.solids.actors import actor_parts, read_actor
from stm_fast.data.synthetic.solids.cars import car_parts
from stm_fast.data.synthetic.solids.g3d import read_g3d
from stm_fast.data.synthetic.solids.md3 import read_md3
from stm_fast.data.synthetic.solids.model import Model, Part, assemble
from stm_fast.data.synthetic.solids.obj import read_obj
from stm_fast.data.synthetic.solids.packages import SOLID_SOURCES, SolidSource
from stm_fast.data.synthetic.solids.players import player_parts
from stm_fast.data.synthetic.solids.pmd import read_pmd, read_psa
from stm_fast.data.synthetic.solids.prepare import holds_together, models, prepare_models
from stm_fast.data.synthetic.solids.store import Store
from stm_fast.errors import StmFastError
from tests.data import models as made
from tests.data.models import CUBE, TRIANGLES

FRAMES = np.stack([CUBE, CUBE + np.float32([0, 0.5, 0]), CUBE + np.float32([0, 1, 0])])


def no_file(name: str, *_: object) -> np.ndarray:
    raise ValueError(f"no file {name}")


def volume(part: Part) -> float:
    """Return the volume that a part's surface encloses, positive if its triangles turn left seen from outside."""
    a, b, c = part.positions[0][part.triangles].astype(float).transpose(1, 0, 2)
    return float(np.einsum("nk,nk->n", a, np.cross(b, c)).sum() / 6)


def test_g3d_has_a_mesh_for_each_frame() -> None:
    asked = []

    def picture(name: str, coloured: bool) -> np.ndarray:
        asked.append((name, coloured))
        return made.texture()

    (part,) = read_g3d(made.g3d(FRAMES, properties=1), picture)
    assert asked == [("skin.png", True)]
    assert np.array_equal(part.positions, FRAMES)
    assert np.array_equal(part.triangles, TRIANGLES)
    assert np.allclose(part.texcoords, made.TEXCOORDS * [1, -1])
    (plain,) = read_g3d(made.g3d(FRAMES, name=b""), no_file)
    assert plain.texcoords is None
    assert (plain.texture == 127).all()


def test_md3_has_frames_and_tags() -> None:
    origins = np.float32([[0, 0, 1], [0, 0, 2], [0, 0, 3]])
    file = read_md3(made.md3(FRAMES, {"tag_torso": origins}))
    (surface,) = file.surfaces
    assert (surface.name, surface.shader) == ("body", "skin.tga")
    assert np.allclose(surface.positions, FRAMES, atol=1 / 64)
    assert np.array_equal(surface.triangles, TRIANGLES)
    assert np.allclose(file.tags["tag_torso"][:, :, 3], origins)
    assert np.allclose(file.tags["tag_torso"][:, :, :3], 3 * np.eye(3))


def test_players_are_joined_at_tags_whose_scale_does_not_count(tmp_path: Path) -> None:
    """The torso stands two above the legs, the head two above the torso; up is the second axis of a model."""
    up = np.float32([[0, 0, 2]] * 3)
    still = np.stack([CUBE] * 3)
    rows = "\n".join("0 3 3 10" for _ in range(25))
    skin = b"body,skin.tga\ntag_torso,\n"
    files = {
        "models/players/x/lower.md3": made.md3(still, {"tag_torso": up}),
        "models/players/x/upper.md3": made.md3(still, {"tag_head": up}),
        "models/players/x/head.md3": made.md3(still[:1]),
        "models/players/x/animation.cfg": f"sex m\n{rows}\n".encode(),
        **{f"models/players/x/{part}_red.skin": skin for part in ("lower", "upper", "head")},
        "skin.jpg": made.png(made.texture()),
    }
    store = Store(made.zipped(tmp_path / "pak.pk3", files))
    legs, torso, head = player_parts(store, "models/players/x", "red", 0)
    assert legs.positions.shape == (3, 8, 3)
    assert np.allclose(torso.positions - legs.positions, [0, 2, 0], atol=1e-5)
    assert np.allclose(head.positions - legs.positions, [0, 4, 0], atol=1e-5)
    assert legs.texture.tolist() == made.texture().tolist()
    with pytest.raises(ValueError, match=r"no file models/players/y/lower\.md3"):
        player_parts(store, "models/players/y", "red", 0)


@pytest.mark.parametrize("surface", ["0x10", "0x14"])
def test_ac3d_places_objects_inside_others(surface: str) -> None:
    (part,) = read_ac3d(made.ac3d(surface), no_file)
    points = part.positions[0]
    assert np.allclose([points.min(0), points.max(0)], [[3, -1, -1], [7, 1, 1]])
    assert len(part.triangles) == 12
    assert part.texcoords is None
    assert part.texture[0, 0].tolist() == [255, 0, 0]
    if surface == "0x10":
        assert abs(volume(part)) == pytest.approx(16)
    assert read_ac3d(made.ac3d(), no_file, leave_out=("cube",)) == []


def test_obj_has_faces_by_material_and_no_glass() -> None:
    parts = read_obj(made.obj(), lambda name: made.OBJ_MATERIALS, lambda name: made.texture())
    painted, plain = parts
    assert len(painted.triangles) == len(plain.triangles) == 6
    assert np.allclose(painted.texcoords, [0.5, -0.25])
    assert plain.texcoords is None
    assert plain.texture[0, 0].tolist() == [0, 0, 255]
    whole = Part(
        np.concatenate([painted.positions, plain.positions], 1), np.arange(36).reshape(-1, 3), None, plain.texture
    )
    assert abs(volume(whole)) == pytest.approx(8)


def test_bones_move_what_hangs_on_them() -> None:
    skin, motion = read_pmd(made.pmd()), read_psa(made.psa([0.0, 0.5]))
    assert np.array_equal(skin.positions, CUBE)
    posed = skin.posed(motion)
    upper = CUBE[:, 1] > 0
    assert np.allclose(posed[0], CUBE)
    assert np.allclose(posed[1, upper], CUBE[upper] + [0, 0.5, 0])
    assert np.allclose(posed[1, ~upper], CUBE[~upper])
    fastening = skin.fastening("head", motion)
    assert fastening is not None
    assert np.allclose(fastening[:, :3, 3], [[0, 3, 0], [0, 3.5, 0]])
    assert skin.fastening("hand", motion) is None


def test_actors_wear_others_and_draw_variants(tmp_path: Path) -> None:
    actor = """<actor version="1"><group>
        <variant frequency="1"><mesh>cube.dae</mesh><textures><texture file="skin.png" name="baseTex"/></textures>
        <props><prop actor="hat.xml" attachpoint="head"/><prop actor="lost.xml" attachpoint="head"/></props></variant>
        <variant frequency="0"><mesh>never.dae</mesh></variant></group>
        <group><variant file="walks.xml"/></group><material>player_trans.xml</material></actor>"""
    hat = "<actor><group><variant><mesh>cube.dae</mesh></variant></group></actor>"
    walks = '<variant><animations><animation file="walk.dae" name="Walk"/></animations></variant>'
    files = {
        "art/actors/man.xml": actor.replace('<prop actor="lost.xml" attachpoint="head"/>', "").encode(),
        "art/actors/bad.xml": b"<actor",
        "art/actors/hat.xml": hat.encode(),
        "art/variants/walks.xml": walks.encode(),
        "art/meshes/cube.dae.cached.pmd": made.pmd(),
        "art/animation/walk.dae.cached.psa": made.psa([0.0, 9.0, 0.5, 9.0]),
        "art/textures/skins/skin.png": made.png(made.texture((1, 2, 3, 0))),
    }
    store = Store(made.zipped(tmp_path / "public.zip", files))
    read = read_actor(store, "man.xml", np.random.default_rng(0))
    assert (read.mesh, read.motions) == ("cube.dae", {"walk": ["walk.dae"]})
    body, worn = actor_parts(store, read, "walk", np.random.default_rng(0))
    assert body.positions.shape == (2, 8, 3)
    assert body.texture.shape == (8, 8, 3)
    assert np.allclose(worn.positions[:, :, 1].mean(1), [3, 3.5])
    with pytest.raises(ValueError, match=r"bad.xml"):
        read_actor(store, "bad.xml", np.random.default_rng(0))


READERS = {
    "g3d": (made.g3d(FRAMES), lambda data: read_g3d(data, lambda *_: made.texture())),
    "md3": (made.md3(FRAMES, {"tag": FRAMES[:, 0]}), read_md3),
    "ac3d": (made.ac3d().encode(), lambda data: read_ac3d(data.decode("latin-1"), no_file)),
    "obj": (made.obj().encode(), lambda data: read_obj(data.decode("latin-1"), lambda _: made.OBJ_MATERIALS, no_file)),
    "pmd": (made.pmd(), read_pmd),
    "psa": (made.psa([0.0, 1.0]), read_psa),
}


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_are_value_errors_or_parts(kind: str) -> None:
    data, read = READERS[kind]
    rng = np.random.default_rng(0)
    for cut in range(0, len(data), max(1, len(data) // 60)):
        _raises_value_error_at_most(read, data[:cut])
    for _ in range(150):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            broken[place] = int(rng.integers(256))
        _raises_value_error_at_most(read, bytes(broken))


def _raises_value_error_at_most(read: object, data: bytes) -> None:
    try:
        parts = read(data)  # type: ignore[operator]
    except ValueError:
        return
    if isinstance(parts, list) and all(isinstance(part, Part) for part in parts):
        assemble(parts)


def test_models_are_of_one_size_and_kept_in_a_file(tmp_path: Path) -> None:
    model = made.cube(100 * FRAMES, colour=(10, 200, 30, 255))
    assert np.abs(np.linalg.norm(model.frames, axis=-1).max() - 1) < 1e-5
    assert np.allclose(model.frames.min((0, 1)), -model.frames.max((0, 1)), atol=1e-6)
    assert np.allclose(model.at(0.5), (model.frames[0] + model.frames[1]) / 2)
    assert np.allclose(model.at(3.5), model.at(0.5))
    model.save(tmp_path / "cube.npz")
    again = Model.load(tmp_path / "cube.npz")
    assert np.allclose(again.frames, model.frames, atol=1e-4)
    assert np.array_equal(again.triangles, model.triangles)
    assert np.array_equal(again.textures[0], model.textures[0])
    (tmp_path / "cube.npz").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(StmFastError, match="is not a model"):
        Model.load(tmp_path / "cube.npz")


def test_unusable_meshes_are_no_models() -> None:
    texture = made.texture()
    flat = CUBE * np.float32([1, 0.001, 0.001])
    assert assemble([]) is None
    assert assemble([Part(CUBE[None], TRIANGLES[:5], None, texture)]) is None
    assert assemble([Part(np.full((1, 8, 3), np.nan, np.float32), TRIANGLES, None, texture)]) is None
    assert assemble([Part(CUBE[None], TRIANGLES + 8, None, texture)]) is None
    assert assemble([Part(flat[None], TRIANGLES, None, texture)]) is None


def test_a_source_yields_its_models_and_leaves_out_damaged_files(tmp_path: Path) -> None:
    folder = tmp_path / "megaglest-data" / "usr/share/games/megaglest/techs"
    folder.mkdir(parents=True)
    (folder / "a.g3d").write_bytes(made.g3d(FRAMES))
    (folder / "b.g3d").write_bytes(made.g3d(FRAMES)[:200])
    (folder / "c.g3d").write_bytes(made.g3d(FRAMES, name=b"lost.png"))
    (folder / "SKIN.png").write_bytes(made.png(made.texture()))
    source = next(source for source in SOLID_SOURCES if source.package == "megaglest-data")
    found = list(models(source, tmp_path, np.random.default_rng(0)))
    assert len(found) == 1
    assert found[0].textures[0].tolist() == made.texture().tolist()


def test_cars_have_wheels_that_turn_in_their_places(tmp_path: Path) -> None:
    xml = """<params><section name="Graphic Objects"><attstr name="3d wheel directory" val="w"/></section>
        <section name="Front Axle"><attnum name="xpos" val="1.5"/></section>
        <section name="Front Left Wheel"><attnum name="ypos" val="0.7"/><attnum name="tire width" val="200"/>
        <attnum name="rim diameter" val="20"/><attnum name="tire height-width ratio" val="0.5"/></section></params>"""
    files = {
        "cars/a/a.acc": made.ac3d().encode(),
        "cars/a/a.xml": xml.encode(),
        "wheels/w/wheel0.acc": made.ac3d().encode(),
    }
    store = Store(made.zipped(tmp_path / "torcs.zip", files))
    body, *wheels = car_parts(store, "cars/a/a.acc")
    assert len(body.positions) == 1
    assert len(wheels) == 4
    radius = 20 * 0.0254 / 2 + 0.2 * 0.5
    hub = wheels[0].positions - np.float32([1.5, radius, -0.7])
    assert np.allclose(np.linalg.norm(hub[..., :2], axis=-1).max(), 2 * radius * np.hypot(7, 1), rtol=1e-4)
    assert np.allclose(hub[..., 2].mean(), 0, atol=1e-4)
    assert not np.allclose(hub[0], hub[1])
    bare = Store(made.zipped(tmp_path / "bare.zip", {"cars/a/a.acc": made.ac3d().encode()}))
    assert len(car_parts(bare, "cars/a/a.acc")) == 1


def test_scattered_pieces_do_not_hold_together() -> None:
    pieces = [
        Part(0.2 * CUBE[None] + np.float32([2 * x, 2 * y, 0]), TRIANGLES, None, made.texture())
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    scattered, whole = assemble(pieces), made.cube()
    assert scattered is not None
    assert not holds_together(scattered)
    assert holds_together(whole)
    clear = Part(CUBE[None], TRIANGLES, made.TEXCOORDS, made.texture((9, 9, 9, 0)))
    unseen = assemble([clear])
    assert unseen is not None
    assert not holds_together(unseen)


def test_models_of_all_packages_are_prepared_or_none(tmp_path: Path) -> None:
    packages, out = tmp_path / "packages", tmp_path / "model"
    with pytest.raises(StmFastError, match="lacks the unpacked packages 0ad-data, "):
        list(prepare_models(packages, out))
    for source in SOLID_SOURCES:
        (packages / source.package).mkdir(parents=True)
    with pytest.raises(StmFastError, match="no usable models"):
        list(prepare_models(packages, out))
    furniture = packages / "sweethome3d-furniture" / "usr/share/sweethome3d/furniture"
    files = {"a/cube.obj": made.obj().encode(), "a/cube.mtl": made.OBJ_MATERIALS.encode()}
    made.zipped(furniture / "A.sh3f", {**files, "a/skin.png": made.png(made.texture())})
    (furniture / "B.sh3f").write_bytes(b"no archive")
    assert not out.exists()
    assert list(prepare_models(packages, out)) == list(range(len(SOLID_SOURCES) + 1))
    (path,) = out.iterdir()
    assert len(Model.load(path).triangles) == 12


def test_every_source_is_read_from_an_empty_package(tmp_path: Path) -> None:
    for source in SOLID_SOURCES:
        assert isinstance(source, SolidSource)
        assert source.licence
        assert list(models(source, tmp_path, np.random.default_rng(0))) == []
