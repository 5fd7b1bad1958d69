"""Iterative SE(3)-Transformer: points move and are looked at again, with all derivatives; the toy.

What every network promises is in `test_contract`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Graph, Structure, edge_vectors, pad, sample
from geojax.networks.iterative_se3_transformer import IterativeSE3Transformer
from geojax.so3 import random_rotation

RNG = np.random.default_rng(0)
X = 0.5 * RNG.normal(size=(4, 3))
SMALL = IterativeSE3Transformer(
    channels=2,
    lmax=1,
    layers=1,
    iterations=2,
    radial_width=4,
    irreps_out="1o",
    elements=(0,),
    edge_scalars=("bond",),
)


def graph_of(x=X) -> Graph:
    """All pairs of points, each with its parameter of the toy problem."""
    batch = pad([sample(Structure(x, np.zeros(len(x), int)), np.inf)], Budget(5, 13, 2), np.float64)
    graph = jax.tree.map(jnp.asarray, batch.graph)
    table = np.random.default_rng(1).uniform(size=(5, 5))
    bond = (table + table.T)[batch.graph.receivers, batch.graph.senders] / 2
    return graph._replace(edges={**graph.edges, "bond": jnp.asarray(bond)})


def moved(graph, positions):
    return graph._replace(nodes={**graph.nodes, "positions": positions})


def energies(distance, a):
    """The toy problem's energy of a pair: a double well in the distance, shifted by a."""
    x = distance - a - 1
    return x**4 - x**2 + 0.1 * x + 0.321919


def toy(graph):
    """The mean energy of the real pairs."""
    distance = jnp.linalg.norm(edge_vectors(graph)[:12], axis=-1)
    return energies(distance, graph.edges["bond"][:12]).mean()


def parameters(network, scale=1.0):
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph_of())
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda a: jnp.asarray(scale * rng.normal(size=a.shape)), shapes)


def test_the_lowest_energy_of_the_toy_is_zero():
    distance = np.linspace(-1, 4, 500_001)
    found = energies(distance, 0.7)
    assert abs(found.min()) < 1e-6
    assert abs(distance[found.argmin()] - (1.7 - 0.7309)) < 1e-3  # the root of 4x³ - 2x + 0.1


@pytest.mark.slow
def test_derivatives_go_through_the_moved_points(x64):
    """Of the toy's energy after two blocks: along a direction, against central differences."""
    graph, params = graph_of(), parameters(SMALL)
    along = RNG.normal(size=(5, 3))

    @jax.jit
    def after(x):
        start = moved(graph, x)
        return toy(moved(start, x + SMALL.apply(params, start).array))

    x, h = graph.nodes["positions"], 1e-5
    slope = jnp.vdot(jax.jit(jax.grad(after))(x), along)
    difference = (after(x + h * along) - after(x - h * along)) / (2 * h)
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


def test_what_blocks_share_and_what_they_have(x64):
    """Each block has its own weights; the last one the output; there is one readout of scalars."""
    shapes = parameters(SMALL.clone(iterations=3, layers=2, irreps_out="0e+1o"))["params"]
    layers = {f"layer_{block}_{i}" for block in range(3) for i in range(2)}
    norms = {f"norm_{block}_{i}" for block in range(3) for i in range(2)}
    assert set(shapes) == layers | norms | {"output", "readout"}
    first, later = shapes["layer_0_0"], shapes["layer_1_0"]
    assert set(first["query"]) == {"0e"} and set(later["query"]) == {"0e", "1o"}


@pytest.mark.slow
def test_a_second_block_looks_at_the_points_where_the_first_left_them(x64):
    """If the second block gives no vectors, the points stay at x + f_1 whatever its weights are."""
    params, apply = parameters(SMALL), jax.jit(SMALL.apply)
    two = apply(params, graph_of()).array[:4]
    params["params"]["output"]["mix"]["1o"] *= 0
    one = apply(params, graph_of()).array[:4]
    assert np.abs(two - one).max() > 1e-3
    params["params"]["layer_1_0"] = jax.tree.map(lambda a: 2 * a, params["params"]["layer_1_0"])
    np.testing.assert_array_equal(apply(params, graph_of()).array[:4], one)


@pytest.mark.slow
@pytest.mark.parametrize("chiral", [False, True])
def test_displacements_turn(chiral, x64):
    network = SMALL.clone(chiral=chiral, layers=2, relative="cat")
    params, apply = parameters(network, 0.7), jax.jit(network.apply)
    before = apply(params, graph_of()).array[:4]
    for improper in (False, True):
        turn = random_rotation(jax.random.key(1), improper=improper, dtype=jnp.float64)
        after = apply(params, graph_of(X @ np.asarray(turn).T)).array[:4]
        error = np.abs(after - before @ turn.T).max() / np.abs(before).max()
        assert error > 1e-4 if improper and chiral else error < 1e-11


@pytest.mark.slow
def test_without_basis_gradients_values_are_the_same_and_derivatives_are_not(x64):
    params, graph = parameters(SMALL), graph_of()

    def both(network):
        total = lambda x: jnp.sum(network.apply(params, moved(graph, x)).array[:4] * X)
        return jax.jit(jax.value_and_grad(total))(graph.nodes["positions"])

    (value, slope), (same, other) = both(SMALL), both(SMALL.clone(basis_gradients=False))
    np.testing.assert_allclose(same, value, rtol=1e-12)
    assert np.abs(slope - other).max() > 1e-3 * np.abs(slope).max()


@pytest.mark.slow
def test_the_toys_energy_falls_in_training(x64):
    """Forty steps on one arrangement of points, by plain gradient descent with clipped norm."""
    graph = graph_of()

    def loss(params):
        return toy(moved(graph, graph.nodes["positions"] + SMALL.apply(params, graph).array))

    @jax.jit
    def step(params):
        value, slope = jax.value_and_grad(loss)(params)
        size = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(slope)))
        rate = 0.1 / jnp.maximum(size, 1)
        return value, jax.tree.map(lambda p, g: p - rate * g, params, slope)

    params = parameters(SMALL, 0.5)
    first, params = step(params)
    for _ in range(40):
        last, params = step(params)
    assert last < 0.8 * first


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(lmax=0), "points move along features of degree 1"),
        (dict(iterations=0), "points move along features of degree 1"),
        (dict(irreps_out="2e"), "an output is among the irreps inside"),
        (dict(heads=3), "got heads=3 for values of"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message, x64):
    with pytest.raises(ValueError, match=message):
        parameters(SMALL.clone(**fields))
