import numpy as np
import pytest

from geojax.checks import examples
from geojax.graphs import Properties, Structure, neighbor_list

CUTOFF = 5.0


def distances(structure: Structure) -> np.ndarray:
    """Of all pairs within the cutoff."""
    edges = neighbor_list(structure, CUTOFF)
    cell = np.zeros((3, 3)) if structure.cell is None else structure.cell
    x = structure.positions
    vectors = x[edges.receivers] - x[edges.senders] + edges.shifts @ cell
    return np.linalg.norm(vectors, axis=-1)


@pytest.fixture
def made() -> dict[str, Structure]:
    return examples.generated((1, 8), CUTOFF, seed=0)


def test_atoms_keep_apart_and_have_neighbours(made):
    for structure in made.values():
        edges = neighbor_list(structure, CUTOFF)
        assert distances(structure).min() > 0.25 * CUTOFF
        assert np.bincount(edges.receivers, minlength=len(structure)).min() >= 2


def test_the_examples_are_of_every_kind(made):
    assert [s.pbc for s in made.values()] == [(False,) * 3, (True,) * 3, (True, True, False)]
    assert all(set(s.species) == {1, 8} for s in made.values())
    assert made["crystal"].cell is not None
    assert (np.abs(made["crystal"].cell) > 1e-3).all()  # nothing lies along an axis


def test_an_infinite_cutoff_has_no_crystals():
    assert list(examples.generated((0,), np.inf, seed=0)) == ["molecule"]


def test_inputs_are_drawn_from_the_given_rows():
    rows = np.arange(30.0).reshape(10, 3)
    made = examples.generated((1,), CUTOFF, 0, {"velocity": rows})
    for structure in made.values():
        drawn = structure.inputs["velocity"]
        assert drawn.shape == (len(structure), 3)
        assert all(row in rows.tolist() for row in drawn.tolist())


def test_the_seed_decides():
    same = [examples.generated((1, 8), CUTOFF, seed)["crystal"].positions for seed in (3, 3, 4)]
    assert np.array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])


def test_turning_moves_positions_cell_and_vectors_and_drops_labels(made):
    inputs = {"velocity": np.ones((5, 3)), "scalars": np.ones((5, 3))}
    crystal = made["crystal"].replace(inputs=inputs, properties=Properties(energy=1.0))
    matrix = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, -1]])
    turned = examples.turned(crystal, matrix, vectors=("velocity",))
    assert crystal.cell is not None and turned.cell is not None
    np.testing.assert_allclose(turned.positions[2], matrix @ crystal.positions[2])
    np.testing.assert_allclose(turned.cell[1], matrix @ crystal.cell[1])
    np.testing.assert_allclose(turned.inputs["velocity"][0], [-1, 1, -1])
    np.testing.assert_allclose(turned.inputs["scalars"], 1)
    assert turned.properties.energy is None


@pytest.mark.parametrize(("name", "copies"), [("crystal", 8), ("slab", 4)])
def test_a_supercell_has_the_same_neighbourhoods(made, name, copies):
    small, large = made[name], examples.supercell(made[name])
    lengths = [np.sort(distances(s)) for s in (small, large)]
    assert len(large) == copies * len(small)
    np.testing.assert_allclose(lengths[1], np.repeat(lengths[0], copies), rtol=1e-12)


@pytest.mark.parametrize("distance", [2.0, 4.999, 5.001])
def test_exactly_one_pair_crosses_the_cutoff(distance):
    """In each structure the last atom meets one other first."""
    for structure in examples.approaching((1, 8), CUTOFF, distance):
        gaps = np.linalg.norm(structure.positions[:-1] - structure.positions[-1], axis=1)
        assert gaps.min() == pytest.approx(distance, abs=1e-12)
        assert (np.delete(gaps, gaps.argmin()) > distance + 1e-3).all()


def test_dimers_are_of_all_pairs():
    dimers = examples.dimers((1, 6, 8), 3.0)
    assert [s.species.tolist() for s in dimers] == [[1, 1], [1, 6], [1, 8], [6, 6], [6, 8], [8, 8]]
    assert all(np.linalg.norm(np.diff(s.positions, axis=0)) == pytest.approx(3) for s in dimers)


def test_fragments_are_far_apart():
    first, second, both = examples.fragments((1, 8), CUTOFF)
    gap = np.linalg.norm(both.positions[: len(first), None] - both.positions[len(first) :], axis=-1)
    assert len(both) == len(first) + len(second)
    assert gap.min() > 40


def test_degenerate_geometries_are_degenerate():
    cases = examples.degenerate((1, 8), CUTOFF)
    ranks = {n: np.linalg.matrix_rank(s.positions - s.positions[0]) for n, s in cases.items()}
    assert ranks["line along y"] == ranks["line along diagonal"] == ranks["pair"] == 1
    assert ranks["square"] == ranks["right angle"] == 2
    assert ranks["single"] == 0
