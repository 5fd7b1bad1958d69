"""DGCNN by hand, its published size, and what it refuses."""

import jax
import numpy as np
import pytest

from geojax.networks import DGCNN
from tests.networks import plain_vectors as plain
from tests.networks.test_cloud_contract import cloud, graph_of

SMALL = DGCNN(
    neighbors=4, widths=(5, 4), embedding=6, head=(3,), irreps_out="2x0e", scalars=("radius",)
)


def by_hand(p, structure, readout, again=True):
    """Edge by edge; without `again` neighbours are those in space in every layer."""
    x = structure.positions - structure.positions.mean(0)
    near = plain.nearest(x, 4)
    h, layers = np.concatenate([x, structure.inputs["radius"][:, None]], -1), []
    for i in range(2):
        near = plain.nearest(h, 4) if i and again else near
        table = p[f"layer_{i}"]
        ends = np.stack(
            [np.concatenate([h[j] - h[k], h[k]]) for k in range(len(h)) for j in near[k]]
        )
        sent = (ends @ table["affine"]["kernel"] + table["affine"]["bias"]).reshape(len(h), 4, -1)
        h = leaky(layer_norm(table["norm"], sent.max(1)))
        layers.append(h)
    h = np.concatenate(layers, -1)
    y = leaky(layer_norm(p["norm"], h @ p["embedding"]["kernel"] + p["embedding"]["bias"]))
    return plain.point_head(p["head"], y, h if readout == "node" else None)


def layer_norm(p, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * p["gain"] + p["shift"]


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


@pytest.mark.parametrize("readout", ["graph", "node"])
def test_it_equals_its_equations(readout, x64):
    network = SMALL.clone(readout=readout)
    shape, first = cloud(6), cloud(9, seed=1)
    graph = graph_of(network, first, shape)
    params, tree = plain.parameters(network, graph)
    found = jax.jit(network.apply)(params, graph).array[9:15]
    np.testing.assert_allclose(found, by_hand(tree, shape, readout), atol=1e-12)
    wrong = by_hand(tree, shape, readout, again=False)
    assert np.abs(found - wrong).max() > 1e-4, "neighbours are searched anew in features"


def test_published_size():
    """Released code, with the mean of 1024 channels and without biases, has 1,809,576."""
    network = DGCNN(irreps_out="40x0e")
    params = jax.eval_shape(network.init, jax.random.key(0), graph_of(network, cloud()))
    biases = sum(network.widths) + network.embedding + network.head[0]
    expected = 1_809_576 - 1024 * 512 + biases
    assert sum(x.size for x in jax.tree.leaves(params)) == expected == 1_287_336


def test_how_far_out_a_point_is_matters(x64):
    """Twice as large is another cloud; without biases under the norms it would be the same."""
    network = SMALL.clone(scalars=(), embedding=16, head=(8,))
    params, tree = plain.parameters(network, graph_of(network, cloud()))
    apply = jax.jit(network.apply)
    small = graph_of(network, cloud())
    large = graph_of(network, cloud().replace(positions=2 * cloud().positions))
    differ = lambda p: np.abs(apply(p, small).array - apply(p, large).array).max()
    assert differ(params) > 1e-2
    for i in range(2):
        affine = tree[f"layer_{i}"]["affine"]
        affine["bias"] = 0 * affine["bias"]
    assert differ({"params": tree}) < 1e-4


@pytest.mark.slow
def test_another_readout_is_refused():
    network = SMALL.clone(readout="cloud")
    with pytest.raises(ValueError, match="'graph' or of each 'node'; got 'cloud'"):
        jax.eval_shape(network.init, jax.random.key(0), graph_of(network, cloud()))
