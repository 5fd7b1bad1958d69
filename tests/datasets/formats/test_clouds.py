"""Which files are clouds, and how they go through `read` and `write`."""

import gzip
import re
import subprocess
import sys

import numpy as np
import pytest

from geojax.datasets.formats import read, write
from geojax.datasets.formats.clouds import CLOUDS, is_cloud
from geojax.graphs import Structure

X = np.random.default_rng(0).normal(size=(4, 3))
PLAIN = "".join(f"{a} {b} {c}\n" for a, b, c in X.tolist())
ATOMS = "2\n\nO 0 0 0\nH 0 0 1\n"


def test_xyz_is_told_by_its_content_and_the_report_says_so(tmp_path):
    (tmp_path / "points.xyz").write_text(PLAIN)
    (cloud,), report = read(tmp_path / "points.xyz")
    assert np.array_equal(cloud.positions, X) and not cloud.species.any()
    assert report.notes == ("columns by their place: 1-3 positions",)
    (tmp_path / "atoms.xyz").write_text(ATOMS)
    (atoms,), report = read(tmp_path / "atoms.xyz")
    assert atoms.species.tolist() == [8, 1] and report.notes == ()
    with gzip.open(tmp_path / "points.xyz.gz", "wt") as stream:
        stream.write(PLAIN)
    assert np.array_equal(read(tmp_path / "points.xyz.gz")[0][0].positions, X)


def test_npz_is_told_by_its_content(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, points=np.stack([X, X + 1]), label=np.array([3, 4]))
    clouds, report = read(path, keys={"targets.label": "label"})
    assert [int(c.properties.targets["label"]) for c in clouds] == [3, 4]
    assert clouds[1].info["origin"] == f"{path}: cloud 1"
    assert report.notes == ("named arrays of 2 clouds",)
    np.savez(path, positions=X, z=np.ones(4, int))
    assert not is_cloud(path, {})
    np.savez(path, coords=X[None], energies=np.zeros(1))  # atoms whose species are missing
    with pytest.raises(ValueError, match="species are read from z or"):
        read(path)
    np.savez(path, points=X, kind=np.ones(4, int))
    assert is_cloud(path, {}) and not is_cloud(path, {"species": "kind"})


@pytest.mark.parametrize("name", ["a.csv.gz", "a.TXT", "a.asc"])
def test_other_names_of_text(tmp_path, name):
    data = PLAIN.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert np.array_equal(read(tmp_path / name).structures[0].positions, X)


def test_fields_become_labels_or_inputs_of_other_names(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,z,class,i\n0,0,0,2,0.5\n1,0,0,3,0.25\n")
    keys = {"node_targets.label": "class"}
    (cloud,), report = read(tmp_path / "a.csv", keys=keys, inputs={"intensity": "i"})
    assert cloud.properties.node_targets["label"].tolist() == [2, 3]
    assert cloud.inputs.keys() == {"intensity"}
    assert cloud.properties.node_targets["label"].dtype.kind == "i"
    whole = read(tmp_path / "a.csv")[0][0].inputs["class"]
    assert whole.dtype == np.float64, "an input is a real number"
    (tmp_path / "b.txt").write_text("0 0 0 2.0\n1 0 0 1.0\n")
    keys = {"node_targets.label": "column_4"}
    assert read(tmp_path / "b.txt", keys=keys)[0][0].properties.node_targets["label"].dtype == float
    (cloud,), _ = read(tmp_path / "b.txt", keys=keys, classes=("a", "b", "c"))
    assert cloud.properties.node_targets["label"].tolist() == [2, 1]
    (tmp_path / "c.txt").write_text("0 0 0 2\n1 0 0 1\n")
    (cloud,), _ = read(tmp_path / "c.txt", keys=keys)
    assert cloud.properties.node_targets["label"].dtype.kind == "i"
    keys = {"node_targets.label": "class"}
    assert report.used == {"node_targets.label": 1, "inputs.intensity": 1}
    with pytest.raises(ValueError, match="'clas' .* no frame has it; did you mean 'class'"):
        read(tmp_path / "a.csv", keys={"node_targets.label": "clas"})


@pytest.mark.parametrize("suffix", sorted(CLOUDS))
@pytest.mark.parametrize("data", [b"", b" \n\n"])
def test_empty_files_are_refused(tmp_path, suffix, data):
    (tmp_path / f"a{suffix}").write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\{suffix}: a cloud has one point or more.*is empty"):
        read(tmp_path / f"a{suffix}")


def test_clouds_are_scaled_into_a_ball(tmp_path):
    place = np.random.default_rng(0).normal(size=(50, 3)) * 7 + 100
    np.savetxt(tmp_path / "a.csv", place, header="x,y,z", delimiter=",", comments="")
    (found,), report = read(tmp_path / "a.csv", unit_ball=True)
    centred = place - place.mean(0)
    assert np.allclose(found.positions, centred / np.linalg.norm(centred, axis=1).max())
    assert any("radius 1" in note for note in report.notes)
    (tmp_path / "b.csv").write_text("x,y,z\n3,4,5\n3,4,5\n")
    assert not read(tmp_path / "b.csv", unit_ball=True)[0][0].positions.any()
    (tmp_path / "c.xyz").write_text("1\nargon\nAr 0 0 0\n")
    with pytest.raises(ValueError, match="this file is of atoms; .* unit_ball=True"):
        read(tmp_path / "c.xyz", unit_ball=True)


def test_what_clouds_do_not_have_is_refused(tmp_path):
    (tmp_path / "a.xyz").write_text(PLAIN)
    with pytest.raises(ValueError, match="a cloud keeps its own unit of length; got units="):
        read(tmp_path / "a.xyz", units={"positions": "nm"})
    with pytest.raises(ValueError, match="sampled on the faces of a mesh; this file has none"):
        read(tmp_path / "a.xyz", points=5)
    (tmp_path / "b.xyz").write_text(ATOMS)
    with pytest.raises(ValueError, match="sampled on a mesh, .* of atoms; got points=5"):
        read(tmp_path / "b.xyz", points=5)


def test_gzip_that_is_none_and_gzip_without_end_are_refused(tmp_path, monkeypatch):
    (tmp_path / "a.csv.gz").write_text(PLAIN)
    with pytest.raises(ValueError, match=r"a.csv.gz: the end of the name says gzip"):
        read(tmp_path / "a.csv.gz")
    monkeypatch.setattr("geojax.datasets.formats.columns.MOST_BYTES", 1000)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(bytes(2000)))
    with pytest.raises(ValueError, match="GiB are packed in it"):
        read(tmp_path / "a.csv.gz")


def test_arrays_come_back_bit_for_bit(tmp_path):
    cloud = Structure(X, np.zeros(4, int))
    write(tmp_path / "a.npy", [cloud])
    assert np.array_equal(read(tmp_path / "a.npy").structures[0].positions, X)
    normals = X / np.linalg.norm(X, axis=1, keepdims=True)
    write(tmp_path / "a.npy", [cloud.replace(inputs={"normals": normals})])
    (found,), report = read(tmp_path / "a.npy")
    assert np.array_equal(found.inputs["normals"], normals)
    assert report.notes == ("columns by their place: 1-3 positions, 4-6 normals",)


def test_what_a_file_of_points_cannot_hold_is_refused(tmp_path):
    cloud = Structure(X, np.zeros(4, int), inputs={"t": X[:, 0]})
    for structures, name, message in (
        ([cloud], "a.npy", r"holds positions and normals; got \['t'\]; write .ply"),
        ([cloud, cloud], "a.ply", "holds one cloud and no predictions; got 2"),
        ([cloud.replace(species=np.ones(4, int))], "a.ply", "has elements or a cell: write .xyz"),
        ([cloud.replace(cell=np.eye(3))], "a.ply", "has elements or a cell: write .xyz"),
    ):
        with pytest.raises(ValueError, match=message):
            write(tmp_path / name, structures)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "library"), [(".obj", "trimesh"), (".las", "laspy")])
def test_what_is_not_installed_is_named(tmp_path, suffix, library):
    path = tmp_path / f"a{suffix}"
    path.write_text("v 0 0 0\n")
    code = (
        f"import sys\nsys.modules[{library!r}] = None\nfrom geojax.datasets import read\n"
        f"read({str(path)!r})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search(rf"ImportError: .*{library}; pip install 'geojax\[points\]'", found.stderr)
