"""QM9: the split, the units and identities between the columns."""

import numpy as np
import pytest

from geojax.datasets import qm9
from geojax.datasets.qm9 import UNITS
from geojax.graphs import leaves
from tests.datasets.molecules import counts

# Means over all of QM9 as tables of the literature state them, in the units of `UNITS`.
MEANS = {"mu": 2.70, "alpha": 75.2, "homo": -6.53, "gap": 6.83, "zpve": 4.06, "Cv": 31.6}


@pytest.fixture
def columns(real) -> dict[str, np.ndarray]:
    """Every target of the 2000 validation molecules."""
    data = real("qm9", n_train=20)
    names = data.valid[0].properties.targets
    return {n: np.array([float(s.properties.targets[n]) for s in data.valid]) for n in names}


def test_the_split_and_the_labels(real):
    data = real("qm9", n_train=20)
    assert counts(data)[:2] == (20, 2000)
    assert set(leaves(data.train[0].properties)) == {f"targets.{name}" for name in UNITS}
    assert data.card["units"]["gap"] == "eV" and data.card["units"]["length"] == "Å"
    index = [s.info["index"] for s in (*data.train, *data.valid)]
    assert len(set(index)) == 2020 and 1 <= min(index) <= max(index) <= 133_885
    with pytest.raises(ValueError, match="n_train is 1 to 10000; got 10001"):
        qm9(n_train=10_001)


def test_a_test_part_of_the_validation_molecules(real):
    whole, data = real("qm9", n_train=20), real("qm9", n_train=20, n_test=500)
    assert counts(data) == (20, 1500, 500)
    assert {id_of(s) for s in (*data.valid, *data.test)} == {id_of(s) for s in whole.valid}
    with pytest.raises(ValueError, match="1 to 1999 validation molecules"):
        qm9(n_test=2000)


def id_of(structure) -> int:
    return structure.info["index"]


def test_molecules_have_at_most_nine_heavy_atoms(real):
    data = real("qm9", n_train=20)
    for s in data.valid:
        assert set(np.unique(s.species)) <= {1, 6, 7, 8, 9}
        assert np.sum(s.species > 1) <= 9 and len(s) <= 29
    bonds = [np.linalg.norm(s.positions[1:] - s.positions[0], axis=1).min() for s in data.valid]
    assert 0.9 < np.min(bonds) and np.max(bonds) < 1.9  # [Å]


def test_columns_are_in_the_stated_units(columns):
    """Enthalpy is energy plus RT at 298.15 K: 0.025693 eV, in every molecule."""
    assert np.allclose(columns["H"] - columns["U"], 0.025693, atol=3e-5)
    assert np.allclose(columns["gap"], columns["lumo"] - columns["homo"], atol=3e-3)
    assert (columns["G"] < columns["U0"]).all() and (columns["U0"] < columns["U"]).all()
    assert (columns["A"] >= columns["B"]).all() and (columns["B"] >= columns["C"]).all()
    for name, mean in MEANS.items():
        assert columns[name].mean() == pytest.approx(mean, abs=0.2 * columns[name].std()), name


def test_atoms_are_subtracted(real):
    """The mean atomisation energy of QM9 is 76.1 eV, its standard deviation 10.3 eV."""
    data = real("qm9", n_train=20, targets=("U0", "mu"), subtract_atoms=True)
    energies = np.array([float(s.properties.targets["U0"]) for s in data.valid])
    assert energies.mean() == pytest.approx(-76.1, abs=1.0)
    assert energies.std() == pytest.approx(10.3, abs=0.5)
    assert set(data.valid[0].properties.targets) == {"U0", "mu"}
    assert data.card["subtract_atoms"] is True


def test_a_column_is_the_energy_with_the_free_atoms_beside_it(real):
    data = real("qm9", n_train=20, targets="U0", energy="U0")
    atoms = np.array([sum(data.card["E0s"][z] for z in s.species) for s in data.valid])
    energies = np.array([float(s.properties.energy) for s in data.valid])
    targets = np.array([float(s.properties.targets["U0"]) for s in data.valid])
    assert np.array_equal(energies, targets)
    assert (energies - atoms).mean() == pytest.approx(-76.1, abs=1.0)
    with pytest.raises(KeyError, match="QM9 has no energy 'zpve'"):
        qm9(energy="zpve")


def test_other_targets_are_refused():
    with pytest.raises(KeyError, match="QM9 has no target 'HOMO'; did you mean 'homo'"):
        qm9(targets="HOMO")
