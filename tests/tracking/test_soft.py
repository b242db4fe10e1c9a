"""Probabilities that a run yields and keeps."""

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import ArgumentError, MediaError
from stm_fast.tracking import state_file
from stm_fast.tracking.correction import Correction


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


@pytest.mark.parametrize(("direction", "start"), [("forward", 0), ("backward", 5), ("both", 2)])
@pytest.mark.parametrize("number", [1, 3])
def test_a_missing_probability_stops_a_resumed_run(track, pictures, truth, tmp_path, direction, start, number):
    def run(**how):
        tracker = track(pictures, truth[start], soft=8, direction=direction, from_frame=start)
        return tracker.save(tmp_path / "out", overlay=None, **how)

    run()
    (tmp_path / "out" / "soft" / "2" / f"0000{number}.png").unlink()
    with pytest.raises(MediaError, match=rf"0000{number}\.png is missing though the mask of the frame is there"):
        run(resume=True)
    run(overwrite=True)
    assert len(kept(tmp_path / "out")) == 12


def test_backward_is_forward_over_the_reversed_clip(track, unsteady, noise):
    frames, mask = noise
    turned = list(track(frames[::-1], mask, model=unsteady, size=None, soft=8))
    behind = list(track(frames, mask, model=unsteady, size=None, soft=8, direction="backward", from_frame=7))
    assert len({frame.soft[1].tobytes() for frame in turned}) == len(turned)
    assert [frame.index for frame in behind] == [7 - frame.index for frame in turned]
    for frame, expected in zip(behind, turned, strict=True):
        assert frame.soft.keys() == expected.soft.keys() == {1, 2}
        for object_id, levels in expected.soft.items():
            np.testing.assert_array_equal(frame.soft[object_id], levels)


class TestWhatIsDoneAgain:
    """A noise that is never segmented the same way twice, unless everything before is the same."""

    @pytest.fixture
    def save(self, track, unsteady, noise, tmp_path, monkeypatch):
        monkeypatch.setattr(state_file, "_MAX_SHARE", 1e9)
        frames, mask = noise

        def saved(out="out", *, stop=None, corrections=None, route=None, **how):
            def stop_at(frame):
                if frame.index == stop:
                    raise KeyboardInterrupt

            how_tracked = {"memory_every": 2, "soft": 8, "corrections": corrections} | (route or {})
            tracker = track(frames, mask, model=unsteady, size=None, **how_tracked)
            try:
                return tracker.save(tmp_path / out, **({"overlay": None, "each": stop_at, "keep_states": 20} | how))
            except KeyboardInterrupt:
                return None

        return saved

    @pytest.fixture
    def fix(self, noise):
        """A correction of object 2."""
        return np.where(np.roll(noise[1], 7, 0) == 2, 2, 0)

    @pytest.fixture
    def assert_same(self, tmp_path):
        def check():
            found, whole = kept(tmp_path / "out"), kept(tmp_path / "whole")
            assert found.keys() == whole.keys()
            for name, levels in whole.items():
                np.testing.assert_array_equal(found[name], levels, err_msg=name)

        return check

    @pytest.mark.parametrize(
        ("route", "frame"),
        [
            ({}, 5),
            ({"direction": "backward", "from_frame": 7}, 2),
            ({"direction": "both", "from_frame": 3}, 1),
            ({"direction": "both", "from_frame": 3}, 3),
        ],
        ids=str,
    )
    def test_a_correction_makes_what_one_run_makes(self, save, fix, route, frame, assert_same, tmp_path):
        save(route=route, checkpoint_every=1e-9)
        before = kept(tmp_path / "out")
        save(route=route, corrections={frame: fix})
        save("whole", route=route, corrections={frame: fix})
        assert_same()
        changed = {name for name, levels in kept(tmp_path / "out").items() if not np.array_equal(levels, before[name])}
        assert f"2/0000{frame}.png" in changed
        assert len(changed) > 2

    def test_a_correction_that_confirms_the_mask(self, save, assert_same, masks_in, tmp_path):
        """The mask stays as it is, but the object is certain now."""
        save(stop=3)
        found = masks_in(tmp_path / "out")[3]
        confirmed = {3: Correction(found, [1, 2])}
        save(corrections=confirmed)
        save("whole", corrections=confirmed)
        np.testing.assert_array_equal(masks_in(tmp_path / "out")[3], found)
        np.testing.assert_array_equal(kept(tmp_path / "out")["2/00003.png"], np.where(found == 2, 255, 0))
        assert_same()

    def test_a_resumed_run_without_states_keeps_what_is_there(self, save, fix, tmp_path):
        """A frame that was corrected before is recalled as a hard mask, but stays as it is."""
        how = {"corrections": {2: fix}, "checkpoint_every": 0, "keep_states": 0}
        save(stop=5, **how)
        before = kept(tmp_path / "out")
        assert set(np.unique(before["1/00002.png"])) - {0, 255}
        assert save(**how).resumed_frames == 6
        after = kept(tmp_path / "out")
        for name, levels in before.items():
            np.testing.assert_array_equal(after[name], levels, err_msg=name)

    def test_an_object_that_is_taken_away_again(self, save, fix, assert_same, tmp_path):
        save(corrections={1: fix, 5: np.where(fix, 3, 0)}, checkpoint_every=1e-9)
        assert (tmp_path / "out" / "soft" / "3" / "00007.png").exists()
        save(corrections={1: fix})
        save("whole", corrections={1: fix})
        assert_same()
        assert not (tmp_path / "out" / "soft" / "3").exists()

    def test_a_killed_removal_leaves_nothing_behind(self, save, fix, assert_same, tmp_path, monkeypatch):
        """Every mask has its soft masks at every moment, and those without a mask go with the next removal."""
        save(corrections={1: fix, 5: np.where(fix, 3, 0)}, checkpoint_every=1e-9)
        unlink = type(tmp_path).unlink

        def killed(path, **how):
            if path.parent.parent.name == "soft":
                raise KeyboardInterrupt
            unlink(path, **how)

        with monkeypatch.context() as patch:
            patch.setattr(type(tmp_path), "unlink", killed)
            save(corrections={1: fix})
        assert not (tmp_path / "out" / "masks" / "00007.png").exists()
        assert (tmp_path / "out" / "soft" / "3" / "00007.png").exists()
        save(corrections={1: fix})
        save("whole", corrections={1: fix})
        assert_same()

    def test_a_new_run_leaves_neither_soft_masks_nor_states(self, save, fix, tmp_path):
        save(corrections={5: np.where(fix, 3, 0)}, checkpoint_every=1e-9)
        assert list((tmp_path / "out" / ".checkpoint").iterdir())
        save(overwrite=True, keep_states=0)
        assert {name.partition("/")[0] for name in kept(tmp_path / "out")} == {"1", "2"}
        assert not (tmp_path / "out" / ".checkpoint").exists()
