import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.checks import physics
from geojax.checks.context import CHECKS, make_context
from geojax.graphs import Structure, graph_of_nodes
from geojax.outputs import Output
from tests.checks.potentials import Good, model, ruled


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("forces", "A10"),
        ("stress", "A11"),
        ("balance", "A12"),
        ("cutoff", "A13"),
        ("beyond the cutoff", "A13"),
        ("isolated atom", "A14"),
        ("extensivity", "A15"),
        ("finite", "A28"),
    ],
)
def test_the_good_potential_passes(good, name, figure):
    found = CHECKS[name](good)
    assert found.passed and found.figure == figure


def test_finite_differences_are_of_float64_only():
    single = make_context(model(), (), dtype="float32", seed=0)
    assert [CHECKS[name](single) for name in ("forces", "stress", "cutoff")] == [None] * 3


def test_without_an_energy_there_is_no_physics():
    outputs = (Output("targets.charge", "0e"),)
    other = make_context(model(outputs=outputs), (), dtype="float64", seed=0)
    names = ("forces", "stress", "balance", "cutoff", "isolated atom", "extensivity")
    assert [CHECKS[name](other) for name in names] == [None] * len(names)


def test_a_strain_is_symmetric_and_multiplies_the_volume():
    cube = Structure(np.ones((1, 3)), np.array([6]), cell=2 * np.eye(3), pbc=(True,) * 3)
    longer, sheared = physics._strained(cube, 0, 0, 0.1), physics._strained(cube, 0, 1, 0.2)
    np.testing.assert_allclose(longer.positions, [[1.1, 1, 1]])
    assert longer.volume == pytest.approx(8.8)
    np.testing.assert_allclose(sheared.cell, [[2, 0.2, 0], [0.2, 2, 0], [0, 0, 2]])


def test_the_figure_of_detached_forces(good):
    """A thousandth of the energy has no gradient: differences see 1.001 times the forces."""

    class Detached(Good):
        def energies(self, params, graph):
            energies = super().energies(params, graph)
            return energies + 1e-3 * jax.lax.stop_gradient(energies)

    context = make_context(model(Detached()), (), dtype="float64", seed=0)
    for name in ("forces", "stress"):
        found = CHECKS[name](context)
        assert found.value == pytest.approx(1e-3, rel=1e-4)
        assert not found.passed


def test_the_figure_of_a_force_on_everything():
    """E_i = -c x_i pulls every atom alike: N forces of c add up to N times the largest force."""
    found = CHECKS["balance"](ruled(lambda graph: -0.3 * graph.nodes["positions"][:, 0]))
    assert found.value == pytest.approx(1, rel=1e-12)
    assert "sum of forces" in found.detail


def test_the_figure_of_a_torque():
    """E_i = x_i² pulls atoms towards a plane: forces -2 x_i, torques [0, -2 x z, 2 x y]."""
    context = ruled(lambda graph: graph.nodes["positions"][:, 0] ** 2)
    r = context.generated["molecule"].positions
    r = r - r.mean(0)
    torque = np.abs([(2 * r[:, 0] * r[:, 2]).sum(), (2 * r[:, 0] * r[:, 1]).sum()]).max()
    want = torque / (7 * np.abs(2 * r[:, 0]).max() * np.abs(r).max())
    found = CHECKS["balance"](context)
    assert found.value == pytest.approx(want, rel=1e-9)
    assert "torque, molecule" in found.detail


def test_the_figure_of_an_isolated_atom():
    """A bias of 0.01 eV per atom: 0.02 eV in a dimer that is torn apart."""
    rule = lambda graph: 0 * graph.nodes["positions"][:, 0] + 0.01
    found = CHECKS["isolated atom"](ruled(rule))
    assert found.value == pytest.approx(0.02, rel=1e-12)


def test_the_figure_of_extensivity():
    """E_i = 1 / N: any structure has the energy 1, and 1 + 1 should be the energy of both."""

    def rule(graph):
        size = jnp.maximum(graph.n_node, 1)[graph_of_nodes(graph)]
        return 1 / size.astype(graph.nodes["positions"].dtype)

    assert CHECKS["extensivity"](ruled(rule)).value == pytest.approx(0.5, rel=1e-12)


def test_what_is_not_finite_is_counted_by_geometry():
    """|x_i| has no derivative at the origin: one atom stands there, alone."""
    rule = lambda graph: jnp.sqrt(jnp.sum(graph.nodes["positions"] ** 2, -1))
    found = CHECKS["finite"](ruled(rule))
    assert not found.passed and found.value > 0
    assert "in the single" in found.detail
    assert "in the square" not in found.detail
