"""Miniatures of the published image datasets: a few tiny pictures with textured objects, in the layout of the original.

Each `make_<layout>(root)` writes one that `open_stills(layout, root)` opens, and returns `root`.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from stm_fast.media.masks import write_mask

COUNT = 3
HEIGHT, WIDTH = 48, 64
FINE = 4
"""Pixels of a soft mask are averages of this many squared."""


def texture(rng: np.random.Generator, height: int, width: int, grain: int) -> np.ndarray:
    """Return smooth colours `(H, W, 3)` whose spots are about `grain` pixels wide."""
    coarse = rng.integers(0, 256, (height // grain + 2, width // grain + 2, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def blob(rng: np.random.Generator, centre: tuple[float, float], radius: float, fine: int = 1) -> np.ndarray:
    """Return a wavy disc as bool `(H, W)`, drawn `fine` times larger; the same `rng` state draws the same disc."""
    rows, columns = np.mgrid[: HEIGHT * fine, : WIDTH * fine] / fine + 0.5 / fine
    dy, dx = rows - centre[0] * HEIGHT, columns - centre[1] * WIDTH
    angle = np.arctan2(dy, dx)
    waves = sum(
        rng.uniform(0.05, 0.15) * np.sin(n * angle + phase) for n, phase in enumerate(rng.uniform(0, 6.28, 3), 2)
    )
    return np.hypot(dy, dx) < radius * HEIGHT * (1 + waves)


def drawn(seed: int, objects: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a picture.

    Returns:
        RGB uint8 `(H, W, 3)`, ids uint8 `(H, W)`, and where any object is as grey uint8 `(H, W)` with soft edges.
    """
    rng = np.random.default_rng(seed)
    frame = texture(rng, HEIGHT, WIDTH, 16) // 2 + 60
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    soft = np.zeros((HEIGHT * FINE, WIDTH * FINE), bool)
    for number in range(1, objects + 1):
        centre = rng.uniform(0.35, 0.65), (number - rng.uniform(0.4, 0.6)) / objects
        radius, waves = rng.uniform(0.18, 0.26), int(rng.integers(1 << 30))
        inside = blob(np.random.default_rng(waves), centre, radius)
        soft |= blob(np.random.default_rng(waves), centre, radius, FINE)
        colour = rng.integers(0, 256, 3)
        frame = np.where(inside[..., None], texture(rng, HEIGHT, WIDTH, 6) // 2 + colour // 2, frame).astype(np.uint8)
        ids[inside] = number
    grey = soft.reshape(HEIGHT, FINE, WIDTH, FINE).mean((1, 3)) * 255
    return frame, ids, grey.round().astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an image, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def _save_salient(image: str, mask: str, root: Path, names: range, seed: int = 0) -> None:
    """Write pictures and their soft masks; `{}` in the paths is the name."""
    for number, name in enumerate(names):
        frame, _, soft = drawn(seed + number, objects=1)
        save(root / image.format(name), frame)
        save(root / mask.format(name), soft)


def make_pairs(root: Path) -> Path:
    """Images and palette masks of two objects, of the same name in two folders."""
    for number in range(COUNT):
        frame, ids, _ = drawn(number)
        save(root / "images" / f"{number}.jpg", frame)
        (root / "masks").mkdir(exist_ok=True)
        write_mask(root / "masks" / f"{number}.png", ids)
    return root


def make_duts(root: Path) -> Path:
    """DUTS-TR and DUTS-TE."""
    for seed, part, stem in ((0, "DUTS-TR", "ILSVRC2012_test_0000000{}"), (9, "DUTS-TE", "sun_aaa{}")):
        _save_salient(f"{part}/{part}-Image/{stem}.jpg", f"{part}/{part}-Mask/{stem}.png", root, range(COUNT), seed)
    return root


def make_ecssd(root: Path) -> Path:
    """ECSSD: images.zip and ground_truth_mask.zip."""
    _save_salient("images/000{}.jpg", "ground_truth_mask/000{}.png", root, range(1, 1 + COUNT))
    return root


def make_fss1000(root: Path) -> Path:
    """FSS-1000: a folder for each class, whose masks are black and white in colour."""
    for seed, kind in enumerate(("ab_wheel", "abacus")):
        for number in (1, 2):
            frame, ids, _ = drawn(10 * seed + number, objects=1)
            save(root / "fewshot_data" / kind / f"{number}.jpg", frame)
            save(
                root / "fewshot_data" / kind / f"{number}.png",
                np.where(ids[..., None] > 0, np.full(3, 255), 0).astype(np.uint8),
            )
    return root


def make_hrsod(root: Path) -> Path:
    """HRSOD_release, with images and masks for training and testing."""
    for seed, part in ((0, "HRSOD_train"), (9, "HRSOD_test")):
        _save_salient(
            f"HRSOD_release/{part}/0000{{}}.jpg", f"HRSOD_release/{part}_mask/0000{{}}.png", root, range(COUNT), seed
        )
    return root


def make_big(root: Path) -> Path:
    """BIG: images and masks with marks, for validation and testing."""
    for seed, part in ((0, "val"), (9, "test")):
        _save_salient(f"BIG/{part}/flickr_{{}}_im.jpg", f"BIG/{part}/flickr_{{}}_gt.png", root, range(COUNT), seed)
    return root


def make_msra10k(root: Path) -> Path:
    """MSRA10K: images and masks in one folder."""
    _save_salient("MSRA10K_Imgs_GT/Imgs/{}.jpg", "MSRA10K_Imgs_GT/Imgs/{}.png", root, range(COUNT))
    return root


def make_pascal_s(root: Path) -> Path:
    """PASCAL-S in the salObj release; half of the viewers find the second object salient, or fewer."""
    for number in range(1, 1 + COUNT):
        frame, ids, _ = drawn(number)
        save(root / "datasets/imgs/pascal" / f"{number}.jpg", frame)
        save(root / "datasets/masks/pascal" / f"{number}.png", np.array([0, 255, 106], np.uint8)[ids])
    return root


def make_stcn_static(root: Path) -> Path:
    """The folder `static` in which STCN keeps its sets: an image and a mask of the same name side by side."""
    for seed, part in enumerate(("ecssd", "DUTS-TR", "DUTS-TE", "HRSOD_small", "BIG_small", "fss/abacus")):
        _save_salient(f"{part}/{{}}.jpg", f"{part}/{{}}.png", root, range(1, 1 + COUNT), 10 * seed)
    return root


def make_coco(root: Path, part: str = "train2017") -> Path:
    """COCO: three images with two squares, one of them with a crowd and a small instance, and one image without any."""
    images, annotations = [], []
    for number in range(COUNT + 1):
        frame = texture(np.random.default_rng(number), HEIGHT, WIDTH, 16)
        boxes = [(24, 12, 58, 42), (4, 6, 30, 36)] if number < COUNT else []  # left, top, right, bottom
        for box in boxes:
            left, top, right, bottom = box
            frame[top:bottom, left:right] = texture(np.random.default_rng(left), bottom - top, right - left, 5)
            annotations.append(_instance(number, len(annotations), box))
        if number == 1:
            annotations.append(_instance(number, len(annotations), (60, 2, 63, 5)))
            annotations.append(_crowd(number, len(annotations)))
        images.append({"id": number, "file_name": f"{number:012}.jpg", "height": HEIGHT, "width": WIDTH})
        save(root / part / f"{number:012}.jpg", frame)
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": []}
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return root


def _instance(image: int, number: int, box: tuple[int, int, int, int]) -> dict[str, object]:
    """Return an annotation whose polygon is a box."""
    left, top, right, bottom = box
    polygon = [left, top, right, top, right, bottom, left, bottom]
    area = (right - left) * (bottom - top)
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": area, "segmentation": [polygon]}


def _crowd(image: int, number: int) -> dict[str, object]:
    """Return the annotation of a crowd in the left 20 columns: run lengths go down columns."""
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, 20 * HEIGHT, (WIDTH - 20) * HEIGHT]}
    area = 20 * HEIGHT
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 1, "area": area, "segmentation": runs}


MAKERS = {
    "pairs": make_pairs,
    "duts": make_duts,
    "ecssd": make_ecssd,
    "fss1000": make_fss1000,
    "hrsod": make_hrsod,
    "big": make_big,
    "msra10k": make_msra10k,
    "pascal-s": make_pascal_s,
    "coco": make_coco,
}
"""What writes the miniature of each layout."""
