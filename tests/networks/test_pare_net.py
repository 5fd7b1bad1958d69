"""PARE-Net by hand, its two clouds, the pose of one match, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.networks import PARENet
from geojax.networks.pare_net import PositionAwareConvolution
from geojax.nn import Neighborhood
from geojax.points import poses_from_features
from tests.networks.test_cloud_contract import cloud, graph_of, pair

SMALL = PARENet(
    channels=(3, 4),
    neighbors=4,
    kernels=2,
    width=6,
    centres=4,
    stride=2,
    heads=2,
    global_layers=1,
    distance=1.0,
    irreps_out="3x0e+4x1o",
)


def parameters(network, *inputs):
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(scale=0.5, size=x.shape)), shapes)


@pytest.mark.slow
def test_each_cloud_may_be_turned_by_itself(x64):
    structure, rng = pair(cloud(20)), np.random.default_rng(0)
    graph = graph_of(SMALL, structure)
    params = parameters(SMALL, graph)
    run = jax.jit(lambda g: SMALL.apply(params, g).array[:20])
    before = np.asarray(run(graph))
    turns = Rotation.random(2, rng=rng).as_matrix()
    halves = np.split(structure.positions, 2)
    x = np.concatenate([h @ t.T + rng.normal(size=3) for h, t in zip(halves, turns, strict=True)])
    after = np.asarray(run(graph_of(SMALL, structure.replace(positions=x))))
    np.testing.assert_allclose(after[:, :3], before[:, :3], atol=1e-10)
    for rows, turn in zip((slice(10), slice(10, 20)), turns, strict=True):
        expected = before[rows, 3:].reshape(10, 4, 3) @ turn.T
        np.testing.assert_allclose(after[rows, 3:].reshape(10, 4, 3), expected, atol=1e-10)


@pytest.mark.slow
def test_one_match_gives_the_pose(x64):
    """Two copies of a cloud, one moved: the vectors of any point and its copy agree on it."""
    half, rng = cloud(12), np.random.default_rng(0)
    turn, shift = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
    x = np.concatenate([half.positions, half.positions @ turn.T + shift])
    inputs = {"part": np.repeat([0.0, 1.0], 12)}
    graph = graph_of(SMALL, half.replace(positions=x, species=np.zeros(24, int), inputs=inputs))
    found = jax.jit(SMALL.apply)(parameters(SMALL, graph), graph).array[:24]
    vectors = found[:, 3:].reshape(24, 4, 3)
    x = jnp.asarray(x)
    poses = jax.jit(poses_from_features)(vectors[:12], vectors[12:], x[:12], x[12:])
    np.testing.assert_allclose(poses.rotation, np.broadcast_to(turn, (12, 3, 3)), atol=1e-8)
    np.testing.assert_allclose(poses.translation, np.broadcast_to(shift, (12, 3)), atol=1e-8)
    np.testing.assert_allclose(found[:12, :3], found[12:, :3], atol=1e-10)


def neuron(p, x):
    q, d = x @ np.asarray(p["linear"]["kernel"]), x @ np.asarray(p["direction"]["kernel"])
    d = d / np.linalg.norm(d, axis=0)
    return q - 0.8 * np.minimum((q * d).sum(0), 0) * d


def test_convolution_by_hand(x64):
    x, v = cloud(8).positions, np.random.default_rng(0).normal(size=(8, 3, 2))
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    order = np.argsort(distance, 1)[:, :4]
    near = Neighborhood(jnp.asarray(order, jnp.int32), jnp.ones((8, 4), bool))
    layer = PositionAwareConvolution(channels=4, kernels=2, hidden=3)
    inputs = jnp.asarray(v), jnp.asarray(x), near
    params = parameters(layer, *inputs)
    found = np.asarray(jax.jit(layer.apply)(params, *inputs))
    p = jax.tree.map(np.asarray, params["params"])
    bank = p["bank"].reshape(5, 2, 2)
    for i in range(8):
        centre = np.mean([x[j] - x[i] for j in order[i]], 0)
        mixed = np.zeros((3, 2))
        for j in order[i]:
            y = x[j] - x[i]
            local = np.stack([y, centre, np.cross(y, centre)], -1)
            h = np.linalg.norm(local @ p["lengths"], axis=0) @ p["scores_0"] + p["shift"]
            h = np.maximum(h, 0)
            s = np.exp(h @ p["scores_1"])
            s = s / s.sum()
            z = np.concatenate([v[j] - v[i], v[j], y[:, None]], -1)
            z = sum(s[m] * z @ bank[:, m] for m in range(2))
            mixed += z / np.linalg.norm(z, axis=0) / 4
        expected = neuron(p["neuron_1"], neuron(p["neuron_0"], mixed))
        expected = expected + v[i] @ p["shortcut"]["kernel"]
        np.testing.assert_allclose(found[i], expected, atol=1e-12)


def test_other_irreps_are_refused():
    network = SMALL.clone(irreps_out="0e+2e")
    graph = graph_of(SMALL, cloud(), dtype="float32")
    with pytest.raises(ValueError, match="scalars 0e and vectors 1o"):
        jax.eval_shape(network.init, jax.random.key(0), graph)
