"""Probabilities that a run yields and keeps."""

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import ArgumentError, MediaError


def kept(out):
    return {
        str(path.relative_to(out / "soft")): np.array(Image.open(path))
        for path in sorted((out / "soft").rglob("*.png"))
    }


@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (16, np.uint16)])
def test_probabilities_are_yielded_and_kept(track, pictures, truth, tmp_path, bits, kind):
    frames = list(track(pictures, truth[0], soft=bits))
    for frame in frames:
        assert frame.soft.keys() == {1, 2}
        top = np.iinfo(kind).max
        for object_id, levels in frame.soft.items():
            assert levels.dtype == kind
            assert levels.shape == frame.mask.shape
            np.testing.assert_array_equal(levels > top / 2, frame.mask == object_id)
    track(pictures, truth[0], soft=bits).save(tmp_path / "out", overlay=None)
    found = kept(tmp_path / "out")
    assert len(found) == 2 * len(pictures)
    for frame in frames:
        for object_id, levels in frame.soft.items():
            stored = found[f"{object_id}/{frame.name}.png"]
            assert stored.dtype == kind
            np.testing.assert_array_equal(stored, levels)


def test_none_unless_asked_for(track, pictures, truth, tmp_path):
    assert not any(frame.soft for frame in track(pictures, truth[0]))
    track(pictures, truth[0]).save(tmp_path / "out", overlay=None)
    assert not (tmp_path / "out" / "soft").exists()
    with pytest.raises(ArgumentError, match="soft must be 8 or 16 bits, or None, got 10"):
        track(pictures, truth[0], soft=10)


def test_an_object_that_joins_later(track, pictures, truth, tmp_path):
    first, late = np.where(truth[0] == 1, 1, 0), np.where(truth[2] == 2, 2, 0)
    track(pictures, {0: first, 2: late}, soft=8).save(tmp_path / "out", overlay=None)
    names = set(kept(tmp_path / "out"))
    assert names == {f"1/{index:05d}.png" for index in range(6)} | {f"2/{index:05d}.png" for index in range(2, 6)}


def test_a_correction_is_what_is_kept(track, pictures, truth, tmp_path):
    def correct(frame):
        return np.where(truth[3] == 2, 2, 0) if frame.index == 1 else None

    track(pictures, truth[0], soft=8, corrections=correct).save(tmp_path / "out", overlay=None)
    found = kept(tmp_path / "out")["2/00001.png"]
    np.testing.assert_array_equal(found == 255, truth[3] == 2)


@pytest.mark.parametrize("state", [True, False], ids=["from the state", "from the masks"])
def test_a_resumed_run_keeps_the_rest(track, pictures, truth, tmp_path, state):
    def interrupt(frame):
        if frame.index == 3:
            raise KeyboardInterrupt

    def run(out, **how):
        return track(pictures, truth[0], soft=16).save(out, overlay=None, checkpoint_every=120 if state else 0, **how)

    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", each=interrupt)
    assert len(kept(tmp_path / "out")) == 8
    run(tmp_path / "out", resume=True)
    found, whole = kept(tmp_path / "out"), kept(tmp_path / "whole")
    assert found.keys() == whole.keys()
    for name, levels in whole.items():
        if state:
            np.testing.assert_array_equal(found[name], levels)
        else:
            np.testing.assert_allclose(found[name] / 65535, levels / 65535, atol=0.01)


def test_a_missing_probability_stops_a_resumed_run(track, pictures, truth, tmp_path):
    def run(**how):
        return track(pictures, truth[0], soft=8).save(tmp_path / "out", overlay=None, **how)

    run()
    (tmp_path / "out" / "soft" / "2" / "00003.png").unlink()
    with pytest.raises(MediaError, match=r"00003\.png is missing though the mask of the frame is there"):
        run(resume=True)
    run(overwrite=True)
    assert len(kept(tmp_path / "out")) == 12
