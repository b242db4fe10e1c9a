"""Miniatures of the published video datasets: two or three tiny clips a set, in the layout of the original.

Each `make_<dataset>(root)` writes one and returns `root`; `MAKERS` has them by the name of their layout. Frames show
squares of 16×16 pixels, red, green and blue for the objects 1, 2 and 3, that move by one square a frame over black.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stm_fast.data.video.lvos import UNSEEN_CLIPS
from stm_fast.media.masks import VOID, write_mask
from stm_fast.media.run_lengths import encode_runs

HEIGHT, WIDTH, SIDE = 48, 64, 16
COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
YOUTUBE_VOS_PALETTE = [0, 0, 0, 236, 95, 103, 249, 145, 87, 250, 200, 99]
FIRST, SECOND = (1,), (1, 2)

Scene = Sequence[Iterable[int]]
"""The objects that each frame shows."""


def ids(index: int, objects: Iterable[int], *, void: bool = False) -> np.ndarray:
    """Return the true ids `(H, W)` of a frame; with `void`, the last two columns of background are void."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for each in objects:
        left = SIDE * ((index + each) % (WIDTH // SIDE))
        mask[SIDE * (each - 1) : SIDE * each, left : left + SIDE] = each
    if void:
        mask[:, -2:] = np.where(mask[:, -2:] == 0, VOID, mask[:, -2:])
    return mask


def save_frames(folder: Path, scene: Scene, names: Iterable[str]) -> None:
    """Write the frames of a scene as JPEG."""
    folder.mkdir(parents=True)
    for index, (objects, name) in enumerate(zip(scene, names, strict=True)):
        picture = Image.fromarray(COLOURS[ids(index, objects)])
        picture.save(folder / f"{name}.jpg", quality=95, subsampling=0)


def save_masks(folder: Path, scene: Scene, names: Sequence[str], given: Mapping[int, Iterable[int]], **options) -> None:
    """Write masks of a scene: the objects that are given, by the number of the frame."""
    for index, objects in given.items():
        write_mask(folder / f"{names[index]}.png", ids(index, set(objects) & set(scene[index]), **options))


def truth(scene: Scene, *, every: int = 1) -> dict[int, Iterable[int]]:
    """Give all objects in every n-th frame."""
    return {index: scene[index] for index in range(0, len(scene), every)}


def first_masks(scene: Scene) -> dict[int, Iterable[int]]:
    """Give each object in the first frame that shows it."""
    seen: set[int] = set()
    given = {}
    for index, objects in enumerate(scene):
        if new := set(objects) - seen:
            given[index] = new
            seen |= new
    return given


def numbers(count: int, *, step: int = 1, start: int = 0, digits: int = 5) -> list[str]:
    """Return the names of frames."""
    return [f"{start + step * index:0{digits}d}" for index in range(count)]


def make_davis(root: Path, year: int = 2017, resolution: str = "480p") -> Path:
    """DAVIS: train and val with truth, test-dev (2017) with first masks. 2016 has one object, which is 255."""
    sets = {"train": ("bear", "bus"), "val": ("camel", "dog")}
    if year == 2017:
        sets["test-dev"] = ("carousel", "girl-dog")
    scene, names = [SECOND] * 5, numbers(5)
    for subset, clips in sets.items():
        lines = []
        for clip in clips:
            save_frames(root / "JPEGImages" / resolution / clip, scene, names)
            masks = root / "Annotations" / resolution / clip
            if year == 2016:
                masks.mkdir(parents=True)
                for index, name in enumerate(names):
                    Image.fromarray(np.where(ids(index, SECOND) > 0, 255, 0).astype(np.uint8)).save(
                        masks / f"{name}.png"
                    )
                lines += [
                    f"/JPEGImages/{resolution}/{clip}/{name}.jpg /Annotations/{resolution}/{clip}/{name}.png"
                    for name in names
                ]
            else:
                given = {0: SECOND} if subset == "test-dev" else truth(scene)
                save_masks(masks, scene, names, given, void=clip == "dog")
                lines.append(clip)
        lists = root / "ImageSets" / str(year)
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{subset}.txt").write_text("\n".join(lines) + "\n")
    return root


def make_youtube_vos(root: Path, sets: Iterable[str] = ("train", "valid", "valid_all_frames", "test")) -> Path:
    """YouTube-VOS: train with truth; valid and test with first masks, and an object that appears later.

    Of the categories in valid, zither is unseen. Object 1 of the second clip is listed in its first three frames alone.
    """
    names = numbers(4, step=5)
    for subset in sets:
        if subset == "valid_all_frames":
            for clip, scene in _youtube_vos_clips("valid").items():
                every = [scene[index // 5] for index in range(16)]
                folder = root / subset / "JPEGImages" / clip
                folder.mkdir(parents=True)
                for index, objects in enumerate(every):  # a square moves when five frames have passed
                    picture = Image.fromarray(COLOURS[ids(index // 5, objects)])
                    picture.save(folder / f"{index:05d}.jpg", quality=95, subsampling=0)
            continue
        videos = {}
        for clip, scene in _youtube_vos_clips(subset).items():
            save_frames(root / subset / "JPEGImages" / clip, scene, names)
            masks = root / subset / "Annotations" / clip
            masks.mkdir(parents=True)
            given = truth(scene) if subset == "train" else first_masks(scene)
            for index, objects in given.items():
                picture = Image.fromarray(ids(index, objects)).convert("P")
                picture.putpalette(YOUTUBE_VOS_PALETTE)
                picture.save(masks / f"{names[index]}.png")
            videos[clip] = {"objects": _youtube_vos_objects(scene, names, subset)}
        (root / subset / "meta.json").write_text(json.dumps({"videos": videos}))
    return root


def _youtube_vos_clips(subset: str) -> dict[str, Scene]:
    later, both = [FIRST, SECOND, SECOND, SECOND], [SECOND] * 4
    return {"0a49f5265b": later, "0ae1ff65a5": both} if subset == "train" else {"0062f687f1": later, "00f88c4f0a": both}


def _youtube_vos_objects(scene: Scene, names: Sequence[str], subset: str) -> dict[str, object]:
    """What meta.json says of the objects of a clip."""
    categories = {1: "person", 2: "dog" if subset == "train" else "zither"}
    objects = {}
    for each, category in categories.items():
        frames = [name for name, shown in zip(names, scene, strict=True) if each in shown]
        if subset != "train" and each == 1 and len(first_masks(scene)) == 1:
            frames = frames[:3]
        objects[str(each)] = {"category": category, "frames": frames}
    return objects


def make_mose(root: Path) -> Path:
    """MOSE: train with truth, an object of which disappears and comes back; valid with first masks."""
    names = numbers(6)
    back = [SECOND, SECOND, FIRST, FIRST, SECOND, SECOND]
    for subset, clips in {"train": ("00c19fc0", "0a43a414"), "valid": ("00a65a3d", "0d5e8a90")}.items():
        for clip, scene in zip(clips, (back, [FIRST, FIRST, SECOND, SECOND, SECOND, SECOND]), strict=True):
            save_frames(root / subset / "JPEGImages" / clip, scene, names)
            given = truth(scene) if subset == "train" else first_masks(scene)
            save_masks(root / subset / "Annotations" / clip, scene, names, given)
    return root


def make_lvos(root: Path) -> Path:
    """LVOS: train and val with truth, test with first masks. The first clip of val and test is unseen."""
    names = numbers(6, step=5, start=1, digits=8)
    unseen = sorted(UNSEEN_CLIPS[2])
    later: Scene = [FIRST, FIRST, SECOND, SECOND, SECOND, FIRST]
    for subset, clips in {
        "train": ("0Bvodvvz", "0K3Dmeqx"),
        "val": (unseen[0], "0tCWPOrc"),
        "test": (unseen[1], "1tZMz9pp"),
    }.items():
        videos = {}
        for clip, scene in zip(clips, ([SECOND] * 6, later), strict=True):
            save_frames(root / subset / "JPEGImages" / clip, scene, names)
            given = first_masks(scene) if subset == "test" else truth(scene)
            save_masks(root / subset / "Annotations" / clip, scene, names, given)
            videos[clip] = {"objects": {str(each): _range(scene, names, each) for each in SECOND}}
        (root / subset / f"{subset}_meta.json").write_text(json.dumps({"videos": videos}))
    return root


def _range(scene: Scene, names: Sequence[str], each: int) -> dict[str, object]:
    shown = [name for name, objects in zip(names, scene, strict=True) if each in objects]
    return {"frame_range": {"start": str(int(shown[0])), "end": str(int(shown[-1])), "frame_nums": str(len(shown))}}


def make_long_video(root: Path) -> Path:
    """Long Videos: every second frame has a mask."""
    scene, names = [FIRST] * 8, numbers(8)
    for clip in ("blueboy", "rat"):
        save_frames(root / "JPEGImages" / clip, scene, names)
        save_masks(root / "Annotations" / clip, scene, names, truth(scene, every=2))
    return root


def make_burst(root: Path) -> Path:
    """BURST: train, and val with first_frame_annotations.json; every second of eight frames has masks.

    In the second clip an object appears later, and a frame with masks shows no object.
    """
    names = [f"frame{index + 1:04d}" for index in range(8)]
    later: Scene = [FIRST, FIRST, SECOND, SECOND, (), (), SECOND, SECOND]
    categories = [{"id": 805, "name": "person"}, {"id": 95, "name": "bird"}]
    for subset in ("train", "val"):
        whole, first = [], []
        for number, (dataset, name, scene) in enumerate(
            (("YFCC100M", "v_25685519b728afd746dfd1b2fe77c", [SECOND] * 8), ("LaSOT", "bird-2", later))
        ):
            save_frames(root / "frames" / subset / dataset / name, scene, names)
            sequence = {
                "id": number,
                "dataset": dataset,
                "seq_name": name,
                "width": WIDTH,
                "height": HEIGHT,
                "fps": 30,
                "all_image_paths": [f"{each}.jpg" for each in names],
                "annotated_image_paths": [f"{each}.jpg" for each in names[::2]],
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
                "track_category_ids": {"1": 805, "2": 95},
            }
            given = first_masks(scene)
            whole.append(sequence | {"segmentations": [_run_lengths(i, scene[i]) for i in range(0, 8, 2)]})
            first.append(sequence | {"segmentations": [_run_lengths(i, given.get(i, ())) for i in range(0, 8, 2)]})
        folder = root / "annotations" / subset
        folder.mkdir(parents=True)
        form = {"categories": categories, "split": subset}
        (folder / "all_classes.json").write_text(json.dumps(form | {"sequences": whole}))
        if subset == "val":
            (folder / "first_frame_annotations.json").write_text(json.dumps(form | {"sequences": first}))
    return root


def _run_lengths(index: int, objects: Iterable[int]) -> dict[str, object]:
    mask = ids(index, objects)
    return {str(each): {"rle": encode_runs(mask == each), "is_gt": True} for each in objects}


def make_vost(root: Path) -> Path:
    """VOST: train and val with truth and void, test with first masks."""
    scene, names = [SECOND] * 5, [f"frame{12 * index + 60:05d}" for index in range(5)]
    for subset, clips in {
        "train": ("555_tear_aluminium_foil", "7703_whip_egg"),
        "val": ("556_cut_tomato", "3161_peel_banana"),
        "test": ("1072_fold_cloth", "2089_break_egg"),
    }.items():
        for clip in clips:
            save_frames(root / "JPEGImages" / clip, scene, names)
            given = {0: SECOND} if subset == "test" else truth(scene)
            save_masks(root / "Annotations" / clip, scene, names, given, void=subset != "test")
        (root / "ImageSets").mkdir(exist_ok=True)
        (root / "ImageSets" / f"{subset}.txt").write_text("\n".join(clips) + "\n")
    return root


def make_sa_v(root: Path) -> Path:
    """SA-V: sav_val and sav_test; a black and white picture of each object in every fourth frame.

    In the second clip object 001 appears later, and object 002 is a part of object 000.
    """
    later: Scene = [FIRST] * 4 + [SECOND] * 9
    for subset, clips in {"sav_val": ("sav_001001", "sav_017599"), "sav_test": ("sav_000262", "sav_020007")}.items():
        for clip, scene in zip(clips, ([SECOND] * 13, later), strict=True):
            names = numbers(len(scene))
            save_frames(root / subset / "JPEGImages_24fps" / clip, scene, names)
            for index in range(0, len(scene), 4):
                shown = {0: ids(index, scene[index]) == 1, 1: ids(index, scene[index]) == 2}
                if scene is later:
                    shown[2] = shown[0] & (np.arange(HEIGHT)[:, None] < SIDE // 2)
                for each, mask in shown.items():
                    folder = root / subset / "Annotations_6fps" / clip / f"{each:03d}"
                    folder.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(folder / f"{names[index]}.png")
        (root / subset / f"{subset}.txt").write_text("\n".join(clips) + "\n")
    return root


def make_folder(root: Path) -> Path:
    """A folder of two clips with truth; in the second one 255 is void."""
    scene, names = [SECOND] * 4, numbers(4)
    for clip in ("plain", "void"):
        save_frames(root / "frames" / clip, scene, names)
        save_masks(root / "masks" / clip, scene, names, truth(scene), void=clip == "void")
    return root


MAKERS: Mapping[str, Callable[[Path], Path]] = {
    "davis2016": lambda root: make_davis(root, 2016),
    "davis2017": make_davis,
    "youtube-vos2018": make_youtube_vos,
    "youtube-vos2019": make_youtube_vos,
    "youtube-vos": make_youtube_vos,
    "mose": make_mose,
    "lvos": make_lvos,
    "long-video": make_long_video,
    "burst": make_burst,
    "vost": make_vost,
    "sa-v": make_sa_v,
    "folder": make_folder,
}
"""The miniatures by the name of their layout."""
