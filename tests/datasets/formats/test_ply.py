"""PLY against files written by hand and by trimesh."""

import io

import numpy as np
import pytest

from geojax.datasets.formats import read, write
from geojax.datasets.formats.ply import count_faces, ply_bytes, ply_points
from geojax.graphs import Properties, Structure

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3))

ASCII = """ply
format ascii 1.0
comment by hand
element vertex 3
property float x
property double y
property float z
property uchar red
property uchar green
property uchar blue
element face 1
property list uchar int vertex_indices
end_header
0 0.1 0 255 0 0
1 0.2 0 0 255 0

0 0.3 1 0 0 51
3 0 1 2
"""


def table(order: str) -> np.ndarray:
    rows = np.zeros(4, [(n, order + "f4") for n in "xyz"] + [("label", order + "i2")])
    rows["x"], rows["label"] = np.arange(4), [3, -2, 1, 300]
    return rows


def binary(
    order: str, rows: np.ndarray, count: int = 4, before: str = "", after: str = ""
) -> bytes:
    endian = {"<": "little", ">": "big"}[order]
    head = f"ply\nformat binary_{endian}_endian 1.0\n{before}element vertex {count}\n"
    head += "property float x\nproperty float y\nproperty float z\nproperty short label\n"
    return f"{head}{after}end_header\n".encode() + rows.tobytes()


def test_text_by_hand(tmp_path):
    (tmp_path / "a.ply").write_text(ASCII)
    (cloud,), report = read(tmp_path / "a.ply")
    assert np.allclose(cloud.positions, [[0, 0.1, 0], [1, 0.2, 0], [0, 0.3, 1]], atol=0)
    assert np.array_equal(cloud.inputs["colors"], [[1, 0, 0], [0, 1, 0], [0, 0, 0.2]])
    assert report.used == {"inputs.colors": 1} and report.ignored == ("face",)
    assert report.notes == ("the 3 vertices of a mesh of 1 faces",)
    assert count_faces(ASCII.encode(), "a.ply") == 1
    assert ply_points(ASCII.replace("\n", "\r\n").encode(), "a").fields["y"].tolist() == [
        0.1,
        0.2,
        0.3,
    ]


@pytest.mark.parametrize("order", "<>")
def test_binary_of_both_byte_orders(order):
    points = ply_points(binary(order, table(order)), "a.ply")
    assert points.fields["label"].tolist() == [3, -2, 1, 300]
    assert points.fields["x"].tolist() == [0, 1, 2, 3]


def test_elements_before_the_vertices_are_passed_over():
    before = "element camera 2\nproperty double fov\n"
    rows = np.zeros(2).tobytes() + table("<").tobytes()
    data = binary("<", np.frombuffer(rows, np.uint8), before=before)
    assert ply_points(data, "a").fields["x"].tolist() == [0, 1, 2, 3]


def test_a_cloud_comes_back_bit_for_bit(tmp_path):
    cloud = Structure(
        X,
        np.zeros(6, int),
        inputs={
            "normals": X / 3,
            "colors": RNG.integers(0, 256, (6, 3)) / 255,
            "intensity": RNG.random(6),
            "moment": RNG.normal(size=(6, 5)),
        },
        properties=Properties(node_targets={"label": np.arange(6)}),
    )
    write(tmp_path / "a.ply", [cloud])
    (found,), report = read(tmp_path / "a.ply", keys={"node_targets.label": "label"})
    assert np.array_equal(found.positions, X) and found.inputs.keys() == cloud.inputs.keys()
    for name, value in cloud.inputs.items():
        assert np.array_equal(found.inputs[name], value), name
    label = found.properties.node_targets["label"]
    assert np.array_equal(label, np.arange(6)) and label.dtype.kind == "i"
    assert b"property int label" in ply_bytes(cloud)
    assert "node_targets.label" in report.used
    assert b"property uchar red" in ply_bytes(cloud)
    shade = cloud.replace(inputs={"colors": RNG.random((6, 3))})
    write(tmp_path / "a.ply", [shade])  # no 255ths: written in full
    assert np.array_equal(read(tmp_path / "a.ply")[0][0].inputs["colors"], shade.inputs["colors"])


@pytest.mark.parametrize("encoding", ["binary", "ascii"])
def test_files_of_trimesh_are_read(tmp_path, encoding):
    trimesh = pytest.importorskip("trimesh", reason="trimesh is an extra of geojax")
    mesh = trimesh.creation.icosphere(1)
    mesh.visual.vertex_colors = RNG.integers(0, 256, (len(mesh.vertices), 4)).astype(np.uint8)
    (tmp_path / "a.ply").write_bytes(
        trimesh.exchange.ply.export_ply(mesh, encoding=encoding, vertex_normal=True)
    )
    (cloud,), _ = read(tmp_path / "a.ply")
    assert np.allclose(cloud.positions, mesh.vertices, atol=1e-7)
    assert np.allclose(cloud.inputs["normals"], mesh.vertex_normals, atol=1e-6)
    assert np.array_equal(cloud.inputs["colors"], mesh.visual.vertex_colors[:, :3] / 255)


def test_trimesh_reads_what_is_written():
    trimesh = pytest.importorskip("trimesh", reason="trimesh is an extra of geojax")
    colors = RNG.integers(0, 256, (6, 3))
    cloud = Structure(X, np.zeros(6, int), inputs={"colors": colors / 255, "t": X[:, 0]})
    found = trimesh.load(io.BytesIO(ply_bytes(cloud)), file_type="ply")
    assert np.array_equal(found.vertices, X)
    assert np.array_equal(np.asarray(found.colors)[:, :3], colors)


def edited(old: str, new: str) -> bytes:
    assert old in ASCII
    return ASCII.replace(old, new).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (edited("ply\n", "pyl\n"), "a: a PLY file begins with ply"),
        (edited("end_header\n", ""), "a: a PLY file begins with ply and a header up to end_header"),
        (edited("format ascii 1.0\n", ""), "a: a PLY header names its format"),
        (edited("ascii", "text"), "a:2: a PLY header has lines"),
        (edited("property float z", "property real z"), "a:7: .*got 'property real z'"),
        (edited("property float z", "property float x"), "a:7: .* no name twice"),
        (edited("vertex 3", "vertex many"), "a:4: .*got 'element vertex many'"),
        (edited("vertex 3", "vertex 4"), "rows that its header promises, 5; there are 4"),
        (edited("vertex 3", "vertex 999999999999"), "promises, 1000000000000; there are 4"),
        (edited("0 0.1 0 255 0 0\n", "0 0.1 0 255 0\n"), "a:14: every point has 6 numbers; got 5"),
        (edited("0 0.1 0 255 0 0\n", "0 0.1 0 256 0 0\n"), "a:14: red is a whole number from 0"),
        (edited("1 0.2", "1 nought"), "a:15: points are numbers; got 'nought' in column 2"),
        (edited("element vertex", "element corner"), "points are the element vertex; there are: "),
        (edited("property float z", "property list uchar int z"), "a vertex is made of numbers"),
    ],
)
def test_damaged_text_is_refused_with_its_line(data, message):
    with pytest.raises(ValueError, match=message):
        ply_points(data, "a")


FACES = "element face 2\nproperty list uchar int vertex_indices\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (binary("<", table("<"))[:-1], "4 vertices and what follows take 56 bytes; there are 55"),
        (binary("<", table("<")) + b"0", "take 56 bytes; there are 57"),
        (binary("<", table("<"), 10**12), "take 14000000000000 bytes; there are 56"),
        (binary("<", table("<"), after=FACES), "take 58 bytes; there are 56"),
        (binary("<", table("<"), before=FACES), "elements with lists come after the vertices"),
    ],
)
def test_damaged_binary_is_refused(data, message):
    with pytest.raises(ValueError, match=f"^a: .*{message}"):
        ply_points(data, "a")


def test_nan_is_counted(tmp_path):
    rows = table("<")
    rows["y"][1:] = np.nan
    (tmp_path / "a.ply").write_bytes(binary("<", rows))
    with pytest.raises(ValueError, match="a.ply: points are finite; 3 of 4 have NaN"):
        read(tmp_path / "a.ply")
    (cloud,), report = read(tmp_path / "a.ply", skip_bad=True)
    assert len(cloud) == 1 and "3 of 4 points" in report.notes[1]


def test_names_of_properties_are_words():
    odd = Structure(X, np.zeros(6, int), inputs={"two words": X[:, 0]})
    with pytest.raises(ValueError, match="one word; got 'two words'"):
        ply_bytes(odd)
    double = Structure(
        X, np.zeros(6, int), inputs={"a": X}, properties=Properties(node_targets={"a": X})
    )
    with pytest.raises(ValueError, match="different names"):
        ply_bytes(double)
