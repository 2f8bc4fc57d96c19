"""Writing files whole or not at all, and errors that name the file."""

import pytest

from mlpapers.core._files import atomic_write, check_writable, naming, write_text


def test_old_file_stays_where_writing_fails(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")

    def fail():
        with atomic_write(path) as file:
            file.write(b"new")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        fail()
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_error_names_the_file_and_not_the_temporary_one(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "nowhere" / "a.txt", "new")
    assert caught.value.filename == str(tmp_path / "nowhere" / "a.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path / "folder", "new")
    assert caught.value.filename == str(tmp_path / "folder")


def test_other_errors_keep_their_names():
    with pytest.raises(OSError, match="elsewhere") as caught, naming("here"):
        raise OSError(2, "No such file", "elsewhere")
    assert caught.value.filename == "elsewhere"
    with pytest.raises(OSError, match="ours") as caught, naming("here"):
        raise OSError("ours")
    assert caught.value.filename is None


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    path = write_text(tmp_path / "a", "")
    (tmp_path / "b").touch()
    assert path.stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_place_that_cannot_be_written_shows_before_the_work(tmp_path):
    check_writable(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    for path, kind in ((tmp_path, IsADirectoryError), (tmp_path / "nowhere" / "a", FileNotFoundError)):
        with pytest.raises(kind) as caught:
            check_writable(path)
        assert caught.value.filename == str(path)
