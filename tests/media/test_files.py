"""Files and folders are whole or not there."""

import pytest

from stm_fast.media import files
from stm_fast.media.files import atomic_folder, atomic_path, discard_partial, write_text


def fail_halfway(path, error):
    with atomic_path(path) as partial:
        partial.write_text("half of the n")
        raise error


def test_file_appears_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "deeper" / "file.txt"
    with atomic_path(path) as partial:
        partial.write_text("new")
        assert partial.suffix == ".txt"
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_old_file_stays_when_the_block_fails(tmp_path, error):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(error):
        fail_halfway(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftover_of_a_killed_process_is_taken_over(tmp_path):
    path = tmp_path / "file.txt"
    with atomic_path(path) as partial:
        partial.write_text("x")
    partial.write_text("left by a killed process")
    write_text(path, "new")
    assert list(tmp_path.iterdir()) == [path]


def write_folder(path, name, error=None):
    with atomic_folder(path) as partial:
        assert not list(partial.iterdir())
        (partial / name).write_text(name)
        if error:
            raise error


def test_folder_appears_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "deeper" / "folder"
    for name in ("old", "new"):
        write_folder(path, name)
        assert [each.name for each in path.iterdir()] == [name]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_old_folder_stays_when_the_block_fails(tmp_path, error):
    write_folder(tmp_path / "folder", "old")
    with pytest.raises(error):
        write_folder(tmp_path / "folder", "new", error)
    assert [each.name for each in (tmp_path / "folder").iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    write_folder(path, "old")
    rename = files.Path.rename

    def refuse(self, target):
        if ".part" in self.name:
            raise OSError("refused")
        return rename(self, target)

    monkeypatch.setattr(files.Path, "rename", refuse)
    with pytest.raises(OSError, match="refused"):
        write_folder(path, "new")
    assert [each.name for each in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_leftover_folder_of_a_killed_process_is_replaced(tmp_path):
    path = tmp_path / "folder"
    with atomic_folder(path) as partial:
        pass
    path.rename(tmp_path / ".folder.old")
    partial.mkdir()
    (partial / "left").write_text("by a killed process")
    with pytest.raises(OSError):  # noqa: PT011 - raised below
        write_folder(path, "new", OSError())
    assert list(tmp_path.iterdir()) == [path]
    partial.mkdir()
    write_folder(path, "new")
    assert [each.name for each in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_only_temporary_files_are_discarded(tmp_path):
    for name in ("000.png", ".000.part.png", ".hidden.png", "a.part.png"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.part").mkdir()
    discard_partial(tmp_path)
    discard_partial(tmp_path / "nowhere")
    assert {path.name for path in tmp_path.iterdir()} == {"000.png", ".hidden.png", "a.part.png", ".folder.part"}
