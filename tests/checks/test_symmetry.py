from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irreps

from geojax.arrays import safe_norm
from geojax.checks import symmetry
from geojax.checks.context import CHECKS, make_context
from geojax.graphs import edge_vectors, graph_of_nodes
from geojax.nn import assemble
from geojax.outputs import Output
from geojax.so3 import harmonics
from tests.checks.potentials import Good, model, ruled

QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # turns x into y


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("rotation", "A1"),
        ("inversion", "A1"),
        ("equivariance", "A2"),
        ("permutation", "A4"),
        ("translation", "A5"),
        ("offset", "A5"),
    ],
)
def test_the_good_potential_passes(good, name, figure):
    found = CHECKS[name](good)
    assert found.passed and found.figure == figure
    assert 0 < found.value  # it was measured: no two sums agree in every bit


@pytest.mark.parametrize(("improper", "determinant"), [(False, 1), (True, -1)])
def test_rotations_are_orthogonal_and_of_their_kind(good, improper, determinant):
    found = symmetry.rotations(good, improper=improper)
    assert found.shape == (symmetry.ROTATIONS, 3, 3)
    np.testing.assert_allclose(
        found @ found.swapaxes(1, 2), np.tile(np.eye(3), (10, 1, 1)), 0, 1e-14
    )
    np.testing.assert_allclose(np.linalg.det(found), determinant, rtol=1e-14)
    np.testing.assert_array_equal(found, symmetry.rotations(good, improper=improper))
    assert np.abs(found[0] - found[1]).max() > 0.1


@dataclass(frozen=True)
class Curved(Good):
    """A direct Hessian of pairs, u r r^T, times a matrix that belongs to the world."""

    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def with_hessian(self):
        raise NotImplementedError  # apply calls it by name

    def apply(self, params, graph, slots=None, *, method=None):
        out = super().apply(params, graph)
        if method is None:
            return out
        r = edge_vectors(graph)
        u = self.envelope(jnp.minimum(safe_norm(r) / self.cutoff, 1))
        world = jnp.asarray(self.stretch, r.dtype)[None, :]
        edges = u[:, None, None] * (r * world)[:, :, None] * (r * world)[:, None, :]
        nodes = jnp.zeros((graph.nodes["positions"].shape[0], 3, 3), r.dtype)
        return out, assemble(edges, nodes, graph, slots)


@pytest.mark.parametrize(
    "stretch", [pytest.param((1.0, 1.0, 1.0), marks=pytest.mark.slow), (1.0, 1.1, 1.0)]
)
def test_direct_hessians_are_certified(stretch):
    outputs = (Output(), Output("hessian"))
    context = make_context(
        model(Curved(stretch=stretch), outputs=outputs), (), dtype="float64", seed=0
    )
    assert "hessian" in context.reference["molecule"]
    passed = {name: CHECKS[name](context).passed for name in WATCHED}
    assert passed == {name: name != "equivariance" or stretch[1] == 1 for name in WATCHED}


WATCHED = ("equivariance", "permutation", "batch", "padded rows", "padding", "layouts", "supercell")


def test_hessians_turn_on_both_sides():
    hessian = np.arange(36.0).reshape(2, 3, 2, 3)
    found = symmetry.turn_values({"hessian": hessian}, {}, QUARTER)["hessian"]
    for i, j in [(0, 0), (0, 1), (1, 0)]:
        np.testing.assert_allclose(found[i, :, j], QUARTER @ hessian[i, :, j] @ QUARTER.T)


def test_values_turn_with_the_world():
    values = {
        "energy": np.array(2.0),
        "forces": np.array([[1.0, 0, 0], [0, 0, 3]]),
        "stress": np.diag([1.0, 2, 3]),
    }
    irreps = {"energy": Irreps("0e"), "forces": Irreps("1o")}
    found = symmetry.turn_values(values, irreps, QUARTER)
    assert found["energy"] == 2
    np.testing.assert_allclose(found["forces"], [[0, 1, 0], [0, 0, 3]], atol=1e-14)
    np.testing.assert_allclose(found["stress"], np.diag([2.0, 1, 3]), atol=1e-14)


@pytest.mark.parametrize(
    ("irreps", "sign"), [("0e", 1), ("0o", -1), ("1o", -1), ("1e", 1), ("2e", 1), ("2o", -1)]
)
def test_an_inversion_changes_the_sign_of_what_is_odd(irreps, sign):
    value = np.arange(1.0, Irreps(irreps).dim + 1)
    found = symmetry.turn_values({"a": value}, {"a": Irreps(irreps)}, -np.eye(3))
    np.testing.assert_allclose(found["a"], sign * value, atol=1e-13)


def test_several_irreps_turn_each_by_its_own_matrix(good, x64):
    """Harmonics of the turned vector, in an output of many parts."""
    matrix = symmetry.rotations(good, improper=True)[0]
    rows = np.array([[0.3, -0.5, 0.8], [-1.0, 0.2, 0.1]])
    of = lambda x: np.asarray(harmonics(jnp.asarray(x), 2))
    irreps = {"a": Irreps("0e + 1o + 2e")}
    found = symmetry.turn_values({"a": of(rows)}, irreps, matrix)
    np.testing.assert_allclose(found["a"], of(rows @ matrix.T), atol=1e-12)


def test_a_chiral_network_may_tell_mirror_images_apart():
    @dataclass(frozen=True)
    class Chiral(Good):
        group: str = "SE(3)"

    assert CHECKS["inversion"](make_context(model(Chiral()), (), dtype="float64", seed=0)) is None


def test_after_a_move_float32_is_held_to_scalars_where_there_are_any(good):
    scalars, vectors = ["energies", "energy"], ["forces", "stress"]
    single = make_context(model(), (), dtype="float32", seed=0)
    only_vectors = make_context(
        model(outputs=(Output("targets.dipole", "1o"),)), (), dtype="float32", seed=0
    )
    for context, names, limits in (
        (good, scalars + vectors, (1e-9, 1e-5)),
        (single, scalars, (1e-9, 1e-5)),
        (only_vectors, ["targets.dipole"], (1e-9, 5e-5)),
    ):
        found = symmetry.when_moved(context, (1e-9, 1e-5))
        assert (sorted(found[0]), found[1]) == (sorted(names), limits)


def test_the_figure_of_a_translation():
    """The sum of 1 + c x_i is N, since positions are centred; moved, it is N + N c dx."""
    c, outputs = 1e-3, (Output("targets.place", "0e"),)
    context = ruled(lambda graph: 1 + c * graph.nodes["positions"][:, 0], outputs=outputs)
    shift = context.rng().uniform(2, 4, 3)[0]
    found = CHECKS["translation"](context)
    assert not found.passed
    assert found.value == pytest.approx(c * shift, rel=1e-9)
    assert found.detail.startswith("an output depends on where the structure is")


def test_the_figure_of_a_permutation():
    """E_i = 1 for the first atom, else 0: the largest difference is the largest E_i."""

    def first(graph):
        start = jnp.cumsum(graph.n_node) - graph.n_node
        index = jnp.arange(len(graph.nodes["species"])) - start[graph_of_nodes(graph)]
        return jnp.where(index == 0, 1.0, 0.0).astype(graph.nodes["positions"].dtype)

    found = CHECKS["permutation"](ruled(first))
    assert (found.passed, found.value) == (False, 1.0)
    assert "energies" in found.detail
