"""Pieces and their poses: what turns with which piece, and that predictions move as labels do."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geojax.datasets import broken_shape
from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks import VNDGCNN, Assembly, from_table, to_table
from geojax.networks.network import input_shapes
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.so3 import random_rotation

RNG = np.random.default_rng(0)
PIECE = VNDGCNN(neighbors=4, widths=(4,), embedding=6)
SMALL = Assembly(backbone=PIECE, parts=4, channels=5, rank=2, width=6)
SHAPE = Structure(RNG.normal(size=(45, 3)) * [3, 2, 1], np.zeros(45, int))


def broken(seed=0, **options) -> Structure:
    options = {"n_parts": 3, "places": 4} | options
    return broken_shape(SHAPE, np.random.default_rng(seed), **options)


def batch_of(*structures):
    samples = [sample(s, 0.0, members=64) for s in structures]
    return jax.tree.map(jnp.asarray, pad(samples, Budget(100, 4, 3), np.float64))


def turn(key=1):
    return np.asarray(random_rotation(jax.random.key(key), dtype=jnp.float64))


def moved(structure, number, q, shift):
    """One piece turned and shifted; the rest as it was."""
    mine = structure.inputs["part"][:, None] == number
    x = np.where(mine, structure.positions @ q.T + shift, structure.positions)
    return structure.replace(positions=x)


class Found(NamedTuple):
    step: np.ndarray  # [node, 3]
    rotations: np.ndarray  # of the pieces of the first graph
    translations: np.ndarray
    correlated: np.ndarray


@cache
def ready(rotation="6d"):
    """All that the network says about a structure, with parameters drawn once."""
    network = SMALL.clone(rotation=rotation)
    every = lambda self, graph: (self(graph).array, *self.poses(graph), self.correlated(graph))
    shapes = jax.eval_shape(network.init, jax.random.key(0), batch_of(broken()).graph)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), shapes)
    apply = jax.jit(lambda graph: network.apply(params, graph, method=every))

    def run(structure):
        step, *others = map(np.asarray, apply(batch_of(structure).graph))
        rotations, translations, correlated = (a[0] for a in others)
        return Found(step[: len(structure)], rotations, translations, correlated)

    return run


@pytest.mark.slow
def test_correlated_vectors_turn_with_their_own_piece_alone(x64):
    """And know of the others: another shape of one changes all."""
    run, q, structure = ready(), turn(), broken()
    before = run(structure).correlated
    after = run(moved(structure, 1, q, np.array([3.0, -1, 2]))).correlated
    assert before.shape == (4, 3, 5) and np.abs(before[:3]).min() > 1e-4
    scale = np.abs(before).max()
    np.testing.assert_allclose(after[1], q @ before[1], atol=1e-11 * scale)
    np.testing.assert_allclose(after[[0, 2]], before[[0, 2]], atol=1e-11 * scale)
    stretched = run(moved(structure, 1, np.diag([2.0, 1, 1]), 0)).correlated
    assert all(np.abs(stretched - before)[i].max() > 1e-3 * scale for i in range(3))


@pytest.mark.slow
def test_correlation_adds_up_over_pieces_and_has_their_rank(x64):
    """A second copy of a piece adds as much as the first did."""
    run, n = ready(), 15
    x = RNG.normal(size=(2, n, 3))

    def correlated(*numbers):
        part = np.repeat(np.arange(len(numbers), dtype=float), n)
        rows = np.concatenate([x[k] for k in numbers])
        structure = Structure(rows, np.zeros(len(rows), int), inputs={"part": part})
        return run(structure).correlated

    one, two, three = correlated(0)[0], correlated(0, 1)[0], correlated(0, 1, 1)[0]
    assert np.abs(two - one).max() > 1e-3
    np.testing.assert_allclose(three - two, two - one, atol=1e-10 * np.abs(three).max())
    assert np.linalg.matrix_rank(one) == np.linalg.matrix_rank(two) == SMALL.rank < 3
    assert not correlated(0)[1:].any()


def answer_moved(rotations, translations, number, q, shift, mean):
    """What becomes of poses x -> R x + t if one piece is moved, and then the mean subtracted."""
    rotations, translations = rotations.copy(), translations.copy()
    if number:
        rotations[number] = rotations[number] @ q.T
        translations[number] -= rotations[number] @ shift
    else:
        rotations[1:] = q @ rotations[1:]
        translations[1:] = translations[1:] @ q.T + shift
    translations[1:] += (rotations @ mean - mean)[1:]
    return rotations, translations


@pytest.mark.parametrize(("number", "rotation"), [(0, "6d"), (2, "6d"), (2, "svd")])
def test_poses_change_as_the_labels_do(number, rotation, x64):
    """The labels of the moved pieces assemble them; the same law takes predictions along."""
    run, q, shift = ready(rotation), turn(2), np.array([2.0, -1, 0.5])
    structure = broken(n_parts=4)
    other = moved(structure, number, q, shift)
    mean, part = other.positions.mean(0), structure.inputs["part"].astype(int)
    law = lambda r, t: answer_moved(r, t, number, q, shift, mean)

    targets = structure.properties.targets
    r, t = law(targets["rotations"], targets["translations"])
    found = np.einsum("nij,nj->ni", r[part], other.positions - mean) + t[part]
    assembled = structure.properties.node_targets["assembled"]
    expected = (assembled if number else assembled @ q.T + shift) - mean
    np.testing.assert_allclose(found, expected, atol=1e-12)

    poses = lambda s: (run(s).rotations, run(s).translations)
    before = poses(structure)
    np.testing.assert_allclose(before[0] @ before[0].mT, np.tile(np.eye(3), (4, 1, 1)), atol=1e-12)
    scale = np.abs(before[1]).max()
    assert np.abs(law(*before)[0] - before[0]).max() > 0.1
    # The mean of `other` is not the origin, and `sample` subtracts it.
    for value, wanted in zip(poses(other), law(*before), strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-10 * max(scale, 1))


def test_nodes_go_where_their_poses_take_them(x64):
    run, structure = ready(), broken()
    part = structure.inputs["part"].astype(int)
    answer = run(structure)
    found, rotations, translations = answer.step, answer.rotations, answer.translations
    x = structure.positions
    expected = np.einsum("nij,nj->ni", rotations[part], x) + translations[part] - x
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())
    assert not found[part == 0].any() and np.abs(found[part > 0]).min() > 1e-6
    assert np.array_equal(rotations[[0, 3]], np.tile(np.eye(3), (2, 1, 1)))
    assert not translations[[0, 3]].any()


def test_the_order_of_the_other_pieces_means_nothing(x64):
    run, structure = ready(), broken()
    part = structure.inputs["part"]
    swapped = np.array([0.0, 2, 1])[part.astype(int)]
    order = np.argsort(swapped, kind="stable")
    other = Structure(
        structure.positions[order], structure.species, inputs={"part": swapped[order]}
    )
    before, after = run(structure).step, run(other).step
    np.testing.assert_allclose(after, before[order], atol=1e-10 * np.abs(before).max())


@pytest.mark.slow
def test_training_on_broken_shapes_lowers_the_loss(x64):
    data = batch_of(broken(3), broken(4, n_parts=2))
    network = Assembly(backbone=PIECE, parts=4, channels=8, rank=3, width=8)
    output = Output("node_targets.assembled", "1o", relative_to="positions", unit="")
    predict = predict_fn(network, [output])
    shapes = jax.eval_shape(network.init, jax.random.key(0), data.graph)
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape) * 0.3), shapes)
    way = data.labels.node_targets["assembled"] - data.graph.nodes["positions"]
    optimizer = optax.adam(0.02)

    def loss(params):
        errors = predict(params, data.graph).node_targets["assembled"] - way
        return jnp.mean(jnp.square(errors)[:90])

    def step(state, _):
        params, moments = state
        value, gradient = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    @jax.jit
    def train(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), None, 60)[1]

    values = train(params)
    assert np.isfinite(values).all() and values[-1] < 0.6 * values[0], values


def test_more_pieces_than_places_are_no_number(x64):
    part = np.repeat(np.arange(5.0), 9)
    with jax.debug_nans(False):
        found = ready()(SHAPE.replace(inputs={"part": part})).step
    assert np.isnan(found[part > 3]).all() and np.isfinite(found[part < 4]).all()


def test_tables_round_trip_and_what_it_cannot_put_out_is_refused():
    assert from_table(to_table(SMALL)) == SMALL and SMALL.group == "SE(3)"
    assert SMALL.backbone.irreps_out == "5x1o" and input_shapes(SMALL) == {"part": ()}
    graph = batch_of(broken()).graph
    for change, error, message in [
        ({"irreps_out": "9x0e"}, ValueError, "one vector; got irreps_out='9x0e'"),
        ({"rotation": "quaternion"}, KeyError, "one of 6d, svd; got 'quaternion'"),
    ]:
        with pytest.raises(error, match=message):
            jax.eval_shape(SMALL.clone(**change).init, jax.random.key(0), graph)
