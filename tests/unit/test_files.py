"""Files that are whole or absent, and errors that name them."""

import os

import pytest
from grokphase import files
from grokphase.errors import GrokphaseError


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_old_file_stays_where_writing_fails(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half of the n")
        raise error

    with pytest.raises(error), files.replaced(path) as temporary:
        fail(temporary)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_is_on_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """A power cut must not leave a renamed file without its content."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append((tmp_path / "file").exists()))
    with files.replaced(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert synced
    assert synced[0] is False


def test_a_reader_of_the_old_file_keeps_the_old_file(tmp_path):
    """The file is replaced as a whole, never rewritten in place."""
    (tmp_path / "file").write_text("old")
    with (tmp_path / "file").open() as reader:
        with files.replaced(tmp_path / "file") as temporary:
            temporary.write_text("new and longer")
        assert reader.read() == "old"
    assert (tmp_path / "file").read_text() == "new and longer"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    path = tmp_path / "file" / "table.parquet"
    with (
        pytest.raises(GrokphaseError, match=r"cannot write .*table\.parquet"),
        files.replaced(path),
    ):
        pass


def test_digest_depends_on_values_alone():
    assert files.digest({"a": 1, "b": 2}) == files.digest({"b": 2, "a": 1})
    assert files.digest({"a": 1}) != files.digest({"a": 2})
