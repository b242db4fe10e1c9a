"""Corrections from files: what they say, which frames they reach, and what is done again."""

import numpy as np
import pytest
from PIL import Image

from stm_fast.errors import ArgumentError, MediaError, StmFastError
from stm_fast.inference.network import FrameNetwork
from stm_fast.media.encode import video_writer
from stm_fast.media.masks import read_mask, write_mask
from stm_fast.media.notices import MediaNotice
from stm_fast.tracking import state_file
from stm_fast.tracking.correction import Correction
from stm_fast.tracking.correction_files import corrections_of
from stm_fast.tracking.sequence import FrameSequence

SIZE = (32, 64)
FORWARD = {"direction": "forward"}
BACKWARD = {"direction": "backward", "from_frame": 7}
BOTH = {"direction": "both", "from_frame": 3}


@pytest.fixture
def fixes(tmp_path):
    """(masks by name) -> a folder of them; a name may have a folder."""

    def make(**given):
        for name, mask in given.items():
            write_mask(tmp_path / "fixes" / f"{name.removeprefix('n').replace('_', '/')}.png", np.asarray(mask))
        return tmp_path / "fixes"

    return make


class TestWhatACorrectionSays:
    def test_an_object_that_is_not_shown_stays_as_it_is(self, clip, track, fixes, ids):
        with pytest.warns(MediaNotice, match=r"the correction of frame 2 does not show objects 2, .* 2/2\.png"):
            found = list(track(clip / "frames", clip / "mask.png", corrections=fixes(n2=ids("1000", "0000"))))
        np.testing.assert_array_equal(found[2].mask, ids("1002", "0000"))

    def test_an_empty_mask_of_an_object_says_that_it_is_not_there(self, clip, track, fixes, ids, truth):
        gone = fixes(n2_2=np.zeros(SIZE, np.uint8), n2_1=ids("0010", "0000") * 255)
        found = list(track(clip / "frames", clip / "mask.png", corrections=gone))
        np.testing.assert_array_equal(found[1].mask, truth[1])
        np.testing.assert_array_equal(found[2].mask, ids("0010", "0000"))
        assert found[2].objects == (1, 2)

    def test_a_new_object_joins(self, clip, track, fixes, truth):
        write_mask(clip / "mask.png", np.where(truth[0] == 1, 1, 0))
        found = list(track(clip / "frames", clip / "mask.png", corrections=fixes(n2=truth[2])))
        assert [frame.objects for frame in found] == [(1,)] * 2 + [(1, 2)] * 4
        np.testing.assert_array_equal(found[5].mask, truth[5])

    def test_several_frames_of_an_object(self, clip, track, fixes, truth):
        wrong = np.roll(truth[0], 16, 0)  # black blocks
        write_mask(clip / "mask.png", wrong)
        found = list(track(clip / "frames", clip / "mask.png", corrections=fixes(n1=truth[1], n4=truth[4])))
        for index in (1, 4):
            np.testing.assert_array_equal(found[index].mask, truth[index])

    def test_overlapping_masks_of_objects_are_told_of(self, clip, track, fixes, ids):
        both = fixes(n2_1=ids("0010", "0000"), n2_2=ids("0022", "0000"))
        with pytest.warns(MediaNotice, match=r"2/2\.png overlaps with objects of lower ids in 256 pixels"):
            found = list(track(clip / "frames", clip / "mask.png", corrections=both))
        np.testing.assert_array_equal(found[2].mask, ids("0022", "0000"))

    def test_void_is_ignored(self, clip, track, fixes, ids, truth):
        marked = fixes(n2=np.where(truth[2] == 0, 255, truth[2]), n3_2=np.where(truth[3] == 2, 255, 0))
        found = list(track(clip / "frames", clip / "mask.png", corrections=marked, void=255))
        np.testing.assert_array_equal(found[2].mask, truth[2])
        np.testing.assert_array_equal(found[3].mask, truth[3])

    def test_colours_have_the_ids_that_they_have_in_masks(self, clip, track, tmp_path, truth):
        painted = np.array([(0, 0, 0), (10, 20, 30), (200, 90, 10)], np.uint8)
        for path, mask in (
            (clip / "mask.png", truth[0]),
            (tmp_path / "fixes" / "2.png", np.where(truth[2] == 2, 2, 0)),
        ):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(painted[mask]).save(path)
        with pytest.warns(MediaNotice):
            found = list(track(clip / "frames", clip / "mask.png", corrections=tmp_path / "fixes"))
        one, two = (int(found[0].mask[tuple(np.argwhere(truth[0] == each)[0])]) for each in (1, 2))
        assert {one, two} == {1, 2}
        np.testing.assert_array_equal(found[2].mask, np.array([0, one, two])[truth[2]])

    @pytest.mark.parametrize("form", ["array", "file", "correction", "name"])
    def test_in_python(self, clip, track, pictures, truth, ids, form):
        write_mask(clip / "late.png", truth[2])
        given = {
            "array": {2: truth[2]},
            "file": {2: clip / "late.png"},
            "correction": {2: Correction(truth[2], [1, 2])},
            "name": {"00002": truth[2]},
        }[form]
        found = list(track(pictures, np.where(truth[0] == 1, 1, 0), corrections=given))
        assert [frame.objects for frame in found] == [(1,)] * 2 + [(1, 2)] * 4
        np.testing.assert_array_equal(found[5].mask, truth[5])

    def test_names_with_dots(self, track, pictures, truth, tmp_path):
        """The folder of a frame has its whole name."""
        (tmp_path / "frames").mkdir()
        for index, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / "frames" / f"shot.{index}.png")
        write_mask(tmp_path / "fixes" / "shot.2" / "2.png", np.where(truth[2] == 2, 1, 0))
        write_mask(tmp_path / "fixes" / "shot.4.png", truth[4])
        found = list(track(tmp_path / "frames", np.where(truth[0] == 1, 1, 0), corrections=tmp_path / "fixes"))
        assert [frame.objects for frame in found] == [(1,)] * 2 + [(1, 2)] * 4

    def test_without_masks_corrections_show_the_objects(self, track, pictures, truth):
        found = list(track(pictures, None, corrections={2: truth[2]}))
        assert [frame.objects for frame in found] == [()] * 2 + [(1, 2)] * 4


class TestWhatCannotBeUsed:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"n7": np.ones(SIZE, int)}, "no mask in .*fixes is named like a frame: frames are called 0 and so on"),
            ({"n1": np.ones(SIZE, int), "n7": np.ones(SIZE, int)}, r"7\.png is not named like a frame: .*, 6 in all"),
            ({"n1": np.ones((32, 32), int)}, r"1\.png is 32×32 but the frames are 64×32"),
            ({"n1": np.zeros(SIZE, int)}, r"1\.png is empty, and would correct nothing: .* an empty 1/3\.png"),
            ({"n1": np.diag([255, 3] * 16).repeat(2, 1)}, r"1\.png shows object 255, but corrections are of objects 1"),
            ({"n1_255": np.ones(SIZE, int)}, r"255\.png must be named after the object that it shows, 1 to 254"),
            ({"n1_cat": np.ones(SIZE, int)}, r"cat\.png must be named after the object that it shows"),
            ({"n1_3": np.eye(32, 64, dtype=int) + 1}, r"3\.png shows objects 1, 2, but a file in such a folder shows"),
            ({"n1_3": np.ones(SIZE, int), "n1_03": np.ones(SIZE, int)}, "show the same object: keep one of them"),
            ({"n1": np.ones(SIZE, int), "n1_3": np.ones(SIZE, int)}, "have the same name: keep one of them"),
            ({"n0": np.ones(SIZE, int)}, "the correction of frame 0 comes before the first mask of an object"),
        ],
    )
    def test_files(self, clip, track, fixes, truth, given, message):
        write_mask(clip / "masks" / "1.png", truth[1])
        with pytest.raises(MediaError, match=message):
            track(clip / "frames", clip / "masks", corrections=fixes(**given))

    def test_folders(self, clip, track):
        (clip / "nothing" / "1").mkdir(parents=True)
        for name, message in (
            ("nowhere", "corrections .*nowhere does not exist: a folder of masks named like their frames is needed"),
            ("mask.png", r"corrections .*mask\.png is a file"),
            ("frames", "is the folder of frames"),
            ("nothing", "1 holds no image: a mask for each object"),
        ):
            with pytest.raises(MediaError, match=message):
                track(clip / "frames", clip / "mask.png", corrections=clip / name)
        (clip / "nothing" / "1").rmdir()
        with pytest.raises(MediaError, match="nothing holds no image: masks named like their frames are needed"):
            track(clip / "frames", clip / "mask.png", corrections=clip / "nothing")

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            ({9: np.ones(SIZE, int)}, ValueError, "corrections must belong to frames such as 00000, got one of 9"),
            ({1: np.ones((3, 3), int)}, ValueError, "mask must have the frame's size"),
            ({1: np.zeros(SIZE, int)}, ValueError, "mask must hold an object"),
            ({1: np.ones(SIZE, int), "00001": np.ones(SIZE, int)}, ValueError, "got two of 00001"),
            ({1: np.ones(SIZE, float)}, TypeError, "mask must hold integers"),
        ],
    )
    def test_arrays(self, track, pictures, truth, given, error, message):
        with pytest.raises(error, match=message):
            track(pictures, truth[0], corrections=given)

    def test_before_the_first_object_of_empty_masks(self, track, pictures, truth):
        tracker = track(pictures, {0: truth[0] * 0, 2: truth[2]}, corrections={1: truth[1]})
        with pytest.raises(MediaError, match="the correction of frame 00001 comes before the first mask of an object"):
            list(tracker)

    def test_of_frames_that_are_not_tracked(self, track, pictures, truth):
        with pytest.raises(MediaError, match="all corrections belong to frames that are not tracked, such as 00001"):
            track(pictures, truth[0], frames="::2", corrections={1: truth[1]})
        with pytest.warns(MediaNotice, match="1 corrections belong to frames that are not tracked, such as 00001"):
            track(pictures, truth[0], frames="::2", corrections={1: truth[1], 2: truth[2]})

    def test_of_a_frame_that_a_stream_never_has(self, track, pictures, truth):
        tracker = track(iter(pictures), truth[0], corrections={2: truth[2], 9: truth[2]})
        with pytest.warns(MediaNotice, match="1 corrections were not used: the clip has no frames"):
            list(tracker)

    def test_numbers_of_a_video_may_have_any_digits(self, tmp_path, pictures, fixes):
        found = corrections_of(fixes(n2=np.ones(SIZE, int), n000005=np.ones(SIZE, int)), FrameSequence(pictures))
        assert list(found) == ["00002", "00005"]


class TestWhatIsDoneAgain:
    """A noise that is never segmented the same way twice, unless everything before is the same."""

    @pytest.fixture
    def save(self, track, unsteady, noise, tmp_path):
        frames, mask = noise

        def saved(out="out", stop=None, *, route, corrections=None, each=lambda frame: None, **how):
            def stop_at(frame):
                each(frame)
                if frame.index == stop:
                    raise KeyboardInterrupt

            tracker = track(frames, mask, model=unsteady, size=None, memory_every=2, corrections=corrections, **route)
            try:
                return tracker.save(tmp_path / out, **({"overlay": None, "each": stop_at} | how))
            except KeyboardInterrupt:
                return None

        return saved

    @pytest.fixture
    def fix(self, noise):
        """A correction of object 2."""
        return np.where(np.roll(noise[1], 7, 0) == 2, 2, 0)

    def reached(self, route, frame):
        """The frames that a correction reaches."""
        after, before = range(frame, 8), range(frame + 1)
        if route["direction"] == "both":
            return after if frame > 3 else before if frame < 3 else range(8)
        return after if route["direction"] == "forward" else before

    @pytest.mark.parametrize("keep", [0, 20])
    @pytest.mark.parametrize(
        ("route", "frame"), [(FORWARD, 5), (BACKWARD, 1), (BOTH, 5), (BOTH, 1), (BOTH, 3)], ids=str
    )
    def test_only_what_a_correction_reaches(
        self, save, fix, route, frame, keep, tmp_path, masks_in, assert_equal, monkeypatch
    ):
        monkeypatch.setattr(state_file, "_MAX_SHARE", 1e9)
        save(route=route, keep_states=keep, checkpoint_every=1e-9)
        before = masks_in(tmp_path / "out")
        done = []
        summary = save(route=route, corrections={frame: fix}, each=lambda each: done.append((each.index, each.resumed)))
        reached = self.reached(route, frame)
        after = masks_in(tmp_path / "out")
        assert_equal(
            {index: after[index] for index in after if index not in reached},
            {index: before[index] for index in before if index not in reached},
        )
        assert any(not np.array_equal(after[index], before[index]) for index in reached)
        np.testing.assert_array_equal(after[frame] == 2, fix == 2)
        assert summary.complete
        assert {index for index, resumed in done if not resumed} >= set(reached)
        if keep:
            save("whole", route=route, corrections={frame: fix})
            assert_equal(after, masks_in(tmp_path / "whole"))
        else:
            assert {index for index, resumed in done if not resumed} == set(reached)

    @pytest.mark.parametrize(("route", "stop"), [(FORWARD, 5), (BACKWARD, 2), (BOTH, 6), (BOTH, 1)], ids=str)
    def test_a_run_with_corrections_that_was_interrupted(
        self, save, fix, route, stop, tmp_path, masks_in, assert_equal
    ):
        corrections = {5: fix, 1: fix}
        save("whole", route=route, corrections=corrections)
        save(stop=stop, route=route, corrections=corrections)
        assert save(route=route, corrections=corrections).complete
        assert_equal(masks_in(tmp_path / "out"), masks_in(tmp_path / "whole"))

    def test_a_run_with_new_corrections_that_was_interrupted(self, save, fix, tmp_path, masks_in, assert_equal):
        for out, stops in (("whole", [None]), ("out", [5, 6, None])):
            save(out, route=BOTH)
            behind = {index: mask for index, mask in masks_in(tmp_path / out).items() if index < 3}
            for stop in stops:
                summary = save(out, stop, route=BOTH, corrections={5: fix})
            assert (summary.complete, summary.resumed_frames) == (True, {"whole": 5, "out": 7}[out])
            assert_equal({index: masks_in(tmp_path / out)[index] for index in behind}, behind)
        assert_equal(masks_in(tmp_path / "out"), masks_in(tmp_path / "whole"))

    def test_a_correction_ahead_of_where_a_run_was_stopped(self, save, fix, tmp_path, masks_in, assert_equal):
        save("whole", route=FORWARD, corrections={4: fix})
        save(stop=3, route=FORWARD)
        assert save(route=FORWARD, corrections={4: fix}).resumed_frames == 4
        assert_equal(masks_in(tmp_path / "out"), masks_in(tmp_path / "whole"))

    @pytest.mark.parametrize("kill", [False, True])
    def test_a_correction_of_the_frame_at_which_a_run_was_stopped(
        self, save, fix, tmp_path, masks_in, assert_equal, kill, monkeypatch
    ):
        """The memory is that of the stopped run: nothing is encoded again, also if the run is killed at that frame."""
        save("whole", route=FORWARD, corrections={3: fix})
        save(stop=3, route=FORWARD)
        if kill:
            with monkeypatch.context() as patch:
                patch.setattr(state_file.StateFile, "save_at_stop", lambda *_: None)
                save(stop=3, route=FORWARD, corrections={3: fix})
        seen = []
        monkeypatch.setattr(
            FrameNetwork,
            "frame",
            lambda self, *frame, made=FrameNetwork.frame: seen.append(frame[0]) or made(self, *frame),
        )
        assert save(route=FORWARD, corrections={3: fix}).resumed_frames == (4 if kill else 3)
        assert seen == [4, 5, 6, 7]
        assert_equal(masks_in(tmp_path / "out"), masks_in(tmp_path / "whole"))

    def test_a_changed_correction_of_the_frame_at_which_a_run_was_stopped(
        self, save, fix, tmp_path, masks_in, assert_equal
    ):
        other = np.roll(fix, 5, 1)
        save("whole", route=FORWARD, corrections={1: other})
        save(stop=1, route=FORWARD, corrections={1: fix})
        assert save(route=FORWARD, corrections={1: other}).resumed_frames == 1
        assert_equal(masks_in(tmp_path / "out"), masks_in(tmp_path / "whole"))

    def test_a_correction_that_changed_or_went(self, save, fix, tmp_path, masks_in):
        save(route=FORWARD, corrections={2: fix, 5: fix})
        assert save(route=FORWARD, corrections={2: fix, 5: np.roll(fix, 3, 0)}).resumed_frames == 5
        assert save(route=FORWARD, corrections={2: fix}).resumed_frames == 5
        assert save(route=FORWARD, corrections={2: fix}).resumed_frames == 8
        with pytest.raises(StmFastError, match="was made with corrections, such as that of frame 00002: give"):
            save(route=FORWARD, resume=True)

    def test_nothing_is_computed_for_the_other_direction(self, save, fix, monkeypatch):
        save(route=BOTH)
        seen = []
        query = FrameNetwork.encode_query
        monkeypatch.setattr(
            FrameNetwork, "encode_query", lambda self, frame: seen.append(frame.index) or query(self, frame)
        )
        save(route=BOTH, corrections={1: fix})
        assert seen == [0, 1, 2, 3]  # the backward pass: frames 3 and 2 are remembered, 1 and 0 segmented

    def test_states_are_few_and_spread(self, save, tmp_path, monkeypatch):
        monkeypatch.setattr(state_file, "_MAX_SHARE", 1e9)
        save(route=FORWARD, keep_states=3, checkpoint_every=1e-9)
        kept = sorted(int(path.stem.partition("-")[2]) for path in (tmp_path / "out" / ".checkpoint").iterdir())
        assert len(kept) == 3
        assert kept[-1] == 7
        assert max(np.diff([0, *kept])) <= 4
        save(route=FORWARD, resume=True)
        assert not (tmp_path / "out" / ".checkpoint").exists()

    def test_a_number_of_states_below_0(self, save):
        with pytest.raises(ArgumentError, match="keep_states must be 0 or more, got -1"):
            save(route={}, keep_states=-1)

    def test_a_killed_removal_leaves_a_beginning(self, save, fix, tmp_path, monkeypatch, masks_in, assert_equal):
        """Masks are removed from the end, and the summary still tells of the run before."""
        save(route=FORWARD)
        before = masks_in(tmp_path / "out")
        removed, unlink = [], type(tmp_path).unlink

        def killed(path, **how):
            if path.parent.name == "masks" and path.stem.isdecimal():
                if len(removed) == 2:
                    raise KeyboardInterrupt
                removed.append(path.stem)
            unlink(path, **how)

        with monkeypatch.context() as patch:
            patch.setattr(type(tmp_path), "unlink", killed)
            save(route=FORWARD, corrections={3: fix})
        assert removed == ["00007", "00006"]
        assert save(route=FORWARD, resume=True).resumed_frames == 6
        assert list(masks_in(tmp_path / "out")) == list(before)

    def test_a_video_file(self, track, unsteady, noise, fix, tmp_path, masks_in):
        with video_writer(tmp_path / "clip.mkv", 12) as encoder:
            for frame in noise[0]:
                encoder.write(frame)
        write_mask(tmp_path / "mask.png", noise[1])
        write_mask(tmp_path / "fixes" / "5.png", fix)

        def save(**how):
            tracker = track(
                tmp_path / "clip.mkv", tmp_path / "mask.png", model=unsteady, size=None, from_frame=3, **how
            )
            return tracker.save(tmp_path / "out", overlay=None)

        save(direction="both")
        before = masks_in(tmp_path / "out")
        assert save(direction="both", corrections=tmp_path / "fixes").resumed_frames == 5
        changed = {
            index for index, mask in masks_in(tmp_path / "out").items() if not np.array_equal(mask, before[index])
        }
        assert changed
        assert changed <= {5, 6, 7}
        assert read_mask(tmp_path / "out" / "masks" / "00005.png").max() <= 2
