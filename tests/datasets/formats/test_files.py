import numpy as np
import pytest

from geojax.datasets.formats import iread, read, write
from geojax.datasets.packed import pack
from geojax.graphs import Properties, Structure, leaves

RNG = np.random.default_rng(0)
ARGON = Structure(np.zeros((1, 3)), np.array([18]))


def labelled(periodic: bool = True) -> Structure:
    skew = RNG.normal(size=(3, 3))
    return Structure(
        RNG.normal(size=(3, 3)),
        np.array([8, 1, 1]),
        cell=np.eye(3) * 9 if periodic else None,
        pbc=(periodic,) * 3,
        properties=Properties(
            energy=RNG.normal(),
            forces=RNG.normal(size=(3, 3)),
            stress=(skew + skew.T) / 200 if periodic else None,
        ),
        info={"run": 4, "name": "a b"},
    )


def same(first: Structure, second: Structure) -> bool:
    old, new = leaves(first.properties), leaves(second.properties)
    kept = {key: value for key, value in second.info.items() if key != "origin"}
    return (
        np.array_equal(first.positions, second.positions)
        and np.array_equal(first.species, second.species)
        and (first.cell is second.cell or np.array_equal(first.cell, second.cell))
        and first.pbc == second.pbc
        and old.keys() == new.keys()
        and all(np.array_equal(old[name], new[name]) for name in old)
        and kept == {key: value for key, value in first.info.items() if key != "origin"}
    )


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz.gz", "mit Leerzeichen, ö.xyz"])
def test_round_trip_is_exact(tmp_path, name):
    structures = [labelled(), labelled(periodic=False), ARGON]
    write(tmp_path / name, structures)
    found, report = read(tmp_path / name)
    assert all(same(*pair) for pair in zip(structures, found, strict=True))
    assert report.used == {"energy": 2, "forces": 2, "stress": 1}
    write(tmp_path / name, found)
    assert all(same(*pair) for pair in zip(structures, read(tmp_path / name)[0], strict=True))


def test_predictions_stand_beside_references(tmp_path):
    structure = labelled()
    predicted = Properties(
        energy=1.5,
        forces=np.ones((3, 3)),
        stress=np.eye(3),
        energies=np.arange(3.0),
        targets={"mu": np.arange(3.0)},
    )
    write(tmp_path / "a.xyz", [structure], [predicted])
    (found,), report = read(tmp_path / "a.xyz")
    assert np.array_equal(found.properties.forces, structure.properties.forces)
    assert found.info["geojax_energy"] == 1.5
    assert {"geojax_energy", "geojax_forces", "geojax_stress", "geojax_mu"} <= set(report.ignored)
    keys = {n: f"geojax_{n.rpartition('.')[2]}" for n in leaves(predicted)}
    (again,), _ = read(tmp_path / "a.xyz", keys=keys)
    for name, value in leaves(predicted).items():
        assert np.array_equal(leaves(again.properties)[name], value)
    new = predicted._replace(energy=2.5)
    write(tmp_path / "b.xyz", [found], [new])  # earlier predictions give way
    assert read(tmp_path / "b.xyz").structures[0].info["geojax_energy"] == 2.5


def test_hessians_of_predictions_are_written(tmp_path):
    hessian = RNG.normal(size=(3, 3, 3, 3))
    write(tmp_path / "a.xyz", [labelled()], [Properties(hessian=hessian)])
    (found,), _ = read(tmp_path / "a.xyz", keys={"hessian": "geojax_hessian"})
    assert np.array_equal(found.properties.hessian, hessian)


def test_inputs_are_written_and_read(tmp_path):
    structure = labelled().replace(inputs={"velocities": RNG.normal(size=(3, 3))})
    write(tmp_path / "a.xyz", [structure])
    (found,), _ = read(tmp_path / "a.xyz", inputs={"velocities": "velocities"})
    assert np.array_equal(found.inputs["velocities"], structure.inputs["velocities"])


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write(tmp_path / "a.xyz", [labelled()])
    before = (tmp_path / "a.xyz").read_text()
    clash = labelled().replace(inputs={"REF_energy": np.zeros(3)})
    with pytest.raises(ValueError, match="'REF_energy' would be written twice"):
        write(tmp_path / "a.xyz", [labelled(), clash])
    assert (tmp_path / "a.xyz").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.xyz"]


def test_each_structure_has_one_prediction(tmp_path):
    with pytest.raises(ValueError, match="got 0 for 1"):
        write(tmp_path / "a.xyz", [labelled()], [])


def test_other_kinds_of_files_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="written as one of .xyz.*got a.db"):
        write(tmp_path / "a.db", [labelled()])


def test_a_named_key_may_be_absent_from_some_frames_only(tmp_path):
    structures = [labelled(), ARGON]
    write(tmp_path / "a.xyz", structures)
    found, report = read(tmp_path / "a.xyz", keys={"energy": "REF_energy"})
    assert found[1].properties.energy is None and report.used["energy"] == 1
    with pytest.raises(ValueError, match="'REF_enrgy' .* no frame has it; did you mean"):
        read(tmp_path / "a.xyz", keys={"energy": "REF_enrgy"})


def test_skip_bad_leaves_out_counts_and_lists(tmp_path):
    write(tmp_path / "a.xyz", [labelled() for _ in range(3)])
    lines = (tmp_path / "a.xyz").read_text().splitlines()
    lines[7] = lines[7].rpartition(" ")[0] + " nan"  # a force of the second frame
    (tmp_path / "a.xyz").write_text("\n".join([*lines, "2", "Properties=species:S:1:pos:R:3"]))
    with pytest.raises(ValueError, match=r"a.xyz:6 \(frame 1\): .* REF_forces has nan"):
        read(tmp_path / "a.xyz")
    structures, report = read(tmp_path / "a.xyz", skip_bad=True)
    assert len(structures) == report.frames == 2
    assert len(report.rejected) == 2
    assert "a.xyz:6 (frame 1)" in report.rejected[0]
    assert "the frame says 2 atoms and the file ends after 0" in report.rejected[1]


@pytest.mark.parametrize("name", ["a.xyz", "a.h5"])
def test_structures_are_read_one_by_one(tmp_path, name):
    structures = [labelled() for _ in range(3)]
    if name == "a.h5":
        pack(tmp_path / name, structures)
    else:
        write(tmp_path / name, structures)
    assert all(same(a, b) for a, b in zip(structures, iread(tmp_path / name), strict=True))


def test_what_is_wrong_is_found_where_it_is(tmp_path):
    write(tmp_path / "a.xyz", [labelled(), ARGON])
    whole = (tmp_path / "a.xyz").read_text()
    (tmp_path / "a.xyz").write_text(whole.rpartition(" ")[0])
    found = iread(tmp_path / "a.xyz")
    assert len(next(found)) == 3
    with pytest.raises(ValueError, match="a.xyz:8: an atom has 4 columns"):
        next(found)
    (tmp_path / "a.xyz").write_text(whole)
    with pytest.raises(ValueError, match="'REF_enrgy' .* no frame has it; did you mean"):
        list(iread(tmp_path / "a.xyz", keys={"energy": "REF_enrgy"}))


def test_units_are_asked_for_before_the_first_structure(tmp_path):
    arrays = {"z": np.array([8, 1]), "R": np.zeros((1, 2, 3)) + np.eye(2, 3), "E": np.zeros(1)}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match="none is guessed"):
        next(iread(tmp_path / "a.npz", units={"positions": "Å"}))


def test_the_home_folder_and_links_are_followed(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("~/a.xyz", [labelled()])
    (tmp_path / "link.xyz").symlink_to(tmp_path / "a.xyz")
    assert len(read("~/link.xyz").structures) == 1


def test_several_files_are_read_as_one(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.xyz", [labelled(), ARGON])
    found, report = read(tmp_path / "*.xyz")
    assert report.frames == len(found) == 4 and report.used["energy"] == 2
    names = [str(tmp_path / name) for name in ("a.xyz", "a.xyz", "b.xyz", "b.xyz")]
    assert [s.info["file"] for s in found] == names
    pack(tmp_path / "c.h5", [ARGON])
    every = [tmp_path / "c.h5", tmp_path / "*.xyz"]
    assert [len(s) for s in iread(every)] == [len(s) for s in read(every)[0]] == [1, 3, 1, 3, 1]


def test_a_key_that_is_named_is_in_one_of_the_files(tmp_path):
    for name, key in (("a", "gap"), ("b", "other")):
        (tmp_path / f"{name}.xyz").write_text(
            f"1\nProperties=species:S:1:pos:R:3 {key}=1\nH 0 0 0\n"
        )
    found = read(tmp_path / "*.xyz", keys={"targets.gap": "gap"})[0]
    assert ["gap" in s.properties.targets for s in found] == [True, False]
    with pytest.raises(ValueError, match="2 files from .*a.xyz on: the key 'gpa' .* mean 'gap'"):
        read(tmp_path / "*.xyz", keys={"targets.gap": "gpa"})


def test_folders_name_classes(tmp_path):
    for name in ("sofa", "bed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.xyz").write_text("0 0 0\n1 0 0\n")
    keys = {"targets.label": "*"}
    found, report = read(tmp_path / "*" / "*.xyz", keys=keys)
    assert report.classes == ("bed", "sofa")
    assert [int(s.properties.targets["label"]) for s in found] == [0, 1]
    found = [*iread(tmp_path / "*" / "*.xyz", keys=keys, classes=("sofa", "bed"))]
    assert [int(s.properties.targets["label"]) for s in found] == [1, 0]
    with pytest.raises(ValueError, match="is a class"):
        read(tmp_path / "*" / "*.xyz", keys=keys, classes=("sofa", "chair"))
    with pytest.raises(ValueError, match=r"the key '\*' was named"):
        read(tmp_path / "bed" / "1.xyz", keys=keys)


def test_one_of_many_files_may_be_damaged(tmp_path):
    (tmp_path / "a.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 2\n")
    (tmp_path / "b.csv").write_text("x,y,z\n0,0,0\n1,0,0\n")
    files = [tmp_path / "a.ply", tmp_path / "b.csv"]
    found, report = read(files, skip_bad=True)
    assert len(found) == 1 and len(report.rejected) == 1 and "a.ply" in report.rejected[0]
    with pytest.raises(ValueError, match=r"a\.ply"):
        read(files)
    with pytest.raises(ValueError, match=r"a\.ply"):
        read(files[0], skip_bad=True)
