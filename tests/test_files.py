"""Files are written whole or not at all."""

import os

import pytest

from geojax.files import replacing, write_whole


def test_all_are_replaced_and_nothing_else_stays(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    write_whole({tmp_path / "a": b"new", tmp_path / "b": b""})
    assert (tmp_path / "a").read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_full_disk_leaves_all_as_they_were(tmp_path, monkeypatch):
    """The second of two cannot be written: the first is not replaced either."""
    write_whole({tmp_path / "a": b"old", tmp_path / "b": b"old"})
    sync, calls = os.fsync, []

    def full(number):
        calls.append(number)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        sync(number)

    monkeypatch.setattr(os, "fsync", full)
    pattern = "b cannot be written .No space left on device.; what was there before is untouched; m"
    with pytest.raises(OSError, match=pattern) as failure:
        write_whole({tmp_path / "a": b"new", tmp_path / "b": b"new"})
    assert failure.value.errno == 28
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    assert {p.read_bytes() for p in tmp_path.iterdir()} == {b"old"}


def test_the_place_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none/a cannot be written"):
        write_whole({tmp_path / "none" / "a": b""})


def test_a_file_appears_where_the_block_ends(tmp_path):
    path = tmp_path / "a"
    with replacing(path) as (place,):
        place.write_bytes(b"old")
        assert not path.exists()
    with pytest.raises(RuntimeError, match="stopped"), replacing(path) as (place,):
        place.write_bytes(b"half")
        raise RuntimeError("stopped")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}


def test_a_full_disk_is_told_and_other_errors_stay(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(OSError, match="a cannot be written .No space left"), replacing(path):
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError, match="other"), replacing(path):
        (tmp_path / "other").read_bytes()
    assert not list(tmp_path.iterdir())
