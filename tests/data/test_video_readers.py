"""What each reader of videos does besides opening sets: void, unseen objects, sparse truth, overlaps, releases."""

import json

import numpy as np
import pytest
from PIL import Image

from stm_fast.data.layouts import VIDEO_LAYOUTS, open_videos
from stm_fast.data.video import burst, youtube_vos
from stm_fast.data.video.lvos import UNSEEN_CLIPS
from stm_fast.errors import MediaError
from stm_fast.media.masks import object_ids, read_mask, write_mask
from stm_fast.media.notices import MediaNotice
from tests.data import miniatures


class TestDavis:
    def test_void_is_255_in_2017_and_an_object_in_2016(self, tmp_path):
        dataset = open_videos("davis2017", miniatures.make_davis(tmp_path / "2017"), "val")
        (camel, dog), void = dataset.clips, dataset.void
        assert (void, [255 in clip.read_truth("00000") for clip in (camel, dog)]) == (255, [False, True])
        dataset = open_videos("davis2016", miniatures.make_davis(tmp_path / "2016", 2016), "val")
        assert dataset.void is None
        assert set(np.unique(dataset.clips[0].read_truth("00000"))) == {0, 1}

    def test_train_and_val_together(self, tmp_path):
        root = miniatures.make_davis(tmp_path)
        assert [clip.name for clip in open_videos("davis2017", root, "trainval")] == ["bear", "bus", "camel", "dog"]
        (root / "ImageSets/2017/trainval.txt").write_text("dog\n")
        assert [clip.name for clip in open_videos("davis2017", root, "trainval")] == ["dog"]

    def test_resolutions(self, tmp_path):
        root = miniatures.make_davis(tmp_path)
        miniatures.make_davis(root, resolution="Full-Resolution")
        assert open_videos("davis2017", root, "val").masks_folder.name == "480p"
        dataset = open_videos("davis2017", root, "Full-Resolution/val")
        assert dataset.name == "DAVIS 2017 Full-Resolution/val"
        assert dataset.masks_folder.name == "Full-Resolution"
        assert all(clip.frames.parent.name == "Full-Resolution" for clip in dataset)
        names = [each.name for each in VIDEO_LAYOUTS["davis2017"].sets(root)]
        assert names == [
            *("test-dev", "train", "trainval", "val"),
            *(f"Full-Resolution/{name}" for name in ("test-dev", "train", "trainval", "val")),
        ]

    def test_the_only_resolution_on_disk_is_used_and_named(self, tmp_path):
        root = miniatures.make_davis(tmp_path, resolution="Full-Resolution")
        with pytest.warns(MediaNotice, match="has no 480p: Full-Resolution is used"):
            assert open_videos("davis2017", root, "val").masks_folder.name == "Full-Resolution"

    def test_masks_of_2017_under_2016_are_told_of(self, tmp_path):
        root = miniatures.make_davis(tmp_path)
        (root / "ImageSets" / "2016").mkdir()
        (root / "ImageSets" / "2016" / "val.txt").write_text("camel\n")
        with pytest.warns(MediaNotice, match="several objects, which are those of DAVIS 2017"):
            open_videos("davis2016", root, "val")


class TestYouTubeVos:
    def test_categories_and_what_is_unseen(self, tmp_path):
        root = miniatures.make_youtube_vos(tmp_path)
        dataset = open_videos("youtube-vos2019", root, "valid")
        clip = dataset.clips[0]
        assert (dataset.unseen, clip.categories) == ({"zither"}, {1: "person", 2: "zither"})
        assert [dataset.is_unseen(clip, each) for each in (1, 2, 9)] == [False, True, None]
        assert open_videos("youtube-vos2019", root, "train").unseen == frozenset()

    def test_the_training_set_says_what_was_seen_if_it_is_there(self, tmp_path):
        root = miniatures.make_youtube_vos(tmp_path, ["valid"])
        assert open_videos("youtube-vos2018", root, "valid").unseen == {"zither"}
        meta = {"videos": {"a": {"objects": {"1": {"category": "zither", "frames": []}}}}}
        (root / "train").mkdir()
        (root / "train" / "meta.json").write_text(json.dumps(meta))
        assert open_videos("youtube-vos2018", root, "valid").unseen == {"person"}
        assert open_videos("youtube-vos2018", root / "valid").unseen == {"person"}

    def test_nothing_is_unseen_where_no_category_is_told(self, tmp_path):
        root = miniatures.make_youtube_vos(tmp_path, ["valid"])
        file = root / "valid" / "meta.json"
        file.write_text(file.read_text().replace("category", "kind"))
        dataset = open_videos("youtube-vos2018", root, "valid")
        assert dataset.is_unseen(dataset.clips[0], 2) is None

    def test_results_are_the_listed_frames_also_of_all_frames(self, tmp_path):
        root = miniatures.make_youtube_vos(tmp_path)
        for subset, count in (("valid", 4), ("valid_all_frames", 16)):
            first, second = open_videos("youtube-vos2019", root, subset)
            assert first.wanted == {"00000", "00005", "00010", "00015"} == second.wanted
            assert len(first.frame_names()) == count
            assert list(first.prompts) == ["00000", "00005"]

    def test_another_release_is_told_of(self, tmp_path, monkeypatch):
        root = miniatures.make_youtube_vos(tmp_path, ["valid"])
        monkeypatch.setitem(youtube_vos._CLIPS, 2, "2018")
        open_videos("youtube-vos2018", root, "valid"), open_videos("youtube-vos", root, "valid")
        with pytest.warns(MediaNotice, match="2 clips, which is the release of 2018, not YouTube-VOS 2019"):
            open_videos("youtube-vos2019", root, "valid")


class TestOtherSetFolders:
    def test_mose_gives_the_masks_in_which_objects_appear(self, tmp_path):
        root = miniatures.make_mose(tmp_path)
        clips = open_videos("mose", root, "valid").clips
        assert [list(clip.prompts) for clip in clips] == [["00000"], ["00000", "00002"]]
        assert all(len(clip.truth) == 6 for clip in open_videos("mose", root, "train"))
        assert open_videos("mose", root / "valid").name == "MOSE valid"

    def test_unseen_clips_of_lvos(self, tmp_path):
        root = miniatures.make_lvos(tmp_path)
        dataset = open_videos("lvos", root, "val")
        assert [dataset.is_unseen(clip, 1) for clip in dataset] == [True, False]
        assert dataset.submission.zip_root == "Annotations"
        train = open_videos("lvos", root, "train")
        assert train.is_unseen(train.clips[0], 1) is None

    def test_clips_that_only_one_version_of_lvos_has_as_unseen(self, tmp_path):
        root = miniatures.make_lvos(tmp_path)
        only_1, only_2 = (min(UNSEEN_CLIPS[each] - UNSEEN_CLIPS[3 - each]) for each in (1, 2))
        (root / "val" / "val_meta.json").unlink()
        for folder in (root / "val" / "JPEGImages", root / "val" / "Annotations"):
            (folder / "0tCWPOrc").rename(folder / only_1)
        assert open_videos("lvos", root, "val").unseen_clips == {"058oeZ2p", only_1}
        for folder in (root / "val" / "JPEGImages", root / "val" / "Annotations"):
            (folder / "058oeZ2p").rename(folder / only_2)
        assert open_videos("lvos", root, "val").unseen_clips == {only_2}

    def test_clips_that_the_meta_file_of_lvos_lists_and_the_disk_lacks(self, tmp_path):
        root = miniatures.make_lvos(tmp_path)
        file = root / "val" / "val_meta.json"
        file.write_text(json.dumps({"videos": {"lost": {}} | json.loads(file.read_text())["videos"]}))
        with pytest.raises(MediaError, match=r"clips without frames in .*: lost\n(.|\n)*Eval, and val_meta.json"):
            open_videos("lvos", root, "val")
        file.write_text("[]")
        with pytest.raises(MediaError, match="lacks the layout of LVOS"):
            open_videos("lvos", root, "val")

    def test_long_videos_have_sparse_truth(self, tmp_path):
        root = miniatures.make_long_video(tmp_path / "long_video")
        miniatures.make_long_video(tmp_path / "long_video_x3")
        dataset = open_videos("long-video", root)
        for clip in dataset:
            assert (len(clip.frame_names()), len(clip.truth), list(clip.prompts)) == (8, 4, ["00000"])
            assert clip.wanted == set(clip.truth)
        assert dataset.submission is None
        assert open_videos("long-video", tmp_path, "long_video_x3").name == "Long Videos long_video_x3"

    def test_vost_has_void_and_prompts_in_the_first_frame_alone(self, tmp_path):
        dataset = open_videos("vost", miniatures.make_vost(tmp_path), "val")
        for clip in dataset:
            first = clip.frame_names()[0]
            assert list(clip.prompts) == [first]
            assert 255 in clip.read_truth(first)
            assert object_ids(read_mask(clip.prompts[first], void=dataset.void)) == (1, 2)


@pytest.mark.filterwarnings("ignore:objects of SA-V may overlap")
class TestSaV:
    def test_objects_have_pictures_of_their_own(self, tmp_path):
        clip = open_videos("sa-v", miniatures.make_sa_v(tmp_path), "sav_val").clips[1]
        assert list(clip.truth) == ["00000", "00004", "00008", "00012"]
        assert clip.wanted == set(clip.truth)
        assert len(clip.frame_names()) == 13
        masks = clip.truth["00004"].objects()
        assert list(masks) == [1, 2, 3]
        assert not (masks[3] & ~masks[1]).any()

    def test_a_pixel_of_several_objects_belongs_to_the_smallest(self, tmp_path):
        clip = open_videos("sa-v", miniatures.make_sa_v(tmp_path), "sav_val").clips[1]
        masks, ids = clip.truth["00004"].objects(), clip.read_truth("00004")
        np.testing.assert_array_equal(ids == 3, masks[3])
        np.testing.assert_array_equal(ids == 1, masks[1] & ~masks[3])

    def test_overlaps_are_told_of(self, tmp_path):
        root = miniatures.make_sa_v(tmp_path)
        for given in ((root, "sav_val"), (root / "sav_val", None), (root / "sav_val", "sav_val")):
            with pytest.warns(MediaNotice, match="belongs to the smallest of them"):
                assert open_videos("sa-v", *given).name == "SA-V sav_val"

    def test_a_file_among_the_folders_of_objects(self, tmp_path):
        root = miniatures.make_sa_v(tmp_path)
        (root / "sav_val/Annotations_6fps/sav_001001/007").write_text("notes")
        assert set(open_videos("sa-v", root, "sav_val").clips[0].truth["00000"].files) == {1, 2}

    def test_pictures_that_differ_in_size(self, tmp_path):
        clip = open_videos("sa-v", miniatures.make_sa_v(tmp_path), "sav_val").clips[0]
        Image.new("1", (9, 9)).save(clip.truth["00000"].files[2])
        with pytest.raises(MediaError, match=r"000/00000.png and .*001/00000.png differ in size"):
            clip.read_truth("00000")

    def test_an_unknown_set(self, tmp_path):
        with pytest.raises(MediaError, match=r"has no set val: there are sav_test, sav_val\n(.|\n)*sav_val.tar"):
            open_videos("sa-v", miniatures.make_sa_v(tmp_path), "val")


class TestBurst:
    def test_masks_are_run_lengths_of_annotated_frames(self, tmp_path):
        dataset = open_videos("burst", miniatures.make_burst(tmp_path), "val")
        clip = dataset.clips[1]
        assert clip.name == "LaSOT-bird-2"
        assert clip.categories == {1: "person", 2: "bird"}
        frames = ["frame0001", "frame0003", "frame0005", "frame0007"]
        assert (list(clip.truth), clip.wanted) == (frames, set(frames))
        assert [object_ids(clip.read_truth(name)) for name in frames] == [(1,), (1, 2), (), (1, 2)]
        assert [object_ids(mask.read()) for mask in clip.prompts.values()] == [(1,), (2,)]
        np.testing.assert_array_equal(clip.read_truth("frame0003"), miniatures.ids(2, (1, 2)))

    def test_without_the_file_of_first_masks_objects_come_from_the_truth(self, tmp_path):
        clip = open_videos("burst", miniatures.make_burst(tmp_path), "train").clips[1]
        assert [object_ids(mask.read()) for mask in clip.prompts.values()] == [(1,), (1, 2), (1, 2)]

    def test_first_masks_alone_are_no_truth(self, tmp_path):
        root = miniatures.make_burst(tmp_path)
        (root / "annotations/val/all_classes.json").unlink()
        assert {each.name: each.has_truth for each in VIDEO_LAYOUTS["burst"].sets(root)} == {
            "train": True,
            "val": False,
        }
        assert len(open_videos("burst", root, "val")) == 2

    def test_results_take_the_form_of_the_annotations(self, tmp_path):
        root = miniatures.make_burst(tmp_path)
        dataset = open_videos("burst", root, "val")
        for clip in dataset:
            for name in clip.wanted:
                write_mask(tmp_path / "out" / clip.name / f"{name}.png", clip.read_truth(name))
        made = burst.predictions(dataset.submission.template, tmp_path / "out")
        given = json.loads((root / "annotations/val/all_classes.json").read_text())
        for own, true in zip(made["sequences"], given["sequences"], strict=True):
            for frame in true["segmentations"]:
                for about in frame.values():
                    del about["is_gt"]
            assert own == true

    @pytest.mark.parametrize(
        "text", ["{", "[]", '{"sequences": [{"annotated_image_paths": ["a.jpg"], "segmentations": []}]}']
    )
    def test_annotations_that_cannot_be_read(self, tmp_path, text):
        root = miniatures.make_burst(tmp_path)
        (root / "annotations/train/all_classes.json").write_text(text)
        with pytest.raises(MediaError, match=r"all_classes.json lacks the layout of BURST"):
            open_videos("burst", root, "train")

    @pytest.mark.parametrize(
        ("entry", "value"),
        [
            ("seq_name", None),
            ("height", "many"),
            ("segmentations", [{"1": 5}] * 4),
            ("segmentations", [{"one": {"rle": ""}}] * 4),
            ("annotated_image_paths", [3] * 4),
            ("track_category_ids", [1]),
        ],
    )
    def test_sequences_of_another_form(self, tmp_path, entry, value):
        root = miniatures.make_burst(tmp_path)
        file = root / "annotations/train/all_classes.json"
        whole = json.loads(file.read_text())
        whole["sequences"][0][entry] = value
        if value is None:
            del whole["sequences"][0][entry]
        file.write_text(json.dumps(whole))
        with pytest.raises(MediaError, match=r"annotations/train.* lacks the layout of BURST"):
            open_videos("burst", root, "train")

    def test_annotations_of_nothing(self, tmp_path):
        root = miniatures.make_burst(tmp_path)
        (root / "annotations/train/all_classes.json").write_text('{"sequences": []}')
        with pytest.raises(MediaError, match=r"all_classes.json names no clip"):
            open_videos("burst", root, "train")

    def test_ids_that_no_mask_file_holds(self, tmp_path):
        root = miniatures.make_burst(tmp_path)
        file = root / "annotations/train/all_classes.json"
        file.write_text(file.read_text().replace('"2": {"rle"', '"300": {"rle"'))
        with pytest.raises(MediaError, match="clips with an object whose id is 255 or more: YFCC100M-v_25685519b728"):
            open_videos("burst", root, "train")

    def test_run_lengths_that_are_damaged(self, tmp_path):
        root = miniatures.make_burst(tmp_path)
        file = root / "annotations/train/all_classes.json"
        whole = json.loads(file.read_text())
        whole["sequences"][0]["segmentations"][1]["2"]["rle"] = "52203203"
        file.write_text(json.dumps(whole))
        clip = open_videos("burst", root, "train").clips[0]
        with pytest.raises(MediaError, match=r"frame0003 of .*all_classes.json: run lengths must fill 64×48 pixels"):
            clip.read_truth("frame0003")
