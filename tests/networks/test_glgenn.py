"""GLGENN: published sizes, what it shares with CGENN, and invariant regression in any metric."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.clifford import cl, random_versor, vector_matrix
from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks.cgenn import CGENN
from geojax.networks.glgenn import GLGENN, InvariantRegression

RNG = np.random.default_rng(0)
HULL = InvariantRegression(cl(5))
TWO_VECTORS = InvariantRegression(
    cl(5), channels=8, products=1, invariants="scalar", hidden=(380, 380), activation="relu"
)


def size(network, *inputs):
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    return sum(x.size for x in jax.tree.leaves(shapes))


def of_products(network, *inputs):
    """The parameters that are not of the MLP."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    mlp = [name for name in shapes if name.startswith(("dense", "output"))]
    return sum(x.size for name in set(shapes) - set(mlp) for x in jax.tree.leaves(shapes[name]))


def test_published_sizes():
    """Two vectors: 149 189 parameters, 608 of them in the algebra. Hulls: 24 129, and CGENN's."""
    two, sixteen = jnp.zeros((1, 5, 2)), jnp.zeros((1, 5, 16))
    assert size(TWO_VECTORS, two) == 149_189
    assert of_products(TWO_VECTORS, two) == 608
    assert size(HULL, sixteen) == 24_129
    assert size(HULL.clone(modulo=None, affine=True), sixteen) == 58_849


def test_it_is_cgenn_without_what_is_affine():
    """In three dimensions quaternion types are grades."""
    structure = Structure(RNG.normal(size=(4, 3)), np.zeros(4, int))
    graph = pad([sample(structure, np.inf)], Budget(6, 16, 2), np.float32).graph
    graph = jax.tree.map(jnp.asarray, graph)
    channels, layers = 5, 2
    fields = {"channels": channels, "layers": layers, "elements": (0,)}
    # Biases, terms of first order; norms of 1 for 4 numbers a channel; one embedding for 4.
    products = 4 * layers
    less = products * (4 * channels**2 + 2 * channels - 3 * channels) + channels + 1
    more = 3 * 2 * channels
    assert size(GLGENN(**fields), graph) == size(CGENN(**fields), graph) - less + more
    assert isinstance(GLGENN(**fields), CGENN)


@pytest.mark.parametrize(
    ("algebra", "modulo", "affine"),
    [
        pytest.param(cl(5), 4, False, id="glgenn-O(5)"),
        pytest.param(cl(1, 3), None, True, id="cgenn-O(1,3)", marks=pytest.mark.slow),
        pytest.param(cl(3, 1), 4, False, id="glgenn-O(3,1)", marks=pytest.mark.slow),
    ],
)
def test_regression_is_invariant(algebra, modulo, affine, x64):
    network = InvariantRegression(
        algebra, channels=3, products=2, hidden=(4,), modulo=modulo, affine=affine
    )
    vectors = jnp.asarray(RNG.normal(size=(3, algebra.n, 4)))
    shapes = jax.eval_shape(network.init, jax.random.key(0), vectors)
    params = jax.tree.map(lambda s: jnp.asarray(RNG.normal(size=s.shape)), shapes)
    apply = jax.jit(network.apply)
    before = apply(params, vectors)
    assert np.ptp(before) > 1e-3
    for count in (1, 2):
        w = random_versor(jax.random.key(count), algebra, vectors=count, dtype=jnp.float64)
        after = apply(params, jnp.einsum("ij,njv->niv", vector_matrix(w, algebra), vectors))
        np.testing.assert_allclose(after, before, rtol=1e-9)


@pytest.mark.slow
def test_it_learns_an_invariant_of_two_vectors():
    """sin|a| - |b|³/2 + a·b/(|a||b|), the papers' function, to a tenth of its variance."""
    import optax

    def target(v):
        a, b = v[..., 0], v[..., 1]
        size = lambda u: np.linalg.norm(u, axis=-1)
        return np.sin(size(a)) - size(b) ** 3 / 2 + (a * b).sum(-1) / size(a) / size(b)

    vectors = RNG.normal(size=(1000, 5, 2))
    y = target(vectors)
    y = jnp.asarray((y - y.mean()) / y.std(), jnp.float32)[:, None]
    vectors = jnp.asarray(vectors, jnp.float32)
    network = TWO_VECTORS.clone(hidden=(64, 64))
    params = jax.jit(network.init)(jax.random.key(0), vectors[:1])
    optimizer = optax.adam(3e-3)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, x, y):
        loss = lambda p: jnp.mean((network.apply(p, x) - y) ** 2)
        value, slope = jax.value_and_grad(loss)(params)
        update, state = optimizer.update(slope, state)
        return optax.apply_updates(params, update), state, value

    for _ in range(600):
        rows = RNG.integers(0, 900, 100)
        params, state, _ = step(params, state, vectors[rows], y[rows])
    error = jnp.mean((network.apply(params, vectors[900:]) - y[900:]) ** 2)
    assert error < 0.1
