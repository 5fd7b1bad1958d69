"""TensorNet: published sizes, the network by hand with 3x3 matrices, parities, the cutoff.

What every network promises is in `test_contract`.
"""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Graph, Structure, pad, sample
from geojax.networks import TensorNet
from geojax.networks.tensornet import basis, multiply

CUTOFF, ELEMENTS = 3.0, (1, 6, 8)
SMALL = TensorNet(CUTOFF, channels=4, layers=2, n_basis=5, elements=ELEMENTS)
CHARGED = SMALL.clone(charge="charge")


def molecule(n=5, seed=0, charge=0.0) -> Structure:
    """Atoms about 1.2 Å apart, without any symmetry."""
    rng = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)
    positions = 1.2 * corners[:n] + 0.15 * rng.normal(size=(n, 3))
    inputs = {"charge": np.full(n, charge)}
    return Structure(positions, np.array([1, 6, 8, 1, 6, 1])[:n], inputs=inputs)


def graph_of(structure: Structure) -> Graph:
    batch = pad([sample(structure, CUTOFF)], Budget(8, 40, 2), np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


def shapes(network):
    graph = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), graph_of(molecule()))
    return jax.eval_shape(network.init, jax.random.key(0), graph)["params"]


def parameters(network):
    rng = np.random.default_rng(1)
    draw = lambda x: jnp.asarray(rng.normal(size=x.shape))
    return {"params": jax.tree.map(draw, shapes(network))}


@cache
def ready(network):
    return jax.jit(network.apply)


def outputs(network, structure, params) -> np.ndarray:
    return np.asarray(ready(network)(params, graph_of(structure)).array)[: len(structure)]


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        (dict(layers=1), 535_681),
        (dict(), 769_921),
        pytest.param(dict(n_basis=64, cutoff=10.0), 790_401, marks=pytest.mark.slow),
        pytest.param(dict(layers=3, channels=256, cutoff=5.0), 3_925_249, marks=pytest.mark.slow),
    ],
    ids=["one layer", "rMD17", "SPICE", "QM9"],
)
def test_published_sizes(fields, count):
    found = shapes(TensorNet(elements=tuple(range(128)), **fields))
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(found)) == count


# Matrices


def test_the_basis_is_orthonormal_and_keeps_the_parts_apart():
    b = basis()
    np.testing.assert_allclose(np.einsum("mab,nab->mn", b, b), np.eye(9), atol=1e-15)
    np.testing.assert_allclose(np.abs(b[0]), np.eye(3) / math.sqrt(3), atol=1e-15)
    np.testing.assert_allclose(b[1:4], -np.swapaxes(b[1:4], 1, 2), atol=1e-15)
    np.testing.assert_allclose(b[4:], np.swapaxes(b[4:], 1, 2), atol=1e-15)
    np.testing.assert_allclose(np.trace(b[1:], axis1=1, axis2=2), 0, atol=1e-15)


def test_products_are_those_of_matrices(x64):
    x, y = np.random.default_rng(0).normal(size=(2, 6, 9, 3))
    matrix = lambda x: np.einsum("nmc,mab->ncab", x, basis())
    found = matrix(multiply(jnp.asarray(x), jnp.asarray(y), "all"))
    np.testing.assert_allclose(found, matrix(x) @ matrix(y), atol=1e-13)
    found = matrix(multiply(jnp.asarray(x), jnp.asarray(y), "even"))
    expected = (matrix(x) @ matrix(y) + matrix(y) @ matrix(x)) / 2
    np.testing.assert_allclose(found, expected, atol=1e-13)


# The network, node by node and edge by edge, with matrices


def silu(x):
    return x / (1 + np.exp(-x))


def affine(params, x):
    return x @ params["kernel"] + params.get("bias", 0)


def steps(params, x, end=True):
    for i in range(len(params)):
        x = affine(params[f"affine_{i}"], x)
        x = silu(x) if end or i < len(params) - 1 else x
    return x


def layer_norm(params, x):
    x = (x - x.mean()) / math.sqrt(x.var() + 1e-5)
    return x * params["gain"] + params["shift"]


def parts(x):
    """I, A, S of matrices `[channel, 3, 3]`."""
    transposed = np.swapaxes(x, 1, 2)
    trace = np.trace(x, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    return trace, (x - transposed) / 2, (x + transposed) / 2 - trace


def mixed(params, x):
    pairs = zip("IAS", parts(x), strict=True)
    return sum(np.einsum("cd,cab->dab", params[name]["kernel"], part) for name, part in pairs)


def scaled(x, factors):
    return sum(f[:, None, None] * part for f, part in zip(factors, parts(x), strict=True))


def square(x):
    return (x * x).sum((1, 2))


def cut(r, power):
    x = r / CUTOFF
    if power == 0:
        return (np.cos(np.pi * x) + 1) / 2
    a, b, c = (power + 1) * (power + 2) / 2, power * (power + 2), power * (power + 1) / 2
    return 1 - a * x**power + b * x ** (power + 1) - c * x ** (power + 2)


def waves(r, network):
    k, low = network.n_basis, math.exp(-CUTOFF)
    mu, beta = np.linspace(low, 1, k), (2 / k * (1 - low)) ** -2
    return cut(r, network.envelope) * np.exp(-beta * (np.exp(-5 / CUTOFF * r) - mu) ** 2)


def by_hand(network, params, structure, charge=0.0):
    p, n = jax.tree.map(np.asarray, params["params"]), len(structure)
    z = p["embedding"]["species"][[ELEMENTS.index(s) for s in structure.species]]
    edges = []  # receiver, sender, distance, direction; a node is its own neighbour
    for i in range(n):
        for j in range(n):
            v = structure.positions[i] - structure.positions[j]
            r = np.linalg.norm(v)
            if r < CUTOFF:
                edges.append((i, j, r, v / r if i != j else v))
    x = np.zeros((n, network.channels, 3, 3))
    for i, j, r, v in edges:
        pair = affine(p["embedding"]["pair"], np.concatenate([z[i], z[j]]))
        g = affine(p["embedding"]["radial"], waves(r, network)).reshape(3, -1)
        g = cut(r, network.envelope) * pair * g
        skew = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
        symmetric = np.outer(v, v) - np.trace(np.outer(v, v)) * np.eye(3) / 3
        for factor, part in zip(g, (np.eye(3), skew, symmetric), strict=True):
            x[i] += factor[:, None, None] * part
    for i in range(n):
        norms = layer_norm(p["embedding"]["norm"], square(x[i]))
        factors = steps(p["embedding"]["scales"], norms).reshape(3, -1)
        x[i] = scaled(mixed(p["embedding"]["mix"], x[i]), factors)
    for layer in range(network.layers):
        own = p[f"layer_{layer}"]
        x = [one / (square(one) + 1)[:, None, None] for one in x]
        y = [mixed(own["mix_before"], one) for one in x]
        m = np.zeros_like(np.array(x))
        for i, j, r, _ in edges:
            f = cut(r, network.envelope) * steps(own["radial"], waves(r, network))
            m[i] += scaled(y[j], f.reshape(3, -1))
        for i in range(n):
            b = 2 * y[i] @ m[i]
            if not network.chiral:
                b = (1 + 0.1 * charge) * (y[i] @ m[i] + m[i] @ y[i])
            d = mixed(own["mix_after"], b / (square(b) + 1)[:, None, None])
            x[i] = x[i] + d + (1 + 0.1 * charge) * d @ d
    out = []
    for i in range(n):
        norms = np.concatenate([square(part) for part in parts(x[i])])
        h = steps(p["invariants"], layer_norm(p["norm"], norms))
        out.append(steps(p["head"], h, end=False))
    return np.array(out)


@pytest.mark.parametrize(
    "network",
    [
        CHARGED,
        pytest.param(CHARGED.clone(chiral=True), marks=pytest.mark.slow),
        pytest.param(SMALL.clone(envelope=0, layers=1), marks=pytest.mark.slow),
    ],
    ids=["charged", "chiral", "cosine"],
)
def test_the_network_by_hand(network, x64):
    structure, params = molecule(charge=-2.0), parameters(network)
    expected = by_hand(network, params, structure, charge=-2.0 if network.charge else 0.0)
    np.testing.assert_allclose(outputs(network, structure, params), expected, rtol=1e-10)


# Symmetry and distance


def test_even_products_commute_with_the_transposition_and_all_do_not(x64):
    """So inversion, X to its transpose, is a symmetry of Y M + M Y and none of 2 Y M."""
    flip = np.repeat([1.0, -1, 1], [1, 3, 5])[:, None]
    x, y = np.random.default_rng(0).normal(size=(2, 6, 9, 3))
    for parity in ("even", "all"):
        after = np.asarray(multiply(jnp.asarray(x * flip), jnp.asarray(y * flip), parity))
        before = np.asarray(multiply(jnp.asarray(x), jnp.asarray(y), parity)) * flip
        assert np.allclose(after, before, atol=1e-13) == (parity == "even")


@pytest.mark.slow
@pytest.mark.parametrize("chiral", [False, True])
def test_the_vector_is_polar_and_mirror_images_share_an_energy_unless_chiral(chiral, x64):
    network = SMALL.clone(layers=1, chiral=chiral, irreps_out="0e+1o+2e")
    assert network.group == ("SE(3)" if chiral else "E(3)")
    params, structure = parameters(network), molecule()
    before = outputs(network, structure, params)
    after = outputs(network, structure.replace(positions=-structure.positions), params)
    expected = before * [1, -1, -1, -1, 1, 1, 1, 1, 1]
    assert (np.abs(before).max(0) > 1e-4).all()
    assert np.allclose(after, expected, rtol=1e-9, atol=1e-12) != chiral


def test_an_atom_alone_has_the_energy_of_its_element(x64):
    positions = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 1], [0, 0, 9]])
    structure = Structure(positions, np.array([1, 6, 6, 1]), inputs={"charge": np.zeros(4)})
    out = outputs(CHARGED, structure, parameters(CHARGED))[:, 0]
    np.testing.assert_allclose(out[[0, 1]], out[[3, 2]], rtol=1e-14)
    assert abs(out[0] - out[1]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("power", [3, 0])
def test_the_published_cosine_bends_at_the_cutoff_and_the_polynomial_does_not(power, x64):
    network = SMALL.clone(layers=1, envelope=power)
    params = parameters(network)
    graph = graph_of(Structure(np.array([[0.0, 0, 0], [0, 2.0, 0]]), np.array([1, 8])))

    def energy(d):
        x = graph.nodes["positions"]
        x = x.at[1].set(x[0] + d * jnp.array([0.0, 1, 0]))
        graph_there = graph._replace(nodes={**graph.nodes, "positions": x})
        return network.apply(params, graph_there).array[:2].sum()

    curve = jax.jit(lambda d: jax.jvp(jax.grad(energy), (d,), (1.0,)))
    slope, bend = curve(CUTOFF - 1e-6)
    control = abs(curve(CUTOFF / 2)[1])
    assert abs(slope) < 1e-4 * control
    assert (abs(bend) > 1e-2 * control) == (power == 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(irreps_out="1e"), "what a 3x3 matrix holds, 0e, 1o and 2e; got irreps_out='1e'"),
        (dict(cutoff=math.inf), "positive finite cutoff"),
        (dict(envelope=-1), "1 or more, or 0 for the cosine; got -1"),
        (dict(elements=()), "a network knows its elements"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        shapes(SMALL.clone(**fields))
