"""What is read of a folder of results, and what is refused."""

import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import ArgumentError, MediaError, OutputError, StmFastError
from stm_fast.export import api
from stm_fast.export.formats import FORMATS
from stm_fast.export.options import ExportOptions
from stm_fast.export.result import Result
from stm_fast.media.encode import video_writer
from stm_fast.media.masks import write_mask
from stm_fast.media.notices import MediaNotice
from tests.export.conftest import NAMES, SIZE, masks, picture


def rewrite(results, **changes):
    path = results / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_frames_come_in_order_with_their_images(results):
    result = Result(results)
    assert (result.names, result.size, len(result), result.title) == (NAMES, SIZE, 6, "frames")
    for index, frame in enumerate(result.with_images()):
        assert (frame.index, frame.name) == (index, NAMES[index])
        np.testing.assert_array_equal(frame.mask, masks()[index])
        np.testing.assert_array_equal(frame.image, picture(index))
        assert frame.objects == tuple(np.unique(frame.mask)[1:].tolist())


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("a clip.v2.mp4", "a clip.v2"),
        ("x/%05d.png", "out"),
        ("x/*.png", "out"),
        ("-", "out"),
        ("rtsp://host/cam", "cam"),
    ],
)
def test_titles(results, path, title):
    assert Result(results, frames=path).title == title


@pytest.mark.parametrize("at", ["out", "out/masks"])
def test_a_folder_of_masks_is_enough(results, at):
    (results / "frames.jsonl").unlink()
    (results / "summary.json").unlink()
    result = Result(results.parent / at)
    assert result.names == NAMES
    with pytest.warns(MediaNotice, match="id 255 is exported as an object; void 255 ignores it"):
        assert {each for frame in result for each in frame.objects} == {1, 2, 255}
    assert {each for frame in Result(results.parent / at, void=255) for each in frame.objects} == {1, 2}


def test_order_is_that_of_the_journal(results):
    lines = (results / "frames.jsonl").read_text().splitlines()
    (results / "frames.jsonl").write_text("\n".join(reversed(lines)))
    assert Result(results).names == NAMES[::-1]


def test_masks_of_other_runs_are_left_out(results):
    write_mask(results / "masks" / "stray.png", masks()[0])
    with pytest.warns(MediaNotice, match=r"1 masks in .* are not of the frames in frames.jsonl and are left out"):
        assert Result(results).names == NAMES
    (results / "masks" / f"{NAMES[2]}.png").unlink()
    with pytest.raises(MediaError, match="lacks the mask of frame bild 10 ü"):
        Result(results)


def test_a_run_that_was_stopped_gives_what_there_is(results):
    rewrite(results, complete=False)
    with pytest.warns(MediaNotice, match="is not complete: the frames so far are exported"):
        assert len(Result(results)) == 6


def test_objects_can_be_chosen(results):
    assert {each for frame in Result(results, objects=[2]) for each in frame.objects} == {2}
    with pytest.warns(MediaNotice, match="no mask of .* shows objects 9"):
        assert not [each for frame in Result(results, objects=[9]) for each in frame.objects]


def test_what_is_no_result_is_refused(tmp_path, results):
    with pytest.raises(MediaError, match="does not exist: give the folder of the results"):
        Result(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="holds no masks"):
        Result(tmp_path / "empty")
    write_mask(results / "masks" / f"{NAMES[3]}.png", np.ones((3, 4), np.uint8))
    with pytest.raises(MediaError, match="is 4×3 but the first mask is 67×41"):
        list(Result(results))
    (results / "masks" / f"{NAMES[0]}.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match="cannot be read as a mask"):
        Result(results)


def test_the_video_must_be_there_and_fit(results, export, tmp_path):
    (tmp_path / "frames").rename(tmp_path / "moved")
    with pytest.raises(MediaError, match=r"does not exist.*; if the video of .* was moved, give it as frames"):
        export("rgba-png")
    assert not (results / "export" / "rgba").exists()
    assert export("rgba-png", frames=tmp_path / "moved").is_dir()
    with pytest.warns(MediaNotice, match=r"the video of the masks is not there, so images are named bild 1 ü\.jpg"):
        assert "bild 1 \\u00fc.jpg" in export("coco").read_text()
    (tmp_path / "moved" / f"{NAMES[4]}.png").unlink()
    with pytest.raises(MediaError, match="has no frame bild 12 ü where the masks have it"):
        export("rgba-png", frames=tmp_path / "moved", overwrite=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "other.png")
    with pytest.raises(MediaError, match="is 9×9 but the masks are 67×41"):
        export("alpha-vp9", frames=tmp_path / "other.png")
    for path, words in (("standard input", "a video from standard input"), ("the frames", "a Python program")):
        rewrite(results, inputs={"source": {"path": path}})
        with pytest.raises(MediaError, match=f"{words}, which cannot be read again"):
            export("rgba-png", out=tmp_path / "x")
    rewrite(results, inputs={})
    with pytest.raises(MediaError, match="does not say which video its masks are of: give frames"):
        export("rgba-png", out=tmp_path / "x")


def test_frames_of_a_video_have_names_of_images(results, export, tmp_path):
    with video_writer(tmp_path / "a clip.mp4", 25) as encoder:
        for index in range(3):
            encoder.write(np.full((40, 66, 3), 80 * index, np.uint8))
            write_mask(tmp_path / "masks" / f"{index:05d}.png", np.ones((40, 66), np.uint8))
    given = {"result": tmp_path / "masks", "frames": tmp_path / "a clip.mp4"}
    with pytest.warns(MediaNotice, match="the frames have no image files"):
        document = json.loads(export("ytvis", tmp_path / "y.json", **given).read_text())
    assert document["videos"][0]["file_names"] == [f"a clip/{index:05d}.jpg" for index in range(3)]
    with pytest.warns(MediaNotice):
        folder = export("yolo-seg", tmp_path / "yolo", images=True, **given)
    levels = [np.array(Image.open(folder / "images" / f"{index:05d}.jpg")).mean() for index in range(3)]
    np.testing.assert_allclose(levels, [0, 80, 160], atol=3)


def test_a_video_that_changed_is_told_of(results, export, tmp_path):
    with video_writer(tmp_path / "clip.mp4", 25) as encoder:
        for _ in NAMES:
            encoder.write(np.zeros((40, 66, 3), np.uint8))
    rewrite(results, inputs={"source": {"path": str(tmp_path / "clip.mp4"), "bytes": 3}})
    with pytest.warns(MediaNotice, match="has changed since the masks were made"), pytest.raises(MediaError):
        export("rgba-png")


def test_nothing_is_replaced_unasked(results, export, tmp_path):
    for format_ in ("mot", "binary-png"):
        path = export(format_)
        with pytest.raises(OutputError, match="exists: overwrite replaces it"):
            export(format_)
        assert export(format_, overwrite=True) == path
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="was there before and no export made it"):
            export("binary-png", tmp_path / "mine", overwrite=overwrite)
        with pytest.raises(OutputError, match="is a folder, and the export a file"):
            export("mot", tmp_path / "mine", overwrite=overwrite)
        for place in (results, results / "masks", tmp_path, tmp_path / "frames"):
            with pytest.raises(OutputError, match=r"would replace .*, or add to it: choose another place"):
                export("binary-png", place, overwrite=overwrite)
        for place in (results / "summary.json", results / "frames.jsonl", tmp_path / "frames" / f"{NAMES[0]}.png"):
            with pytest.raises(OutputError, match=r"would replace .*, or add to it: choose another place"):
                export("mot", place, overwrite=overwrite)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("format_", sorted(set(FORMATS) - {"soft-png"}))
def test_a_failure_leaves_nothing_and_keeps_what_was_there(results, export, format_):
    def stop(frame):
        if frame.index == 3:
            raise KeyboardInterrupt

    def content(path):
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        return {str(each.relative_to(path)): each.read_bytes() for each in files}

    before = export(format_)
    kept = content(before)
    with pytest.raises(KeyboardInterrupt):
        export(format_, overwrite=True, each=stop)
    assert [path.name for path in before.parent.iterdir()] == [before.name]
    assert content(before) == kept


def test_options_are_for_some_formats(export):
    with pytest.raises(ArgumentError, match="tolerance is for cvat-video, geojson, yolo-seg, not for coco"):
        export("coco", tolerance=1)
    with pytest.raises(ArgumentError, match=r"category is for .*, not for mot"):
        export("mot", categories={1: "dog"})
    with pytest.raises(ArgumentError, match=r"format must be one of coco, .*, got word"):
        export("word")
    for wrong in ({"tolerance": -1}, {"bits": 12}, {"fps": 0}, {"categories": {0: "x"}}, {"categories": {1: " "}}):
        with pytest.raises(ArgumentError):
            ExportOptions(**wrong)


def test_every_option_is_taken_by_a_format():
    taken = frozenset().union(*(each.takes for each in FORMATS.values()))
    assert taken == ExportOptions.__dataclass_fields__.keys()


@pytest.mark.parametrize("format_", ["coco", "ytvis", "cvat-video", "labelstudio", "geojson", "mot"])
def test_memory_does_not_grow_with_the_video(tmp_path, format_):
    """A mask weighs 200 kB here; of what is kept, only names and boxes grow with the number of frames."""
    mask = np.zeros((400, 500), np.uint8)
    mask[50:300, 100:400] = 1
    write_mask(tmp_path / "masks" / "0.png", mask)
    for index in range(1, 60):
        (tmp_path / "masks" / f"{index}.png").hardlink_to(tmp_path / "masks" / "0.png")
    result = Result(tmp_path, frames=tmp_path / "masks")
    tracemalloc.start()
    try:
        api.export_result(result, format_, tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * mask.nbytes


def test_errors_are_those_of_the_package():
    assert issubclass(OutputError, StmFastError)


def test_results_may_be_in_the_folder_of_the_frames(results, tmp_path):
    (tmp_path / "out").rename(tmp_path / "frames" / "out")
    path = api.export_result(tmp_path / "frames" / "out", "binary-png")
    assert path == tmp_path / "frames" / "out" / "export" / "binary"


def test_frames_so_far_of_a_backward_run_come_in_the_order_of_the_clip(results):
    journal = results / "frames.jsonl"
    journal.write_text("".join(reversed(journal.read_text().splitlines(keepends=True))))
    rewrite(results, complete=False)
    (results / "masks" / f"{NAMES[0]}.png").unlink()
    with pytest.warns(MediaNotice, match="is not complete"):
        result = Result(results)
    assert result.names == NAMES[1:]
