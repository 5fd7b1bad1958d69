"""Meshes: a sample of the surface is even, on the surface, and the same for the same seed."""

from importlib.util import find_spec

import numpy as np
import pytest

from geojax.datasets.formats import read
from geojax.datasets.formats.meshes import mesh_points, sample_surface

# A box of 1 × 2 × 3, so that its three pairs of sides differ in area: 6, 3 and 2.
SIZES = np.array([1.0, 2.0, 3.0])
CORNERS = SIZES * np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
TRIANGLES = np.array([t for a, b, c, d in QUADS for t in ((a, b, c), (a, c, d))])


def off() -> bytes:
    rows = [" ".join(map(repr, corner)) for corner in CORNERS.tolist()]
    rows += [" ".join(map(str, (4, *quad))) for quad in QUADS]
    return ("OFF # a box\n8 6 0\n" + "\n".join(rows) + "\n").encode()


def obj() -> bytes:
    rows = ["v " + " ".join(map(repr, corner)) for corner in CORNERS.tolist()]
    rows += ["f " + " ".join(str(i + 1) for i in quad) for quad in QUADS]
    return ("mtllib none.mtl\n" + "\n".join(rows) + "\n").encode()


def stl() -> bytes:
    rows = np.zeros(12, [("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    rows["v"] = CORNERS[TRIANGLES]
    return bytes(80) + np.array(12, "<u4").tobytes() + rows.tobytes()


def ply() -> bytes:
    head = "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\n"
    head += "property float z\nelement face 6\nproperty list uchar int vertex_indices\nend_header\n"
    return head.encode() + off().partition(b"0\n")[2]


MAKERS = {"off": off, "obj": obj, "stl": stl, "ply": ply}
needs_trimesh = pytest.mark.skipif(
    find_spec("trimesh") is None, reason="trimesh is an extra of geojax"
)


@needs_trimesh
@pytest.mark.parametrize("head", ["OFF8 6 0", "OFF 8 6 0", "COFF\n8 6 0", "OFF8 6"])
def test_the_header_may_stand_before_the_counts(head):
    """As in ModelNet40, where the end of the line is missing in many files."""
    data = off().replace(b"OFF # a box\n8 6 0", head.encode())
    plain, found = (mesh_points(d, "off", "box") for d in (off(), data))
    for name in plain.fields.keys() | found.fields.keys():
        np.testing.assert_array_equal(found.fields[name], plain.fields[name])


def on_the_box(x: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Whether each point is on a side of the box whose outer normal it has."""
    axis = np.abs(normals).argmax(1)
    rows = np.arange(len(x))
    outer = np.where(normals[rows, axis] > 0, SIZES[axis], 0)
    inside = ((x >= -1e-12) & (x <= SIZES + 1e-12)).all(1)
    return inside & (np.abs(x[rows, axis] - outer) < 1e-12)


def test_a_sample_is_on_the_surface_and_even():
    x, normals, face = sample_surface(CORNERS, TRIANGLES, 60_000, 0)
    assert on_the_box(x, normals).all() and np.allclose(np.linalg.norm(normals, axis=1), 1)
    share = np.bincount(np.abs(normals).argmax(1)) / len(x)
    assert np.allclose(share, np.array([6, 3, 2]) / 11, atol=0.01)
    top = x[normals[:, 0] > 0.5][:, 1:] / SIZES[1:]  # even in a side: moments of the unit square
    assert np.allclose(top.mean(0), 1 / 2, atol=0.01)
    assert np.allclose(np.cov(top.T), np.eye(2) / 12, atol=0.003)
    assert (face < 12).all()


def test_faces_without_area_are_never_drawn():
    faces = np.concatenate([[[0, 0, 1]], TRIANGLES[:1], [[0, 1, 1]]])
    assert (sample_surface(CORNERS, faces, 100, 0)[2] == 1).all()


def test_the_seed_decides():
    draw = lambda seed: sample_surface(CORNERS, TRIANGLES, 20, seed)[0]
    assert np.array_equal(draw(3), draw(3)) and not np.array_equal(draw(3), draw(4))


def test_no_points_and_no_area_are_refused():
    with pytest.raises(ValueError, match="one point or more; got points=0"):
        sample_surface(CORNERS, TRIANGLES, 0, 0)
    with pytest.raises(ValueError, match="a surface has an area; 1 faces have none"):
        sample_surface(CORNERS, np.array([[0, 0, 1]]), 5, 0)


@needs_trimesh
@pytest.mark.parametrize("kind", MAKERS)
def test_all_kinds(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(MAKERS[kind]())
    (cloud,), report = read(path, points=500, seed=1)
    assert len(cloud) == 500 and on_the_box(cloud.positions, cloud.inputs["normals"]).all()
    assert "500 points on the surface of a mesh of" in report.notes[0]
    assert "12 faces, seed 1" in report.notes[0]
    again = read(path, points=500, seed=1).structures[0]
    assert np.array_equal(cloud.positions, again.positions)
    (corners,), report = read(path)
    assert sorted(corners.positions.tolist()) == sorted(CORNERS.tolist())
    assert report.notes[0].startswith("the 8 ")


@needs_trimesh
@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("off", off()[:-10], "8 corners and 6 faces; there are 13 rows|trimesh cannot read"),
        ("off", off().replace(b"8 6 0", b"8 7 0"), "7 faces; there are 14 rows"),
        ("off", off().replace(b"8 6 0", b"99999999999 6 0"), "99999999999 corners"),
        ("off", off().replace(b"8 6 0", b"eight"), "OFF is followed by its counts"),
        ("off", off().replace(b"4 0 1 3 2", b"4 0 1 3 8"), "trimesh cannot read this as off"),
        ("off", off().replace(b"0.0 0.0 0.0", b"0.0 0.0 zero"), "trimesh cannot read this as off"),
        ("off", b"FOO\n", "an OFF file begins with OFF; got 'FOO'"),
        ("off", off().replace(b"0.0 0.0 0.0", b"nan 0.0 0.0"), "corners of a mesh are finite"),
        ("stl", stl()[:-1], "trimesh cannot read this as stl|trimesh finds neither"),
        ("stl", bytes(80) + b"\xff" * 4, "trimesh cannot read this as stl|trimesh finds neither"),
        ("obj", obj().replace(b"f 1 2 4 3", b"f 1 2 4 9"), "trimesh cannot|names 8"),
        ("obj", b"# nothing\n", "trimesh finds neither|trimesh cannot read"),
        ("obj", b"v 0 0 0\nv 1 0 0\n", "trimesh finds neither"),
    ],
)
def test_damaged_meshes_are_refused(kind, data, message):
    with pytest.raises(ValueError, match=f"^a: .*({message})"):
        mesh_points(data, kind, "a", points=10)
