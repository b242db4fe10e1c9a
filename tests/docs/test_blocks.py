"""Every block of code in README and docs runs, or is named here with the reason why it does not."""

import importlib.util
import re
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stm_fast import Segmenter, load_model
from stm_fast.media.encode import video_writer
from stm_fast.media.masks import read_mask, write_mask
from tests.docs.blocks import PAGES, ROOT, blocks_of, commands_of, python_of

OTHER_TESTS = {
    "docs/drop-in.md": "test_docs.py",
    "docs/export.md": "test_readme.py",
    "docs/first-hour.md": "test_first_hour.py",
    "docs/long-video.md": "test_docs.py",
    "docs/memory_read.md": "test_docs.py",
    "docs/runtimes.md": "test_runtimes_page.py",
    "docs/training.md": "test_training_pages.py",
}
"""Pages whose Python other files of this folder run, with more to say about the results."""

NOT_RUN = {
    "docs/official-weights.md": "needs the authors' weights, which are not ours to ship, and a GPU; "
    "tests/models/test_official_file.py loads a file of the same layout",
}
"""Pages whose Python is compiled, and not run."""

NO_CODE = {
    "text": "drawings and formulas",
    "bibtex": "a citation",
    "mermaid": "tests/test_layers.py compares it with the code",
    "xml": "Label Studio's; tests/export compares its names with those of the export",
    "yaml": "test_training_pages.py reads the recipe",
}
"""Languages of blocks that are no code of ours."""

NOT_OURS = {
    "git clone": "the address is the reader's",
    "cd": "of the shell",
    ". .venv/bin/activate": "of the shell",
    "python3 -m venv": "tests/packaging/wheel.py makes such an environment",
    "pip install torch": "tests/packaging/wheel.py installs into an environment of its own",
    "ffmpeg -i": "not a package of ours; docs/inputs.md has the same in Python, which runs",
    "mkdir fixes": "test_first_hour.py runs it",
    "cp stm-fast-demo": "test_first_hour.py runs it",
    "ssh -L": "to a machine of the reader's",
}
"""Commands that are not checked here, by how they begin."""

Names = dict[str, Any]


def tensors(folder: Path, patch: pytest.MonkeyPatch) -> Names:
    """What README reads: a memory of three frames, and values of it for one object and for two."""
    video_of(8, 96, 160)(folder, patch)
    return {
        "query_key": torch.randn(1, 128, 4, 6),
        "memory_key": torch.randn(1, 128, 3, 4, 6),
        "memory_value": torch.randn(1, 512, 3, 4, 6),
        "shrinkage": 1 + torch.rand(1, 1, 3, 4, 6),
        "selection": torch.rand(1, 128, 4, 6),
    }


def video_of(length: int, height: int, width: int) -> Callable[[Path, pytest.MonkeyPatch], Names]:
    """Return a setting with video.mp4 and mask.png in the working folder."""

    def setting(folder: Path, patch: pytest.MonkeyPatch) -> Names:
        patch.syspath_prepend(ROOT / "examples")
        frames, masks = importlib.import_module("clip").render_clip(length, height, width)
        with video_writer(folder / "video.mp4", 12) as encoder:
            for frame in frames:
                encoder.write(frame)
        write_mask(folder / "mask.png", masks[0])
        shown: list[Any] = []
        return {
            "frames": frames[1:],
            "first_frame": frames[0],
            "first_mask": masks[0],
            "frame": frames[0],
            "image": frames[0],
            "mask": masks[-1],
            "fixed": masks[-1],
            "use": lambda *arrays: shown.append(arrays),
            "show": shown.append,
            "stopped": lambda: len(shown) > 2,
            "shown": shown,
        }

    return setting


def one_process(folder: Path, patch: pytest.MonkeyPatch) -> Names:
    """A clip, and the variables with which torchrun would start a group of one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        patch.setenv(name, str(value))
    names = video_of(4, 48, 80)(folder, patch)
    model = load_model("compact")
    return names | {"model": model, "segmenter": Segmenter(model)}


def painted(folder: Path, patch: pytest.MonkeyPatch) -> Names:
    """Results and a video, what CVAT exports, and a layer of napari in which one frame was painted over."""
    names = video_of(3, 48, 80)(folder, patch)
    for index in range(3):
        write_mask(folder / "result" / "masks" / f"{index:05d}.png", names["mask"])
    (folder / "SegmentationClass").mkdir()
    Image.new("RGB", (80, 48), (61, 61, 245)).save(folder / "SegmentationClass" / "00042.png")
    layer = np.stack([names["mask"]] * 3)
    layer[1, :4] = 2
    return {
        "result": folder / "result",
        "video": folder / "video.mp4",
        "fixes": folder / "fixes",
        "layer": SimpleNamespace(data=layer),
    }


SETTINGS = {
    "README.md": tensors,
    "docs/annotation-tools.md": painted,
    "docs/command-line.md": video_of(2, 48, 80),
    "docs/corrections.md": video_of(152, 32, 48),
    "docs/inference.md": one_process,
    "docs/inputs.md": video_of(2, 48, 80),
    "docs/prompts.md": video_of(2, 360, 760),
}
"""Pages that run here, and what they need: files in the working folder, and names."""


def check_readme(names: Names, folder: Path) -> None:
    assert names["readout"].shape == (1, 512, 4, 6)
    assert names["usage"].shape == (1, 3, 4, 6)
    assert len(list((folder / "result" / "masks").iterdir())) == 8


def check_painted(names: Names, folder: Path) -> None:
    assert [path.name for path in (folder / "fixes").glob("*.png")] == ["00001.png"]
    assert (read_mask(folder / "fixes" / "00001.png")[:4] == 2).all()
    assert read_mask(folder / "fixes" / "00042" / "2.png").all()


def check_picture(names: Names, folder: Path) -> None:
    assert (names["picture"] != names["frame"]).any()


def check_shown(names: Names, folder: Path) -> None:
    assert [frame.index for frame in names["shown"]] == [120, 121, 122]


def check_inference(names: Names, folder: Path) -> None:
    try:
        assert len(names["shown"]) == 4 + 3
        assert names["segmenter"].memory.part == "0 of 1"
    finally:
        torch.distributed.destroy_process_group()


def check_inputs(names: Names, folder: Path) -> None:
    assert Image.open("first_frame.png").size == (80, 48)


def check_prompts(names: Names, folder: Path) -> None:
    assert names["mask"].shape == names["image"].shape[:2]
    assert len(list((folder / "result" / "masks").iterdir())) == 2


CHECKS = {
    "README.md": check_readme,
    "docs/annotation-tools.md": check_painted,
    "docs/command-line.md": check_picture,
    "docs/corrections.md": check_shown,
    "docs/inference.md": check_inference,
    "docs/inputs.md": check_inputs,
    "docs/prompts.md": check_prompts,
}


@pytest.mark.parametrize("page", SETTINGS)
def test_python_of_the_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == "docs/prompts.md":
        pytest.importorskip("cv2")
    monkeypatch.chdir(tmp_path)
    names = SETTINGS[page](tmp_path, monkeypatch)
    code = python_of(page).replace("/data/scratch", str(tmp_path))
    exec(compile(code, page, "exec"), names)
    CHECKS[page](names, tmp_path)


def test_code_that_needs_other_programs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of docs/drop-in.md that begin in Cutie's code and in that of the official STM."""
    cutie_clip = pytest.importorskip("tests.integrations.cutie_clip", reason="needs rf-cutie", exc_type=ImportError)
    from stm_fast.integrations.stm import STM

    monkeypatch.chdir(tmp_path)
    torch.save(torch.nn.DataParallel(STM()).half().state_dict(), "STM_weights.pth")
    frame, *others = cutie_clip.frames(3)
    core = cutie_clip.core()
    core.step(frame, cutie_clip.first_mask(), [1, 2, 3])
    names: Names = {"torch": torch, "InferenceCore": lambda network, cfg: core, "network": None, "cfg": None}
    names["frames"] = others
    with torch.inference_mode():
        exec(compile(python_of("docs/drop-in.md", "py"), "docs/drop-in.md", "exec"), names)
    names["handle"].undo()  # the patch applies to the whole process


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_is_accounted_for(page: str) -> None:
    for block in blocks_of(page):
        if block.language == "python":
            accounted = (page in SETTINGS) + (page in OTHER_TESTS) + (page in NOT_RUN)
            assert accounted == 1, block
            compile(block.text, page, "exec")
        elif block.language == "py":
            assert page == "docs/drop-in.md"
        else:
            assert block.language == "" or block.language in NO_CODE, block


def test_exceptions_are_needed() -> None:
    blocks = [block for page in PAGES for block in blocks_of(page)]
    with_python = {block.page for block in blocks if block.language == "python"}
    assert {*SETTINGS, *OTHER_TESTS, *NOT_RUN} == with_python
    for page, other in OTHER_TESTS.items():
        assert Path(page).name in (Path(__file__).parent / other).read_text()
    assert NO_CODE.keys() <= {block.language for block in blocks}
    commands = [command for page in PAGES for command in commands_of(page)]
    assert not [begin for begin in NOT_OURS if not any(command.startswith(begin) for command in commands)]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_page_exist(page: str) -> None:
    """Those of `stm-fast` are parsed in test_training_pages.py; all others name what is there."""
    section = (
        (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    )
    extras = set(re.findall(r"^(\w+) = \[", section, flags=re.M))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    for command in commands_of(page):
        if command.startswith(tuple(NOT_OURS)) or re.match(r"stm-fast|.* -m stm_fast ", command):
            continue
        words = command.split()
        if words[0] == "make":
            assert set(words[1:]) <= targets, command
        elif words[:2] == ["pip", "install"]:
            wanted = re.fullmatch(r"pip install '\.\[([\w,]+)\]'", command)
            assert wanted, command
            assert set(wanted[1].split(",")) <= extras, command
        elif words[:2] == ["python3", "-m"]:
            assert importlib.util.find_spec(words[2]), command
        else:
            assert words[0] == ".venv/bin/pytest", command
            assert (ROOT / words[1]).exists(), command


def test_blocks_are_found() -> None:
    """So that a change of fences does not leave all of the above without anything to check."""
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert sum(block.language == "python" for block in blocks) > 25
    assert sum(len(commands_of(page)) for page in PAGES) > 50
