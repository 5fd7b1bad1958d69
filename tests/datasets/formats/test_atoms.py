import gzip

import ase
import ase.db
import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from geojax.datasets.formats import from_ase, read, to_ase
from geojax.datasets.formats.atoms import label_keys
from geojax.graphs import Properties, Structure, leaves

STRESS = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]]) * 1e-2


def crystal() -> ase.Atoms:
    positions = np.random.default_rng(0).normal(size=(2, 3))
    return ase.Atoms("CuO", positions, cell=[3.0, 4.0, 5.0], pbc=True)


def test_results_of_a_calculator_are_labels():
    atoms = crystal()
    forces = np.ones((2, 3))
    voigt = [0.01, 0.02, 0.03, 0.003, 0.002, 0.001]
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=forces, stress=voigt)
    found = from_ase(atoms).properties
    assert found.energy == -1.5 and np.array_equal(found.forces, forces)
    assert np.array_equal(found.stress, STRESS)


def test_stress_of_ase_has_the_sign_of_tension():
    atoms = ase.Atoms("Cu4", [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], cell=[1] * 3)
    atoms.set_cell(np.eye(3) * 3.9, scale_atoms=True)  # stretched: equilibrium is near 3.6
    atoms.pbc, atoms.calc = True, EMT()
    atoms.get_stress()
    assert np.trace(from_ase(atoms).properties.stress) > 0


def test_results_of_other_positions_are_refused():
    atoms = crystal()
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5)
    atoms.positions[0, 0] += 0.1
    with pytest.raises(ValueError, match="changed since: positions; compute again"):
        from_ase(atoms)
    assert from_ase(atoms, labels=False).properties.energy is None


def test_labels_in_info_arrays_and_results_at_once():
    atoms = crystal()
    atoms.info["REF_energy"] = -2.0
    atoms.set_array("REF_forces", np.full((2, 3), 0.5))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)))
    found = from_ase(atoms).properties
    assert found.energy == -2.0 and (found.forces == 0.5).all()
    atoms.info["energy"] = -3.0
    del atoms.info["REF_energy"]
    with pytest.raises(ValueError, match="ase.Atoms: one label has one value; energy"):
        from_ase(atoms)


def test_a_named_key_has_to_be_there():
    with pytest.raises(ValueError, match="'dft' was named for 'energy' .*there are: run"):
        atoms = crystal()
        atoms.info["run"] = 1
        from_ase(atoms, keys={"energy": "dft"})


def test_without_labels_only_geometry_and_inputs_are_read():
    atoms = crystal()
    atoms.info["REF_energy"] = "broken"
    atoms.set_initial_charges([1.0, -1.0])
    atoms.info["spin"] = 2
    inputs = {"charges": "initial_charges", "spin": "spin"}
    structure = from_ase(atoms, labels=False, inputs=inputs)
    assert structure.inputs["spin"].tolist() == [2.0, 2.0]
    assert leaves(structure.properties) == {} and structure.info == {}
    assert structure.inputs["charges"].tolist() == [1.0, -1.0]


def test_there_and_back():
    rng = np.random.default_rng(1)
    labels = Properties(
        energy=-1.25,
        forces=rng.normal(size=(3, 3)),
        stress=STRESS,
        targets={"mu": np.arange(3.0)},
        node_targets={"spin": np.arange(3.0)},
    )
    structure = Structure(
        rng.normal(size=(3, 3)),
        np.array([8, 1, 1]),
        cell=np.eye(3) * 4,
        pbc=(True, True, True),
        inputs={"charges": rng.normal(size=3)},
        properties=labels,
        info={"run": 3},
    )
    atoms = to_ase(structure)
    assert atoms.calc is None and atoms.info["REF_energy"] == -1.25
    keys = {"targets.mu": "REF_mu", "node_targets.spin": "REF_spin"}
    back = from_ase(atoms, keys=keys, inputs={"charges": "charges"})
    assert np.array_equal(back.positions, structure.positions)
    assert np.array_equal(back.cell, structure.cell) and back.pbc == structure.pbc
    assert np.array_equal(back.inputs["charges"], structure.inputs["charges"])
    assert back.info["run"] == 3
    old, new = leaves(structure.properties), leaves(back.properties)
    assert old.keys() == new.keys()
    assert all(np.array_equal(old[name], new[name]) for name in old)


def test_a_molecule_has_no_cell():
    structure = from_ase(ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]))
    assert structure.cell is None and structure.pbc == (False, False, False)


@pytest.mark.parametrize("name", ["a.db", "a.db.gz", "a.aselmdb"])
def test_databases(tmp_path, name):
    path = tmp_path / name
    with ase.db.connect(tmp_path / name.removesuffix(".gz")) as db:
        atoms = crystal()
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, stress=np.zeros(6))
        db.write(atoms, run=1, data={"dipole": np.ones(3)})
        db.write(crystal(), data={"energy": np.array([-2.0]), "forces": np.ones((2, 3))})
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
    before = sorted(tmp_path.iterdir()), path.read_bytes()
    (first, second), report = read(path, keys={"targets.dipole": "dipole"})
    assert first.properties.energy == -1.0 and second.properties.energy == -2.0
    assert first.properties.forces is None and (second.properties.forces == 1).all()
    assert first.properties.targets["dipole"].tolist() == [1, 1, 1]
    assert first.info["run"] == 1 and first.info["origin"] == f"{path}: row 1"
    assert np.array_equal(first.positions, crystal().positions) and all(first.pbc)
    assert report.used == {"energy": 1, "stress": 1, "forces": 1, "targets.dipole": 1} | {
        "energy": 1
    }
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == before


def test_a_database_is_read_again_after_an_error(tmp_path):
    with ase.db.connect(tmp_path / "a.aselmdb") as db:
        db.write(crystal(), data={"energy": np.nan})
        db.write(crystal(), data={"energy": -1.0})
    with pytest.raises(ValueError, match="row 1: a label is finite") as kept:
        read(tmp_path / "a.aselmdb")
    assert len(read(tmp_path / "a.aselmdb", skip_bad=True).structures) == 1
    assert kept.value.__traceback__ is not None  # holds what read was doing


def test_two_properties_of_one_name_have_no_two_keys():
    assert label_keys(["energy", "targets.mu"], "REF_") == {
        "energy": "REF_energy",
        "targets.mu": "REF_mu",
    }
    with pytest.raises(ValueError, match="one name cannot be written"):
        label_keys(["energy", "targets.energy"], "REF_")
