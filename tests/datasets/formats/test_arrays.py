import h5py
import numpy as np
import pytest

from geojax.datasets.formats import read
from geojax.datasets.formats.arrays import npz_records
from geojax.units import KCAL_PER_MOL

UNITS = {"positions": "Å", "energy": "kcal/mol", "forces": "kcal/mol/Å"}
RNG = np.random.default_rng(0)
R, E, F = RNG.normal(size=(5, 3, 3)), RNG.normal(size=5), RNG.normal(size=(5, 3, 3))
Z = np.array([8, 1, 1])


@pytest.mark.parametrize(
    "arrays",
    [
        {"z": Z, "R": R, "E": E[:, None], "F": F, "theory": np.array("PBE")},
        {"nuclear_charges": Z, "coords": R, "energies": E, "forces": F, "old_energies": E + 1},
    ],
    ids=["MD17", "rMD17"],
)
def test_npz_of_both_manners(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    structures, report = read(tmp_path / "a.npz", units=UNITS)
    assert len(structures) == 5 and report.used == {"energy": 5, "forces": 5}
    for i, s in enumerate(structures):
        assert np.array_equal(s.positions, R[i]) and s.species.tolist() == [8, 1, 1]
        assert np.isclose(s.properties.energy, E[i] * KCAL_PER_MOL, rtol=1e-14)
        assert np.allclose(s.properties.forces, F[i] * KCAL_PER_MOL, rtol=1e-14)
        assert s.info["origin"].endswith(f"a.npz: frame {i}")
    assert set(report.ignored) <= {"theory", "old_energies"}


def test_units_are_never_guessed(tmp_path):
    np.savez(tmp_path / "a.npz", z=Z, R=R, E=E, F=F)
    with pytest.raises(ValueError, match="state those of energy, forces, positions") as error:
        read(tmp_path / "a.npz")
    assert "units={'energy': 'kcal/mol'" in str(error.value)
    with pytest.raises(ValueError, match="state those of forces, such as"):
        read(tmp_path / "a.npz", units={"positions": "Å", "energy": "eV"})


def test_npz_of_a_crystal_with_other_names(tmp_path):
    cell = np.eye(3) * [4.0, 5.0, 6.0]
    np.savez(tmp_path / "a.npz", symbols=["O", "H", "H"], xyz=R, lattice=cell, e=E)
    keys = {"species": "symbols", "positions": "xyz", "energy": "e"}
    structures, _ = read(tmp_path / "a.npz", keys=keys, units={"positions": "nm", "energy": "Ha"})
    assert structures[0].species.tolist() == [8, 1, 1]
    assert np.allclose(structures[0].cell, cell * 10) and all(structures[0].pbc)
    assert np.allclose(structures[4].positions, R[4] * 10)
    assert structures[1].properties.forces is None


def test_npz_of_one_frame(tmp_path):
    np.savez(tmp_path / "a.npz", z=Z, R=R[0], F=F[0])
    (record,) = npz_records(tmp_path / "a.npz", {})
    assert np.array_equal(record.positions, R[0])
    assert np.array_equal(record.entries[0].value, F[0])


def test_hdf5_of_molecules_in_groups(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, symbols in (
            ("set/water", [b"O", b"H", b"H"]),
            ("set/other", [b"Li", b"C", b"N"]),
        ):
            group = file.create_group(name)
            group["species"], group["coordinates"] = symbols, R
            group["energies"], group["forces"], group["extra"] = E, -F, np.arange(5)
    structures, report = read(
        tmp_path / "a.h5",
        keys={"forces": "-forces", "targets.extra": "extra"},
        units={"positions": "Å", "energy": "Ha", "forces": "Ha/Å"},
    )
    assert len(structures) == 10
    assert {tuple(s.species) for s in structures} == {(8, 1, 1), (3, 6, 7)}
    last = structures[-1]
    assert np.allclose(last.properties.forces, F[4] * 27.211386245988, rtol=1e-14)
    assert last.properties.targets["extra"] == 4
    assert "set/water: frame 4" in last.info["origin"]
    assert report.used == {"energy": 10, "forces": 10, "targets.extra": 10}


def test_hdf5_of_a_published_set(dataset_folder):
    path = dataset_folder / "comp6_s66x8" / "s66x8_wb97x6-31gd.h5"
    if not path.exists():
        pytest.skip("comp6_s66x8 is not here")
    units = {"positions": "Å", "energy": "Ha", "forces": "Ha/Å"}
    structures, _ = read(path, keys={"forces": "-forces"}, units=units)
    assert len(structures) == 528
    assert np.isclose(structures[0].properties.energy / 27.211386245988, -152.788640, atol=1e-6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"R": R}, "species are read from z or nuclear_charges .*; there are: R"),
        ({"z": Z[:2], "R": R}, r"positions have shape .*\[5, 3, 3\] and \[2\]"),
        ({"z": np.array(["Q"] * 3), "R": R}, "an element is given by its symbol.*'Q'"),
        ({"z": Z, "R": R, "F": F[:, :2]}, r"frame 0: forces have shape \[3, 3\]; F has \[2, 3\]"),
        ({"z": Z, "R": np.array([None, "x"])}, "pickled objects are not read"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.npz", units=UNITS)


def test_hdf5_without_the_layout_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("mol")["xyz"] = R
    with pytest.raises(ValueError, match=r"none among \['/', '/mol'\]; name the keys"):
        read(tmp_path / "a.h5", units=UNITS)
