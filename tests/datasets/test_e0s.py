"""Energies of the elements: from isolated atoms, by least squares, or from a table."""

import numpy as np
import pytest

from geojax.datasets import Dataset, average_atomrefs, average_energies, reference_energies
from geojax.graphs import Properties, Structure

TRUTH = {1: -13.5, 6: -1027.0, 8: -2038.5}


def molecule(*species: int, noise: float = 0.0, energy: bool = True) -> Structure:
    total = sum(TRUTH[z] for z in species) + noise * len(species)
    x = np.arange(len(species))[:, None] * np.array([[0, 0, 1.5]])
    return Structure(x, np.array(species), properties=Properties(total if energy else None))


MIXED = [molecule(1, 1, 8), molecule(6, 8, 8), molecule(6, 1, 1, 1, 1), molecule(6, 8)]
ALIKE = [molecule(1, 1, 8), molecule(8, 1, 1)]


def data(structures, E0s=None, valid=()) -> Dataset:
    return Dataset("mine", tuple(structures), tuple(valid), card={"E0s": E0s})


def test_least_squares_find_the_energies():
    found = average_energies(MIXED)
    assert found.rank == 3 and found.rmse < 1e-9
    assert found.E0s == pytest.approx(TRUTH, abs=1e-8)
    assert reference_energies(data(MIXED), "average") == pytest.approx(TRUTH, abs=1e-8)


def test_what_is_left_is_reported():
    noisy = [*MIXED, *(molecule(*m.species.tolist(), noise=0.2) for m in MIXED)]
    assert average_energies(noisy).rmse == pytest.approx(0.1, rel=1e-6)  # ±0.1 eV/atom


def test_structures_without_an_energy_do_not_count():
    found = average_energies([*MIXED, molecule(1, 6, energy=False)])
    assert found.E0s == pytest.approx(TRUTH, abs=1e-8)
    with pytest.raises(ValueError, match="E0s 'average' need energies; no training structure"):
        average_energies([molecule(1, energy=False)])


def test_elements_that_cannot_be_told_apart_are_named():
    with pytest.raises(ValueError, match="H, O cannot be told apart: 2 elements but only 1 indep"):
        average_energies(ALIKE)
    some = [*ALIKE, molecule(6, 6)]  # C is determined, H and O are not
    with pytest.raises(
        ValueError, match=r"; H, O cannot .*give E0s='isolated' with .* or E0s='ridge'"
    ):
        average_energies(some)


def test_on_request_the_smallest_energies_that_fit_are_taken():
    found = average_energies(ALIKE, ridge=True)
    assert (found.rank, found.rmse) == (1, pytest.approx(0, abs=1e-9))
    total = 2 * TRUTH[1] + TRUTH[8]
    assert found.E0s == pytest.approx({1: 2 * total / 5, 8: total / 5})
    assert reference_energies(data(ALIKE), "ridge") == found.E0s
    assert average_energies(MIXED, ridge=True).E0s == pytest.approx(TRUTH, abs=1e-8)


def test_isolated_atoms_come_from_the_card():
    table = TRUTH | {7: -1480.0}
    assert reference_energies(data(ALIKE, table), "isolated") == {1: -13.5, 8: -2038.5}
    with pytest.raises(ValueError, match="'mine' brings none; give E0s='average' or a table"):
        reference_energies(data(ALIKE), "isolated")


def test_a_table_is_given_by_symbol_or_number():
    table = {"H": -13.0, 8: -2000.0, "C": -1000.0}
    assert reference_energies(data(ALIKE), table) == {1: -13.0, 8: -2000.0}


def test_every_element_has_its_energy_also_those_of_validation():
    with pytest.raises(ValueError, match="the table of E0s have none for O, only for H; add"):
        reference_energies(data(ALIKE), {"H": -13.0})
    with pytest.raises(ValueError, match="the training structures have none for C, only for H, O"):
        reference_energies(data([*ALIKE, molecule(1, 1)], valid=[molecule(6)]), "average")


def test_other_words_elements_and_numbers_are_refused():
    with pytest.raises(KeyError, match="got 'isolate'; did you mean 'isolated'"):
        reference_energies(data(ALIKE), "isolate")
    with pytest.raises(KeyError, match="by its symbol or atomic number; got 'Hx'"):
        reference_energies(data(ALIKE), {"Hx": -13.0})
    with pytest.raises(ValueError, match=r"a finite energy \[eV\].* \['H'\]"):
        reference_energies(data(ALIKE), {"H": float("nan"), "O": -2000.0})


def test_targets_of_atoms_by_least_squares():
    labelled = [
        s.replace(properties=Properties(targets={"alpha": sum(TRUTH[int(z)] for z in s.species)}))
        for s in MIXED
    ]
    found = average_atomrefs([*labelled, molecule(1, 6)], "alpha")
    assert found == pytest.approx({"H": TRUTH[1], "C": TRUTH[6], "O": TRUTH[8]}, abs=1e-8)
    alike = average_atomrefs([labelled[0]], "alpha")  # one formula: the sum is right
    assert 2 * alike["H"] + alike["O"] == pytest.approx(2 * TRUTH[1] + TRUTH[8])
    with pytest.raises(ValueError, match="atomrefs of 'mu' need its labels"):
        average_atomrefs(labelled, "mu")
