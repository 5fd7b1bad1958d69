"""LoCS: one round by hand, its symmetry in the repaired and in the published form, and types."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks import LoCS
from geojax.so3 import random_rotation
from geojax.symmetrize import local_pairs

RNG = np.random.default_rng(0)
SMALL = LoCS(irreps_out="2x1o", channels=6, layers=2, vectors=("history",), edge_types=2)
WORLD = SMALL.clone(second="up")  # the published frame: a turn about v that the z axis fixes


def movers(n=5, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {"velocity": rng.normal(size=(n, 3)), "history": rng.normal(size=(n, 4, 3))}
    inputs["up"] = np.tile([0.0, 0, 1], (n, 1))
    return Structure(rng.normal(size=(n, 3)), np.zeros(n, int), inputs=inputs)


def turned(structure, turn):
    """With all that moves along; "up" is the world's and stays."""
    inputs = dict(structure.inputs)
    inputs |= {name: inputs[name] @ turn.T for name in ("velocity", "history")}
    return structure.replace(positions=structure.positions @ turn.T, inputs=inputs)


def graph_of(*structures, dtype=np.float64):
    edges = sum(len(s) * (len(s) - 1) for s in structures)
    budget = Budget(sum(map(len, structures)) + 2, edges + 4, len(structures) + 1)
    samples = [sample(s, np.inf) for s in structures]
    return jax.tree.map(jnp.asarray, pad(samples, budget, dtype).graph)


def started(network, graph, spread=0.7):
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(scale=spread, size=x.shape)), shapes)


@cache
def compiled(network):
    return jax.jit(network.apply)


def error(network, turn):
    """How far turning before is from turning after, relative to the answer."""
    before, after = graph_of(movers()), graph_of(turned(movers(), turn))
    params, apply = started(network, before), compiled(network)
    before, after = (
        np.asarray(apply(params, g).array[:5]).reshape(5, 2, 3) for g in (before, after)
    )
    return np.abs(after - before @ turn.T).max() / np.abs(before).max()


def about(axis, angle):
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn = np.eye(3)
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[j, i] = np.sin(angle)
    turn[i, j] = -turn[j, i]
    return turn


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_turns_with_every_rotation(seed, x64):
    turn = np.asarray(random_rotation(jax.random.key(seed), dtype=jnp.float64))
    assert error(SMALL, turn) < 1e-10


def test_the_published_frame_turns_about_the_world_s_axis_alone(x64):
    """What the repair is for: a tilt changes its answer."""
    assert error(WORLD, about(2, 1.1)) < 1e-10
    assert error(WORLD, about(0, 0.3)) > 1e-2
    assert error(SMALL, about(0, 0.3)) < 1e-10


def test_mirror_images_are_told_apart(x64):
    assert error(SMALL, np.diag([1.0, 1, -1])) > 1e-2


def test_one_round_equals_the_equations(x64):
    """Every pair written out, from frames by Gram-Schmidt."""
    network = SMALL.clone(layers=1, edge_types=1)
    s = movers(4)
    graph = graph_of(s)
    params = started(network, graph)
    out = np.asarray(compiled(network)(params, graph).array[:4])
    own_frames, pairs = jax.jit(network.frames)(graph), jax.jit(local_pairs)
    p = jax.tree.map(np.asarray, params)["params"]
    silu = lambda x: x / (1 + np.exp(-x))
    dense = lambda d, x: x @ d["kernel"] + d["bias"]
    two = lambda d, x: dense(d["affine_1"], silu(dense(d["affine_0"], x)))
    x, v, past = s.positions, s.inputs["velocity"], s.inputs["history"]
    for i in range(4):
        others = [j for j in range(4) if j != i]
        mean = np.mean([x[j] - x[i] for j in others], 0)
        R = np.linalg.qr(np.stack([v[i], mean], -1))[0] * [1, 1]
        R = R * np.sign([R[:, 0] @ v[i], R[:, 1] @ mean])
        R = np.stack([R[:, 0], R[:, 1], np.cross(R[:, 0], R[:, 1])], -1)
        np.testing.assert_allclose(own_frames[i], R, atol=1e-12)
        own = np.concatenate([R.T @ v[i], (past[i] @ R).ravel()])
        h = two(p["embedding"], own)
        heard = np.zeros(6)
        for j in others:
            frames = jnp.asarray(R), own_frames[j]
            u = np.asarray(pairs(*frames, jnp.asarray(x[j] - x[i]), jnp.asarray(v[j])))
            place = np.concatenate([u[:3], u[6:9]])
            hidden = silu(dense(p["filter"]["filter_0"], place))
            matrix = dense(p["filter"]["filter_1"], hidden).reshape(15, 6)
            heard += np.concatenate([u, R.T @ v[i]]) @ matrix / 3
        h = h + two(p["update_0"], np.concatenate([h, heard]))
        local = two(p["output"], np.concatenate([h, own])).reshape(2, 3)
        np.testing.assert_allclose(out[i], (local @ R.T).ravel(), atol=1e-10)


def test_edge_types_are_shares_that_do_not_turn(x64):
    turn = np.asarray(random_rotation(jax.random.key(3), dtype=jnp.float64))
    network = SMALL.clone(edge_types=3)
    graphs = graph_of(movers()), graph_of(turned(movers(), turn))
    params = started(network, graphs[0])
    run = jax.jit(lambda p, g: network.apply(p, g, mutable="intermediates")[1])
    types = [run(params, g)["intermediates"]["types"][0][:20] for g in graphs]
    np.testing.assert_allclose(types[0], types[1], atol=1e-10)
    np.testing.assert_allclose(types[0].sum(-1), 1, atol=1e-12)
    assert np.ptp(np.asarray(types[0])) > 0.1


def test_uniform_motion_is_learned_in_few_steps(x64):
    """Each node at its own velocity: x + v t is linear in what a node knows of itself."""
    network = LoCS(irreps_out="2x1o", channels=16, layers=1)
    graph = graph_of(movers(), movers(6, seed=1), movers(4, seed=2))
    v = graph.nodes["velocity"]
    goal = jnp.concatenate([0.1 * v, 0.2 * v], -1)[:15]
    params = started(network, graph, spread=0.2)
    loss = lambda p: jnp.mean((network.apply(p, graph).array[:15] - goal) ** 2)

    @jax.jit
    def fit(params):
        adam = optax.adam(1e-2)

        def step(carry, _):
            params, state = carry
            value, slope = jax.value_and_grad(loss)(params)
            change, state = adam.update(slope, state)
            return (optax.apply_updates(params, change), state), value

        return jax.lax.scan(step, (params, adam.init(params)), None, 300)

    (_, _), losses = fit(params)
    assert losses[-1] < 1e-3 * losses[0]


def test_derivatives_are_finite_at_rest_and_at_one_place(x64):
    still = movers()
    inputs = {name: 0 * value for name, value in still.inputs.items()}
    graph = graph_of(still.replace(positions=np.zeros((5, 3)), inputs=inputs), movers())
    params = started(SMALL, graph)

    def total(x, params):
        nodes = {**graph.nodes, "positions": x}
        return jnp.sum(SMALL.apply(params, graph._replace(nodes=nodes)).array ** 2)

    slopes = jax.jit(jax.grad(total, (0, 1)))(graph.nodes["positions"], params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (SMALL.clone(irreps_out="2x0e"), "as in '10x1o'; got irreps_out '2x0e'"),
        (SMALL.clone(layers=0), "the first layer looks at the neighbours; got layers=0"),
        (SMALL.clone(velocity="speed"), "not 'speed'"),
    ],
)
def test_what_it_cannot_do_is_refused(network, message):
    graph = graph_of(movers(), dtype=np.float32)
    with pytest.raises((ValueError, KeyError), match=message):
        jax.eval_shape(network.init, jax.random.key(0), graph)
