from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import IrrepsArray

from geojax.checks.context import CHECKS, difference, largest, make_context
from geojax.graphs import Structure
from geojax.outputs import Output
from tests.checks.potentials import ELEMENTS, Good, model


def context(network=None, structures=(), dtype="float64", **card):
    return make_context(model(network, **card), structures, dtype=dtype, seed=0)


def values(**arrays):
    return {name: np.asarray(value, float) for name, value in arrays.items()}


def test_examples_suit_the_model():
    found = context(structures=[Structure(np.eye(3), np.array([1, 6, 8]))])
    assert list(found.examples) == ["molecule", "crystal", "slab", "given 0"]
    assert list(found.generated) == ["molecule", "crystal", "slab"]
    assert {int(z) for z in found.examples["molecule"].species} == set(ELEMENTS)


def test_points_have_no_crystals():
    found = context(Good(cutoff=np.inf, elements=()), elements=(), E0s={})
    assert list(found.examples) == ["molecule"]
    assert found.species == (0,)
    assert not found.local


def test_every_example_fits_the_budgets():
    found = context()
    assert len(found.reference) == 3
    assert found.programs.budget.n_node > 8 * 5


def test_a_network_that_reads_inputs_needs_structures():
    @dataclass(frozen=True)
    class Charged(Good):
        def energies(self, params, graph):
            return super().energies(params, graph) * graph.nodes["charge"]

    with pytest.raises(ValueError, match="reads 'charge'; give such structures"):
        context(Charged())
    given = Structure(np.eye(3), np.array([1, 6, 8]), inputs={"charge": np.array([1.0, -1, 2])})
    assert set(context(Charged(), [given]).examples["crystal"].inputs["charge"]) <= {1, -1, 2}


def test_rows_of_three_turn_unless_they_are_scalars():
    @dataclass(frozen=True)
    class Moving(Good):
        scalars: tuple[str, ...] = ("code",)

    inputs = {"history": np.ones((3, 4, 3)), "velocity": np.eye(3), "code": np.eye(3)}
    inputs |= {"charge": np.ones(3), "joint": np.ones((3, 31))}
    given = Structure(np.eye(3), np.array([1, 6, 8]), inputs=inputs)
    assert context(Moving(), [given]).vector_inputs == ("history", "velocity")


def test_an_atom_has_the_same_input_in_every_structure():
    """Fragments add up, and atoms of dimers are those of the elements alone."""

    @dataclass(frozen=True)
    class Charged(Good):
        def energies(self, params, graph):
            return super().energies(params, graph) * graph.nodes["charge"]

    given = Structure(np.eye(3), np.array([1, 6, 8]), inputs={"charge": np.array([1.0, -1, 2])})
    found = context(Charged(), [given])
    row = lambda *species: found.sample(Structure(np.eye(3)[: len(species)], np.array(species)))
    first, second = row(1, 8).graph.nodes["charge"], row(8, 6, 1).graph.nodes["charge"]
    assert first.tolist() == second[[2, 0]].tolist()
    kept = found.sample(given.replace(inputs={"charge": np.array([5.0, 6, 7])})).graph
    assert kept.nodes["charge"].tolist() == [5, 6, 7]
    names = ("isolated atom", "extensivity", "cutoff", "beyond the cutoff", "finite")
    assert all(CHECKS[name](found).passed for name in names)


def test_rows_of_three_turn_unless_the_network_takes_them_for_scalars():
    inputs = {"velocity": np.ones((3, 3)), "colour": np.ones((3, 3)), "charge": np.ones(3)}
    given = Structure(np.eye(3), np.array([1, 6, 8]), inputs=inputs)

    @dataclass(frozen=True)
    class Coloured(Good):
        scalars: tuple[str, ...] = ("colour",)

    assert context(Coloured(), [given]).vector_inputs == ("velocity",)


def test_the_symmetry_of_every_output_is_known():
    @dataclass(frozen=True)
    class Two(Good):
        irreps_out: str = "0e+1o"

        def apply(self, params, graph):
            rows = 0 * graph.nodes["positions"]
            energies = self.energies(params, graph)[:, None]
            return IrrepsArray("0e+1o", jnp.concatenate([energies, rows], -1))

    found = context(Two(), outputs=(Output(), Output("targets.dipole", "1o")))
    assert {name: str(i) for name, i in found.irreps.items()} == {
        "energy": "1x0e",
        "energies": "1x0e",
        "forces": "1x1o",
        "targets.dipole": "1x1o",
    }
    assert set(found.reference["molecule"]) == {"energy", "energies", "forces", "targets.dipole"}


def test_a_network_says_whether_it_is_chiral():
    @dataclass(frozen=True)
    class Chiral(Good):
        group: str = "SE(3)"

    assert context(Chiral()).chiral
    assert not context().chiral


@pytest.mark.parametrize(
    ("value", "passed", "kept"), [(0.5, True, 0.5), (1.5, False, 1.5), (np.nan, False, np.inf)]
)
def test_a_measurement_says_what_a_failure_means(value, passed, kept):
    found = context().judge(
        "some", "A1", value, (1.0, 2.0), detail="the figures", meaning="what it means"
    )
    assert (found.passed, found.value, found.limit) == (passed, kept, 1.0)
    assert found.detail == ("the figures" if passed else "what it means (the figures)")


def test_the_limit_follows_the_precision():
    judged = context(dtype="float32").judge("a", "A1", 1.5, (1.0, 2.0), detail="", meaning="")
    assert judged.passed and judged.dtype == "float32"


def test_differences_are_relative_to_the_largest_value_of_their_kind():
    want = [values(energy=100.0, forces=[[1, 2]]), values(energy=1.0, forces=[[0, 0]])]
    got = [values(energy=101.0, forces=[[1, 2]]), values(energy=1.0, forces=[[0, 0.1]])]
    assert difference(got, want) == (pytest.approx(0.05), "largest in forces")
    assert difference(got, want, ["energy"]) == (pytest.approx(0.01), "largest in energy")
    assert difference(want, want)[0] == 0


@pytest.mark.parametrize("position", [0, 1])
def test_no_nan_is_lost(position):
    want = [values(energy=1.0), values(energy=2.0)]
    got = [values(energy=1.0), values(energy=2.0)]
    got[position] = values(energy=np.nan)
    assert difference(got, want)[0] == np.inf
    assert difference(want, got)[0] == np.inf
    assert largest([1.0, np.nan, 3.0]) == np.inf
    assert largest([]) == 0


def test_every_check_says_what_it_does():
    assert len(CHECKS) >= 24
    assert all(check.__doc__ for check in CHECKS.values())
