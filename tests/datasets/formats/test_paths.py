"""Paths, patterns and several of either."""

from pathlib import Path

import pytest

from geojax.datasets.formats.paths import File, called, files_of, is_pattern


def shelf(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


def test_a_pattern_finds_files_in_order_and_says_what_its_first_wildcard_is(tmp_path):
    place = shelf(tmp_path, "sofa/train/b.off", "bed/train/a.off", "bed/test/c.off", "bed/x.txt")
    found = files_of(place / "*" / "train" / "*.off")
    assert found == [
        File(place / "bed/train/a.off", "bed"),
        File(place / "sofa/train/b.off", "sofa"),
    ]
    assert [file.wildcard for file in files_of(str(place / "**" / "*.off"))] == [""] * 3
    assert called(place / "*.off") == str(place / "*.off") and called(place / "a.off") == "a.off"


def test_a_wildcard_inside_a_name(tmp_path):
    place = shelf(tmp_path, "run-300K-1.xyz", "run-600K-1.xyz", "run-600K-2.xyz")
    assert [f.wildcard for f in files_of(place / "run-*K-?.xyz")] == ["300", "600", "600"]
    assert [f.wildcard for f in files_of(place / "run-[36]00K-1.xyz")] == ["3", "6"]


def test_several_paths_keep_their_order(tmp_path):
    place = shelf(tmp_path, "a.xyz", "b.xyz", "c.xyz")
    found = files_of([place / "c.xyz", place / "[ab].xyz"])
    assert [file.path.name for file in found] == ["c.xyz", "a.xyz", "b.xyz"]
    assert called([place / "c.xyz", place / "a.xyz"]) == "c.xyz and 1 more"
    with pytest.raises(ValueError, match=r"a file is read once.*a\.xyz"):
        files_of([place / "a.xyz", place / "*.xyz"])
    with pytest.raises(ValueError, match="empty list"):
        files_of([])


def test_a_file_with_brackets_in_its_name_is_meant_itself(tmp_path):
    place = shelf(tmp_path, "a[1].xyz", "a1.xyz")
    assert is_pattern("a[1].xyz")
    assert files_of(place / "a[1].xyz") == [File(place / "a[1].xyz")]


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.xyz", "check the path"), ("*.none", "none matches"), (".", "name its files")],
)
def test_what_is_not_there(tmp_path, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        files_of(tmp_path / name)
