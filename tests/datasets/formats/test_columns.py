"""Rows of numbers with and without names, and arrays."""

import io

import numpy as np
import pytest

from geojax.datasets.formats.columns import (
    are_columns,
    npy_points,
    npz_points,
    number_rows,
    text_points,
    whole_numbers,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 3))
N = X / np.linalg.norm(X, axis=1, keepdims=True)


def text(*columns: np.ndarray, between: str = " ") -> str:
    rows = np.hstack([c.reshape(len(c), -1) for c in columns]).tolist()
    return "\n".join(between.join(map(repr, row)) for row in rows) + "\n"


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("start", "columns"),
    [
        ("0.1 2 3\n", True),
        ("# made by hand\n\n1,2,3,4\n", True),
        ("x,y,z,label\n1,2,3,4\n", True),
        ('"X";"Y";"Z"\n', True),
        ("nan nan nan 1\n", True),
        ("3\n\nO 0 0 0\n", False),
        ("O 0 0 0\n", False),
        ("1 2\n", False),
        ("a b c\n", False),
        ("", False),
    ],
)
def test_extended_xyz_is_told_from_columns(start, columns):
    assert are_columns(start) is columns


@pytest.mark.parametrize("between", [" ", "\t", ",", " , ", ";"])
def test_columns_with_names(between):
    head = between.join(["x", "y", "z", "nx", "ny", "nz", "ring"]) + "\n"
    data = "# a remark\n" + head + text(X, N, np.arange(5.0), between=between)
    points = text_points(data.encode(), "a.csv")
    assert list(points.fields) == ["x", "y", "z", "nx", "ny", "nz", "ring"]
    assert np.array_equal(np.stack([points.fields[k] for k in "xyz"], 1), X)
    assert points.lines == [3, 4, 5, 6, 7] and points.note == "columns by their names"


def test_names_in_a_comment_are_used_if_they_fit():
    assert "ring" in text_points(("//X Y Z ring\n" + text(X, X[:, 0])).encode(), "a").fields
    assert "column_4" in text_points(("# by me\n" + text(X, X[:, 0])).encode(), "a").fields


@pytest.mark.parametrize(
    ("columns", "names", "note"),
    [
        ((X,), "x y z", "1-3 positions"),
        ((X, N), "x y z nx ny nz", "1-3 positions, 4-6 normals"),
        (
            (X, np.arange(15.0).reshape(5, 3), N, X[:, 0]),
            "x y z r g b nx ny nz column_10",
            "1-3 positions, 4-6 colors, 7-9 normals, 10 column_10",
        ),
        (
            (X, 3 * N, X[:, 0]),
            "x y z column_4 column_5 column_6 column_7",
            "1-3 positions, 4 column_4, 5 column_5, 6 column_6, 7 column_7",
        ),
    ],
)
def test_columns_without_names_are_read_by_their_place(columns, names, note):
    points = text_points(text(*columns).encode(), "a.xyz")
    assert " ".join(points.fields) == names
    assert points.note == f"columns by their place: {note}"
    rows = np.hstack([c.reshape(5, -1) for c in columns])
    assert np.array_equal(np.stack(list(points.fields.values()), 1), rows)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("1 2 3\n\n4 5\n", r"a:3: every point has 3 numbers; got 2: '4 5'"),
        ("1 2 3\n4 5 6 7\n", r"a:2: every point has 3 numbers; got 4"),
        ("1,2,3\n4,,6\n", r"a:2: points are numbers; got '' in column 2"),
        ("1 2 3\n4 5 x\n", r"a:2: points are numbers; got 'x' in column 3"),
        ("1.0 2.0 3.0D+00\n", r"a:1: points are numbers; got '3.0D\+00' in column 3; write"),
        ("x y z\n", r"a: a cloud has one point or more; the file has only names"),
        ("x,y,z\n1,2\n", r"a:2: every point has 3 numbers; got 2"),
        ("x,y,x\n1,2,3\n", r"a: a column is there once; got x, y, x"),
        ("1 2\n3 4\n", r"a: a point has three coordinates; rows have 2"),
        ("# nothing\n\n", r"a: a cloud has one point or more; the file has no rows"),
        ("1;2,5;3\n", r"a:1: points are numbers; got '2,5' in column 2; write a decimal point"),
    ],
)
def test_bad_rows_are_refused_with_their_line(data, message):
    with pytest.raises(ValueError, match=message):
        text_points(data.encode(), "a")


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(ValueError, match="a: this kind of file is text; .*damaged"):
        text_points(b"1 2 3\n\xff\xfe\x00", "a")


def test_a_table_of_no_rows_is_empty():
    assert number_rows([], [], "a", width=4).shape == (0, 4)


def test_whole_numbers_stay_whole():
    assert whole_numbers(np.array([0.0, 255]), "u1", "red", [1, 2], "a").dtype == np.uint8
    for wrong in (256.0, -1.0, 0.5, np.nan):
        with pytest.raises(
            ValueError, match=f"a:7: red is a whole number from 0 to 255; got {wrong}"
        ):
            whole_numbers(np.array([0, wrong]), "u1", "red", [6, 7], "a")


def test_an_array_is_one_cloud_or_many():
    (one,) = npy_points(npy(np.hstack([X, N]).astype(np.float32)), "a.npy")
    assert list(one.fields) == ["x", "y", "z", "nx", "ny", "nz"]
    many = list(npy_points(npy(np.stack([X, X + 1])), "a.npy"))
    assert len(many) == 2 and np.array_equal(many[1].fields["z"], X[:, 2] + 1)


def test_a_table_of_records_has_names():
    table = np.zeros(4, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("t", "f8")])
    (points,) = npy_points(npy(table), "a.npy")
    assert list(points.fields) == ["x", "y", "z", "t"]


def test_named_arrays_of_one_cloud():
    data = npz(points=X, normals=N, label=np.arange(5), scale=np.array(2.0), ids=np.zeros(7))
    (points,) = npz_points(data, "a.npz")
    assert points.fields.keys() == {"points", "normals", "label"}
    assert points.values == {"scale": 2.0} and points.unused == (("ids", "array", ""),)


def test_named_arrays_of_many_clouds():
    data = npz(xyz=np.stack([X, X + 1]), label=np.array([3, 4]), t=np.zeros((2, 5)))
    first, second = npz_points(data, "a.npz")
    assert np.array_equal(second.fields["xyz"], X + 1) and second.fields["t"].shape == (5,)
    assert (first.values, second.values) == ({"label": 3}, {"label": 4})


def test_headers_that_promise_too_much_are_refused():
    """A shape of a petabyte in a file of some bytes asks for no memory."""
    whole = npy(np.zeros((10**3, 3)))
    huge = whole.replace(b"(1000, 3), }" + b" " * 12, b"(1000000000000, 3), }   ")
    assert len(huge) == len(whole)
    with pytest.raises(ValueError, match="the header says 24000000000000 bytes.*; there are 24000"):
        next(npy_points(huge, "a.npy"))
    with pytest.raises(ValueError, match="the header says 24000 bytes"):
        next(npy_points(whole[:-8], "a.npy"))
    stream = io.BytesIO()
    np.savez(stream, points=np.zeros((10**3, 3)))
    with pytest.raises(
        ValueError, match="a.npz: points.npy: .* the header says 24000000000000 bytes"
    ):
        next(npz_points(stream.getvalue().replace(whole[:128], huge[:128]), "a.npz"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(np.zeros((4, 2))), r"\[node, 3 or more\].*; got shape \[4, 2\]"),
        (npy(np.zeros(4)), r"got shape \[4\]"),
        (npy(np.array([[1, 2, 3]], object)), "pickled objects"),
        (b"not an array", "no array file"),
    ],
)
def test_other_arrays_are_refused(data, message):
    with pytest.raises(ValueError, match=f"^a.npy: .*{message}"):
        next(npy_points(data, "a.npy"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npz(points=X[:, :2]), r"called points or .*; there are: points \[5, 2\]"),
        (npz(cloud=X), r"there are: cloud \[5, 3\]"),
        (b"PK no", "no npz file"),
    ],
)
def test_other_archives_are_refused(data, message):
    with pytest.raises(ValueError, match=f"^a.npz: .*{message}"):
        next(npz_points(data, "a.npz"))
