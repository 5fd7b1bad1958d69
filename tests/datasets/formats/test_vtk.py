"""Legacy VTK, text and binary, with the sections that writers put around the points."""

import numpy as np
import pytest

from geojax.datasets.formats import read
from geojax.datasets.formats.vtk import vtk_points

X = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
N = np.array([[0, 0, 1.0], [0, 1, 0], [1, 0, 0]], np.float32)
ASCII = """# vtk DataFile Version 3.0
by hand
ASCII
DATASET POLYDATA
POINTS 3 float
0 0 0  1 0 0
0 2 0
POLYGONS 1 4
3 0 1 2
CELL_DATA 1
SCALARS area double
LOOKUP_TABLE default
1.0
POINT_DATA 3
SCALARS intensity float 1
LOOKUP_TABLE default
0.5 1.5 2.5
NORMALS n float
0 0 1 0 1 0 1 0 0
COLOR_SCALARS paint 4
1 0 0 1
0 1 0 1
0 0 1 0.5
FIELD more 2
ring 1 3 int
4 5 6
flow 2 3 double
1 2 3 4 5 6
"""


def binary(modern: bool = True) -> bytes:
    big = lambda values, code: np.asarray(values).astype(">" + code).tobytes() + b"\n"
    old = b"VERTICES 1 4\n" + big([3, 0, 1, 2], "i4") + b"CELL_TYPES 1\n" + big([1], "i4")
    new = b"VERTICES 2 3\nOFFSETS vtktypeint64\n" + big([0, 3], "i8")
    new += b"CONNECTIVITY vtktypeint64\n" + big([0, 1, 2], "i8")
    return (
        b"# vtk DataFile Version 5.1\ntitle\nBINARY\nDATASET POLYDATA\nPOINTS 3 float\n"
        + big(X, "f4")
        + (new if modern else old)
        + b"POINT_DATA 3\nMETADATA\nINFORMATION 0\n\nSCALARS t unsigned_char\nLOOKUP_TABLE own\n"
        + big([1, 2, 255], "u1")
        + b"LOOKUP_TABLE own 2\n"
        + bytes(8)
        + b"\nVECTORS v double\n"
        + big(N, "f8")
    )


def test_text_with_all_around(tmp_path):
    (tmp_path / "a.vtk").write_text(ASCII)
    (cloud,), report = read(tmp_path / "a.vtk")
    assert cloud.positions.tolist() == [[0, 0, 0], [1, 0, 0], [0, 2, 0]]
    assert cloud.inputs["intensity"].tolist() == [0.5, 1.5, 2.5]
    assert np.array_equal(cloud.inputs["normals"], N)
    assert np.array_equal(cloud.inputs["colors"], np.eye(3))
    assert cloud.inputs["ring"].tolist() == [4, 5, 6]
    assert cloud.inputs["flow"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert set(report.ignored) == {"POLYGONS", "area"} and report.notes == ("the section POINTS",)


@pytest.mark.parametrize("modern", [False, True])
def test_binary(modern):
    points = vtk_points(binary(modern), "a")
    assert np.array_equal(np.stack([points.fields[k] for k in "xyz"], 1), X.astype(float))
    assert points.fields["t"].tolist() == [1, 2, 255] and np.array_equal(points.fields["v"], N)


def test_point_data_may_be_empty():
    text = ASCII[: ASCII.index("SCALARS intensity")]
    assert list(vtk_points(text.encode(), "a").fields) == ["x", "y", "z"]


def edited(old: str, new: str) -> bytes:
    assert old in ASCII
    return ASCII.replace(old, new).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<VTKFile>\n", "a: a legacy VTK file begins with .*XML formats of VTK are not read"),
        (ASCII[: ASCII.index("POINTS")].encode(), "a cloud is in the section POINTS"),
        (edited("POINTS 3 float", "DIMENSIONS 1 1 1"), "POINT_DATA are of the points before it"),
        (edited("POINTS 3 float", "POINTS three float"), "a:5: POINTS is followed by counts"),
        (edited("POINTS 3 float", "POINTS 3 real"), "a:5: POINTS are of one of the types"),
        (edited("POINTS 3 float", "POINTS 99999999999 float"), "POINTS are 299999999997 numbers"),
        (edited("0 2 0", "0 two 0"), "points are numbers; got 'two'"),
        (edited("POINT_DATA 3", "POINT_DATA 4"), "POINT_DATA are of the points before it"),
        (edited("NORMALS n float", "NORMAL n float"), "a:18: point data are SCALARS"),
        (edited("ring 1 3 int", "ring int 1 3"), "an array of FIELD is NAME COMPONENTS TUPLES"),
        (ASCII[:-6].encode(), "flow are 6 numbers; there are 3|flow are 6 numbers; the file ends"),
        (binary()[:-10], "v are 9 numbers; the file ends before; it is cut off"),
    ],
)
def test_damaged_files_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        vtk_points(data, "a")
