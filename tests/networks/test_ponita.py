"""PONITA: the published size, its equations by hand, and the symmetry of its grid."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks.ponita import PONITA
from geojax.nn import orientation_grid
from geojax.so3 import random_rotation

RNG = np.random.default_rng(0)
INPUTS = {"scalars": ("charges",), "vectors": ("velocities",), "irreps_out": "1o"}
NBODY = PONITA(orientations=16, layer_scale=1e-6, elements=(0,), average_neighbors=4.0, **INPUTS)
SMALL = PONITA(
    channels=6,
    layers=1,
    hidden=8,
    n_basis=6,
    widening=2,
    elements=(0,),
    average_neighbors=3.0,
    **INPUTS,
)


def cloud(n=4):
    inputs = {"velocities": RNG.normal(size=(n, 3)), "charges": RNG.choice([-1.0, 1.0], n)}
    return Structure(RNG.normal(size=(n, 3)), np.zeros(n, int), inputs=inputs)


def turned(structure, turn):
    inputs = {**structure.inputs, "velocities": structure.inputs["velocities"] @ turn.T}
    return structure.replace(positions=structure.positions @ turn.T, inputs=inputs)


def graph_of(structure, dtype=np.float64):
    n = len(structure)
    batch = pad([sample(structure, np.inf)], Budget(n + 2, n * (n - 1) + 3, 2), dtype)
    return jax.tree.map(jnp.asarray, batch.graph)


def parameters(network, graph, scale=0.7):
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(scale=scale, size=x.shape)), shapes)


def test_the_n_body_network_has_the_published_parameters():
    """1 060 357, less one row of 128 for each of 16 monomials that the authors' code has twice."""
    params = jax.eval_shape(NBODY.init, jax.random.key(0), graph_of(cloud(), np.float32))
    assert sum(x.size for x in jax.tree.leaves(params)) == 1_060_357 - 16 * 128


def test_one_layer_equals_the_equations(x64):
    """Written out for every node, orientation and pair; every node is its own neighbour too."""
    network = SMALL.clone(orientations=6, degree=2, length=1.3, layer_scale=0.5)
    structure = cloud()
    graph = graph_of(structure)
    params = parameters(network, graph)
    found = jax.jit(network.apply)(params, graph).array[:4]

    p = jax.tree.map(np.asarray, params)["params"]
    w = p["layer_0"]
    dense = lambda d, x: x @ d["kernel"] + d.get("bias", 0)
    erf = np.vectorize(math.erf)
    gelu = lambda x: x * (1 + erf(x / np.sqrt(2))) / 2
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    moment = np.sqrt(weights @ gelu(nodes) ** 2 / weights.sum())

    def basis(d, columns):
        h = gelu(dense(d["affine_0"], np.array(columns))) / moment
        return gelu(dense(d["affine_1"], h)) / moment

    def spatial(r, o):
        a1 = r @ o
        a2 = np.linalg.norm(r - a1 * o)
        # E[a1²] = 1, E[a1⁴] = 3, E[a2²] = 2, E[a2⁴] = 8 of a normal vector
        columns = [a2 / 2**0.5, a2**2 / 8**0.5, a1, a1 * a2 / 2**0.5, a1**2 / 3**0.5]
        return basis(p["kernels"]["basis"], columns) @ w["convolution"]["kernel"]

    def fiber(o, other):
        a3 = o @ other
        columns = [a3 * 3**0.5, a3**2 * 5**0.5]
        return basis(p["kernels"]["fiber_basis"], columns) @ w["convolution"]["fiber_kernel"]

    grid, x = orientation_grid(6), structure.positions / 1.3
    q, v = structure.inputs["charges"], structure.inputs["velocities"]
    f = np.array([[dense(p["embedding"], [q[i], v[i] @ o]) for o in grid] for i in range(4)])
    expected = np.zeros((4, 3))
    for i in range(4):
        sums = [
            sum(spatial(x[j] - x[i], o) * f[j, a] for j in range(4)) for a, o in enumerate(grid)
        ]
        for a, o in enumerate(grid):
            h = np.mean([fiber(o, other) * s for other, s in zip(grid, sums, strict=True)], 0)
            h = h + w["convolution"]["bias"]
            h = (h - h.mean()) / np.sqrt(h.var() + 1e-5) * w["norm"]["gain"] + w["norm"]["shift"]
            h = dense(w["affine_1"], gelu(dense(w["affine_0"], h)))
            y = dense(p["readout_0"], f[i, a] + w["layer_scale"] * h)
            expected[i] += y[0] * o / 6
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("invariants", "orientations"),
    [("separable", 6), pytest.param("complete", 6, marks=pytest.mark.slow)],
)
def test_vectors_turn_with_the_grid(invariants, orientations, x64):
    """Inputs and outputs, under every rotation and reflection that the network states."""
    network = SMALL.clone(invariants=invariants, orientations=orientations, degree=2)
    structure = cloud()
    params = parameters(network, graph_of(structure))
    apply = jax.jit(lambda graph: network.apply(params, graph).array[:4])
    before = np.asarray(apply(graph_of(structure)))
    assert len(network.symmetries) == (48 if invariants == "separable" else 24)
    for turn in network.symmetries:
        after = apply(graph_of(turned(structure, turn)))
        np.testing.assert_allclose(after, before @ turn.T, atol=1e-11 * np.abs(before).max())


@pytest.mark.slow
def test_more_orientations_make_less_of_an_error(x64):
    """Means over eight rotations, for the parameters that it starts from."""
    structure, errors = cloud(6), []
    turns = np.asarray(random_rotation(jax.random.key(0), (8,), dtype=jnp.float64))
    for orientations in (6, 12, 20, 32):
        network = SMALL.clone(orientations=orientations, channels=16, hidden=16, n_basis=16)
        params = jax.jit(network.init)(jax.random.key(1), graph_of(structure))
        params = jax.tree.map(jnp.float64, params)
        apply = jax.jit(lambda graph, network=network, params=params: network.apply(params, graph))
        before = np.asarray(apply(graph_of(structure)).array[:6])
        after = [apply(graph_of(turned(structure, turn))).array[:6] for turn in turns]
        change = [np.abs(a - before @ turn.T).max() for a, turn in zip(after, turns, strict=True)]
        errors.append(np.mean(change) / np.abs(before).max())
    assert errors[3] < errors[2] < errors[1] < errors[0]
    assert errors[3] < 0.05


def test_only_what_is_complete_sees_handedness():
    assert NBODY.group == "approximately E(3)"
    assert NBODY.clone(invariants="complete").group == "approximately SE(3)"
    assert (np.linalg.det(NBODY.clone(invariants="complete").symmetries) > 0).all()


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"irreps_out": "1e"}, ValueError, "0e, 1o, 2e"),
        ({"orientations": 3}, ValueError, "4 orientations or more"),
        ({"invariants": "all"}, KeyError, "no kind of invariants 'all'"),
        ({"average_neighbors": None}, ValueError, "average_neighbors"),
    ],
)
def test_what_it_cannot_do_is_refused(fields, error, message):
    graph = graph_of(cloud(), np.float32)
    with pytest.raises(error, match=message):
        jax.eval_shape(SMALL.clone(**fields).init, jax.random.key(0), graph)
