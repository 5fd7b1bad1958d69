"""The fingerprint: what leaves it alone, and what does not."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.datasets.check.leaks import SAME, leaks, print_of, twins
from geojax.graphs import Structure
from tests.datasets.check.samples import crystals, ethanol, labelled

TURN = Rotation.random(rng=np.random.default_rng(0)).as_matrix()


def reordered(s: Structure) -> Structure:
    order = np.random.default_rng(0).permutation(len(s))
    return s.replace(
        positions=s.positions[order], species=s.species[order], properties=type(s.properties)()
    )


SAMES = {
    "turned": lambda s: s.replace(
        positions=s.positions @ TURN, cell=None if s.cell is None else s.cell @ TURN
    ),
    "moved": lambda s: s.replace(positions=s.positions + 7.0),
    "mirrored": lambda s: s.replace(
        positions=-s.positions, cell=None if s.cell is None else -s.cell
    ),
    "renumbered": reordered,
}


@pytest.mark.parametrize("what", SAMES)
@pytest.mark.parametrize("make", [lambda: ethanol().train[0], lambda: crystals()[0]])
def test_the_same_structure_has_the_same_fingerprint(make, what):
    s = make()
    assert np.abs(print_of(SAMES[what](s)) - print_of(s)).max() < SAME / 100


def test_other_lattice_vectors_of_one_lattice_too():
    s = crystals()[0]
    other = s.replace(cell=np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ s.cell)
    assert np.abs(print_of(other) - print_of(s)).max() < 1e-9


def test_it_changes_by_no_more_than_twice_the_displacement():
    for s in (ethanol().train[0], crystals()[0]):
        x = s.positions.copy()
        x[2] += [0.006, 0, 0]
        change = np.abs(print_of(s.replace(positions=x)) - print_of(s)).max()
        assert 0.003 < change <= 0.012 + 1e-12


def test_pairs_are_those_of_comparing_all():
    rng = np.random.default_rng(0)
    base = ethanol().train[:30]
    given = [s.replace(positions=s.positions + rng.normal(0, 0.003, (9, 3))) for s in base * 2]
    prints = [print_of(s) for s in given]
    wanted = {
        (i, j) for i in range(60) for j in range(i) if np.abs(prints[i] - prints[j]).max() < 0.02
    }
    assert {(j, i) for i, j, _ in twins(given, 0.02)} == wanted and 25 <= len(wanted)


def test_another_charge_is_another_structure_once_it_is_an_input():
    one = ethanol().train[0]
    other = labelled(one, energy=lambda e: e + 5.0)
    charged = lambda s, q: s.replace(info={"total_charge": q}, inputs={"q": np.full(len(s), q)})
    find = lambda pair: leaks(pair, ["train"] * 2, lambda mask: tuple("ab"[: mask.sum()]))
    bare = [s.replace(inputs={}) for s in (charged(one, 0.0), charged(other, 1.0))]
    (_, wrong) = find(bare)
    assert wrong.kind == "contradicting labels" and "total_charge" in wrong.fix
    assert find([charged(one, 0.0), charged(other, 1.0)]) == []
