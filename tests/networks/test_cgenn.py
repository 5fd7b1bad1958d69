"""CGENN: the published size, the layer by hand, the n-body output, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.clifford import cayley, cl
from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks.cgenn import CGENN
from geojax.so3 import random_rotation

RNG = np.random.default_rng(0)
SPACE = cl(3)
NBODY = CGENN(
    scalars=("charges",),
    vectors=("velocities",),
    charge="charges",
    irreps_out="1o",
    elements=(0,),
)


def cloud(n=5):
    x, v = RNG.normal(size=(2, n, 3))
    inputs = {"velocities": v, "charges": RNG.choice([-1.0, 1.0], n)}
    return Structure(x, np.zeros(n, int), inputs=inputs)


def graph_of(*structures, cutoff=np.inf, dtype=np.float64):
    samples = [sample(s, cutoff) for s in structures]
    budget = Budget(sum(map(len, structures)) + 2, 24, len(structures) + 1)
    return jax.tree.map(jnp.asarray, pad(samples, budget, dtype).graph)


def parameters(network, graph):
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(scale=0.5, size=s.shape)), shapes)


def test_the_n_body_network_has_134625_parameters():
    graph = graph_of(cloud(), dtype=np.float32)
    params = jax.eval_shape(NBODY.init, jax.random.key(0), graph)
    assert sum(x.size for x in jax.tree.leaves(params)) == 134_625


def test_one_layer_equals_the_equations(x64):
    """In loops over pairs, with dense matrices of multiplication."""
    network = NBODY.clone(layers=1, blocks=1, channels=4)
    structure = cloud(3)
    graph = graph_of(structure)
    params = parameters(network, graph)
    out = jax.jit(network.apply)(params, graph).array[:3]
    p = jax.tree.map(np.asarray, params["params"])
    grades = np.array(SPACE.grades)
    paths = sorted({tuple(grades[[a, c, b]]) for a, b, c, _ in cayley(SPACE)})
    paths = sorted((left, right, out) for left, out, right in paths)

    def linear(d, x):
        kernel = d["kernel"][grades] if len(d["kernel"]) == 4 else d["kernel"][[0] * 8]
        y = np.einsum("bi,bio->bo", x, kernel)
        y[0] += d["bias"][0] if "bias" in d else 0
        return y

    def squares(x):
        return np.stack([(x[grades == k] ** 2).sum(0) for k in range(4)])

    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    size = lambda q: (q**2 + 1e-16) ** 0.25

    def block(d, x):
        x = linear(d["linear_0"], x)
        invariants = np.concatenate([x[:1], squares(x)[1:]])
        x = x * sigmoid(d["silu_0"]["a"] * invariants + d["silu_0"]["b"])[grades]
        product = d["product_0"]
        both = linear(product["linear"], x)
        right, left = both[:, :4], both[:, 4:]
        left[0] += product["bias"][0]
        share = sigmoid(product["norm"]["a"])
        right = right / (share * (size(squares(right)) - 1) + 1 + 1e-6)[grades]
        total = np.zeros_like(x)
        for a, b, c, value in cayley(SPACE):
            weight = product["weights"][paths.index((grades[a], grades[b], grades[c]))]
            total[c] += value * weight * x[a] * right[b]
        x = (left + total) / np.sqrt(2)
        return d["norm_0"]["a"] * x / (size((x**2).sum(0)).mean() + 1e-6)

    x, q = structure.positions, structure.inputs["charges"]
    h = np.zeros((3, 8, 3))
    h[:, 0, 0] = q
    h[:, 1:4, 1] = x - x.mean(0)
    h[:, 1:4, 2] = structure.inputs["velocities"]
    h = np.stack([linear(p["embedding"], row) for row in h])
    layer, expected = p["layer_0"], []
    for i in range(3):
        messages = []
        for j in {0, 1, 2} - {i}:
            edge = np.zeros((8, 1))
            edge[0] = q[i] * q[j]
            messages.append(block(layer["message"], np.concatenate([h[i] - h[j], edge], 1)))
        update = np.concatenate([h[i], np.mean(messages, 0)], 1)
        new = h[i] + block(layer["update"], update)
        expected.append(linear(p["projection"], new)[1:4, 0])
    np.testing.assert_allclose(out, expected, atol=1e-12)


def test_the_n_body_output_turns_and_does_not_move(x64):
    """Velocities turn with positions; a batch of two, so that means are of each graph."""
    network = NBODY.clone(layers=1, channels=4, irreps_out="1o+0e+1e+0o")
    one, two = cloud(4), cloud(3)
    turn = np.asarray(random_rotation(jax.random.key(3), improper=True, dtype=jnp.float64))

    def moved(s, shift):
        inputs = {**s.inputs, "velocities": s.inputs["velocities"] @ turn.T}
        return s.replace(positions=s.positions @ turn.T + shift, inputs=inputs)

    graph = graph_of(one, two)
    params = parameters(network, graph)
    apply = jax.jit(network.apply)
    before = np.asarray(apply(params, graph).array[:7])
    after = np.asarray(apply(params, graph_of(moved(one, 5.0), moved(two, -70.0))).array[:7])
    vector, scalar, plane, volume = (slice(0, 3), slice(3, 4), slice(4, 7), slice(7, 8))
    for columns, matrix in ((vector, turn), (scalar, 1), (plane, -turn), (volume, -1)):
        expected = before[:, columns] @ matrix.T if np.ndim(matrix) else before[:, columns] * matrix
        assert np.abs(expected).max() > 1e-6
        np.testing.assert_allclose(after[:, columns], expected, atol=1e-10 * np.abs(expected).max())


@pytest.mark.slow
def test_a_batch_trains(x64):
    """Twenty steps of gradient descent on made-up targets lower the loss to less than half."""
    network = NBODY.clone(layers=2, channels=6)
    graph = graph_of(cloud(4), cloud(3))
    target = jnp.asarray(RNG.normal(size=(7, 3)))
    params = jax.jit(network.init)(jax.random.key(0), graph)

    @jax.jit
    def step(params):
        loss = lambda p: jnp.mean((network.apply(p, graph).array[:7] - target) ** 2)
        value, slope = jax.value_and_grad(loss)(params)
        return value, jax.tree.map(lambda p, g: p - 0.02 * g, params, slope)

    losses = []
    for _ in range(20):
        value, params = step(params)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]


def test_outputs_that_are_no_grades_are_refused():
    network = NBODY.clone(irreps_out="1o+2e")
    with pytest.raises(ValueError, match="put out 0e, 1o, 1e and 0o"):
        jax.jit(network.init)(jax.random.key(0), graph_of(cloud(), dtype=np.float32))
