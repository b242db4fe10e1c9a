"""Files are whole or not there."""

import pytest

from stm_fast.media.files import atomic_path, write_text


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
