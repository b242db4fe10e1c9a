"""Synthetic clips: exact masks, the same clips from the same seed, pools that survive interruption."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2")
pytest.importorskip("skimage")

import cv2

from stm_fast.data.synthetic.assets import AssetLibrary, carve_webp, prepare_assets
from stm_fast.data.synthetic.clips import MIN_VISIBLE, synthesise
from stm_fast.data.synthetic.motion import ThinPlate, compose, object_path
from stm_fast.data.synthetic.objects import camouflage, join, random_sprite, smooth_shape
from stm_fast.data.synthetic.parts import add_limbs
from stm_fast.data.synthetic.pool import CLIPS_PER_SHARD, ClipPool, PoolSpec, make_pool
from stm_fast.data.synthetic.screens import Posts, Spray
from stm_fast.data.synthetic.sources import SOURCES, Source, source_files
from stm_fast.errors import StmFastError
from tests.data.pictures import asset_library, cutout, photo


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> AssetLibrary:
    return asset_library(tmp_path_factory.mktemp("assets"))


def test_ids_run_from_one_on_the_first_frame(library: AssetLibrary) -> None:
    for seed in range(12):
        clip = synthesise(library, np.random.default_rng(seed), frames=3, size=64)
        area = np.bincount(clip.masks[0].ravel(), minlength=clip.objects + 1) / clip.masks[0].size
        assert clip.objects >= 1
        assert (area[1:] > MIN_VISIBLE).all()
        assert clip.masks.max() == clip.objects
        assert clip.frames.shape == (3, 64, 64, 3)


def test_a_clip_depends_on_its_seed_alone(library: AssetLibrary) -> None:
    first, again, other = (synthesise(library, np.random.default_rng(seed), 3, 64) for seed in (5, 5, 6))
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.frames, other.frames)


def test_crowds_show_many_targets_far_from_one_another(library: AssetLibrary) -> None:
    clips = [synthesise(library, np.random.default_rng(seed), 4, 128, crowds=1.0) for seed in range(12)]
    plain = [synthesise(library, np.random.default_rng(seed), 4, 128) for seed in range(12)]
    assert max(clip.objects for clip in clips) == 4
    assert sum(clip.objects for clip in clips) > sum(clip.objects for clip in plain)
    for clip in clips:
        centres = [np.argwhere(clip.masks[0] == index).mean(0)[1] for index in range(1, clip.objects + 1)]
        assert min(np.diff(sorted(centres)), default=128) > 4


def test_the_mask_is_where_the_object_is_drawn(tmp_path: Path) -> None:
    """Green sprites over a magenta photograph: colour tells the truth that the masks must tell."""
    green, magenta = (40, 220, 40), (220, 40, 220)
    (tmp_path / "cutout").mkdir()
    (tmp_path / "photo").mkdir()
    shape = smooth_shape((160, 160), np.random.default_rng(0))
    sprite = np.dstack([np.full((160, 160, 3), green, np.uint8), shape.astype(np.uint8) * 255])
    Image.fromarray(sprite).save(tmp_path / "cutout" / "a.png")
    Image.fromarray(np.full((300, 300, 3), magenta, np.uint8)).save(tmp_path / "photo" / "a.png")
    library = AssetLibrary.open(tmp_path)
    checked = 0
    for seed in range(80):
        clip = synthesise(library, np.random.default_rng(seed), frames=2, size=96)
        frames = clip.frames.astype(int)
        looks_green = frames[..., 1] > frames[..., 0] + 40
        clear = np.abs(frames[..., 1] - frames[..., 0]) > 60
        drawn = (clip.masks > 0) & clear
        if drawn.sum() > 200 and looks_green[drawn].mean() > 0.97:
            checked += 1
    assert checked >= 10


def test_thin_plate_moves_control_points_as_asked() -> None:
    rng = np.random.default_rng(1)
    still = ThinPlate(frames=3, amount=0.0, speed=0.5, rng=rng)
    points = rng.uniform(-1, 1, (50, 2)).astype(np.float32)
    assert np.allclose(still.displace(1, points), 0, atol=1e-6)
    moving = ThinPlate(frames=3, amount=0.1, speed=0.5, rng=rng)
    shift = moving.displace(2, points)
    assert 0.01 < np.abs(shift).mean() < 0.3
    nearby = moving.displace(2, points + np.float32(1e-3))
    assert np.abs(nearby - shift).max() < 0.01


def test_composed_matrices_map_as_one_after_the_other() -> None:
    rng = np.random.default_rng(2)
    outer, inner = (object_path(4, 1.0, rng).matrices(100) for _ in range(2))
    point = np.float32([0.3, -0.7])
    once = np.einsum("tij,j->ti", inner[:, :, :2], point) + inner[:, :, 2]
    twice = np.einsum("tij,tj->ti", outer[:, :, :2], once) + outer[:, :, 2]
    both = compose(outer, inner)
    assert np.allclose(np.einsum("tij,j->ti", both[:, :, :2], point) + both[:, :, 2], twice, rtol=1e-3, atol=0.1)


def test_sprites_have_alpha_and_some_solid_pixels(library: AssetLibrary) -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        sprite = random_sprite(library, rng)
        assert sprite.dtype == np.uint8
        assert sprite.shape[2] == 4
        assert (sprite[..., 3] > 127).sum() > 50


def test_joined_sprites_contain_both() -> None:
    rng = np.random.default_rng(4)
    first, second = cutout(rng, 120), cutout(rng, 90)
    both = join(first, second, rng)
    assert (both[..., 3] > 127).sum() >= (first[..., 3] > 127).sum()


def test_limbs_are_thin_and_grow_out_of_the_sprite() -> None:
    green, red = np.full((160, 160, 3), (40, 220, 40), np.uint8), np.full((60, 60, 3), (220, 40, 40), np.uint8)
    body = np.dstack([green, np.full((160, 160), 255, np.uint8)])
    grown = 0
    for seed in range(20):
        sprite = add_limbs(body, red, np.random.default_rng(seed))
        solid = sprite[..., 3] > 127
        green_body = solid & (sprite[..., 1] > 150) & (sprite[..., 0] < 100)
        assert green_body.sum() >= 0.6 * body[..., 3].astype(bool).sum()
        assert solid.any(1).all()
        assert solid.any(0).all()
        parts, _ = cv2.connectedComponents(solid.astype(np.uint8), connectivity=8)
        grown += max(sprite.shape[:2]) > 180 and solid.mean() < 0.9 and parts == 2
    assert grown >= 12


def test_camouflage_keeps_the_shape_and_takes_the_background() -> None:
    body = np.dstack([np.full((80, 80, 3), (40, 220, 40), np.uint8), np.full((80, 80), 255, np.uint8)])
    purple = np.full((30, 30, 3), (0.6, 0.1, 0.6), np.float32)
    distances, kept = [], []
    for seed in range(20):
        sprite = camouflage(body, purple, np.random.default_rng(seed))
        assert np.array_equal(sprite[..., 3], body[..., 3])
        moved = np.abs(sprite[..., :3].astype(int) - body[..., :3]).sum(2)
        distances.append(moved.max())
        kept.append((moved == 0).mean())
    assert min(distances) > 100
    assert 4 <= sum(0.05 < share < 0.95 for share in kept) <= 16


def test_posts_stand_in_the_scene_and_cover_the_point_they_are_given() -> None:
    size, frames = 128, 3
    view = np.repeat(np.eye(2, 3, dtype=np.float32)[None], frames, 0)
    view[:, 0, 2] = [0, 10, 20]
    texture = np.full((40, 40, 3), 128, np.uint8)
    for seed in range(10):
        posts = Posts(view, np.float32([60, 64]), 1, size, texture, np.random.default_rng(seed))
        pictures = [np.full((size, size, 3), 7.0, np.float32) for _ in range(frames)]
        covers = [posts.draw(time, picture) for time, picture in enumerate(pictures)]
        assert covers[1][62:67, 58:63].max() > 0.5
        assert np.abs(covers[1][:, 30:] - covers[0][:, 20:-10]).max() < 0.01
        assert (pictures[0][covers[0] == 0] == 7).all()
        assert (pictures[0][covers[0] == 1] <= 1).all()


def test_spray_goes_with_its_object_and_changes() -> None:
    size = 128
    where = np.float32([[30, 64], [60, 64], [90, 64]])
    rows, columns = np.indices((size, size))
    changed = []
    for seed in range(10):
        spray = Spray(where, 15.0, size, np.random.default_rng(seed))
        covers = [spray.draw(time, np.zeros((size, size, 3), np.float32)) for time in range(3)]
        for cover, (x, y) in zip(covers, where, strict=True):
            if cover.sum() > 50:
                assert abs((cover * columns).sum() / cover.sum() - x) < 20
                assert abs((cover * rows).sum() / cover.sum() - y) < 20
        changed.append(np.abs(covers[1][:, 30:] - covers[0][:, :-30]).max())
    assert min(changed) > 0.2


def test_pool_goes_on_where_it_stopped(library: AssetLibrary, tmp_path: Path) -> None:
    assets = library.cutouts[0].parents[1]
    out, spec = tmp_path / "pool", PoolSpec(clips=CLIPS_PER_SHARD + 1, frames=2, size=32, seed=7)
    assert list(make_pool(assets, out, spec, workers=1))[-1] == 2
    whole = ClipPool(out)
    assert len(whole) == 2 * CLIPS_PER_SHARD
    kept = (out / "shard_00000" / "frames.npy").stat().st_mtime_ns
    before = np.asarray(whole[CLIPS_PER_SHARD + 3].frames)
    for file in (out / "shard_00001").iterdir():
        file.unlink()
    (out / "shard_00001").rmdir()
    assert list(make_pool(assets, out, spec, workers=1)) == [1, 2]
    assert (out / "shard_00000" / "frames.npy").stat().st_mtime_ns == kept
    assert np.array_equal(ClipPool(out)[CLIPS_PER_SHARD + 3].frames, before)
    assert not list(out.glob(".making*"))


def test_empty_folders_are_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(StmFastError, match="stm-fast train"):
        AssetLibrary.open(tmp_path)
    with pytest.raises(StmFastError, match="stm-fast train"):
        ClipPool(tmp_path)


def test_webp_pictures_are_found_inside_other_files() -> None:
    stored = []
    for side in (40, 60):
        buffer = io.BytesIO()
        Image.fromarray(photo(np.random.default_rng(side), side)).save(buffer, "WEBP")
        stored.append(buffer.getvalue())
    archive = b"qres" + b"\0" * 9 + stored[0] + b"RIFF junk" + stored[1] + b"tail"
    found = [Image.open(io.BytesIO(data)).size for data in carve_webp(archive)]
    assert found == [(40, 40), (60, 60)]


def test_assets_are_prepared_from_unpacked_packages(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stamps = tmp_path / "in" / "tuxpaint-stamps-default" / "usr/share/tuxpaint/stamps/animals"
    wallpapers = tmp_path / "in" / "gnome-backgrounds" / "usr/share/backgrounds"
    for source in SOURCES:
        (tmp_path / "in" / source.package).mkdir(parents=True)
    stamps.mkdir(parents=True)
    wallpapers.mkdir(parents=True)
    Image.fromarray(cutout(rng, 700)).save(stamps / "cat.png")
    Image.fromarray(cutout(rng, 20)).save(stamps / "tiny.png")
    Image.fromarray(photo(rng, 600)).save(wallpapers / "view.jpg")
    Image.fromarray(np.full((600, 600, 3), 90, np.uint8)).save(wallpapers / "flat.jpg")
    (wallpapers / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    library = prepare_assets(tmp_path / "in", tmp_path / "out")
    assert len(library.cutouts) == 1
    assert len(library.photos) == 1
    assert max(library.load(library.cutouts[0]).shape[:2]) == 448


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(StmFastError, match="lacks the unpacked packages tuxpaint-stamps-default, "):
        prepare_assets(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_source_files_leave_out_links_and_excluded_names(tmp_path: Path) -> None:
    folder = tmp_path / "p" / "a"
    folder.mkdir(parents=True)
    for name in ("one.png", "one_mirror.png", "two.txt"):
        (folder / name).touch()
    (folder / "link.png").symlink_to(folder / "one.png")
    source = Source("p", ("**/*.png",), "cutout", ("_mirror",))
    assert [path.name for path in source_files(source, tmp_path)] == ["one.png"]


def test_every_source_names_its_package_once() -> None:
    packages = [source.package for source in SOURCES]
    assert len(packages) == len(set(packages))
