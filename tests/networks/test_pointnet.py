"""PointNet by hand, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.networks import PointNet, Symmetrized
from tests.networks.test_cloud_contract import cloud, graph_of


def test_it_is_a_perceptron_of_points_and_one_of_their_maximum(x64):
    network = PointNet(widths=(5, 4), head=(3,), irreps_out="2x0e", scalars=("radius",))
    shape, first = cloud(6), cloud(9, seed=1)
    graph = graph_of(network, first, shape)
    params = jax.jit(network.init)(jax.random.key(0), graph)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    tree = params["params"]

    def layer(x, table, i):
        x = x @ table[f"affine_{i}"]["kernel"] + table[f"affine_{i}"]["bias"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return np.maximum(x * table[f"norm_{i}"]["gain"] + table[f"norm_{i}"]["shift"], 0)

    x = shape.positions - shape.positions.mean(0)
    h = np.concatenate([x, shape.inputs["radius"][:, None]], -1)
    h = layer(layer(h, tree, 0), tree, 1).max(0)
    head = tree["head"]
    expected = layer(h, head, 0) @ head["output"]["kernel"] + head["output"]["bias"]
    found = jax.jit(network.apply)(params, graph).array[9:15]
    np.testing.assert_allclose(found, np.tile(expected, (6, 1)), atol=1e-12)


@pytest.mark.slow
def test_published_size():
    """The shared perceptron and head of the paper, without its two transform networks."""
    network = PointNet(irreps_out="40x0e")
    params = jax.jit(network.init)(jax.random.key(0), graph_of(network, cloud(), dtype="float32"))
    affine = lambda a, b: a * b + b
    widths = [3, *network.widths, *network.head]
    expected = sum(affine(a, b) + 2 * b for a, b in zip(widths, widths[1:], strict=False))
    expected += affine(256, 40)
    assert sum(x.size for x in jax.tree.leaves(params)) == expected == 819_624


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["pca", "distances"])
def test_frames_make_it_invariant(provider, x64):
    network = Symmetrized(backbone=PointNet(widths=(8, 16), head=(8,)), provider=provider)
    assert network.cutoff == 0
    graph = graph_of(network, cloud())
    params = jax.jit(network.init)(jax.random.key(0), graph)
    turn = jnp.asarray([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    nodes = {**graph.nodes, "positions": graph.nodes["positions"] @ turn}
    before, after = (
        jax.jit(network.apply)(params, g).array for g in (graph, graph._replace(nodes=nodes))
    )
    np.testing.assert_allclose(after[:20], before[:20], atol=1e-10)
    plain = network.backbone
    before, after = (
        plain.apply({"params": params["params"]["backbone"]}, g).array
        for g in (graph, graph._replace(nodes=nodes))
    )
    assert np.abs(after - before).max() > 1e-3


def test_another_readout_is_refused():
    with pytest.raises(ValueError, match="'graph' or of each 'node'; got 'cloud'"):
        network = PointNet(readout="cloud")
        jax.jit(network.init)(jax.random.key(0), graph_of(network, cloud()))
