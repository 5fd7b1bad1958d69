"""VN-PointNet by hand, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.networks import VNPointNet
from geojax.networks.vn_pointnet import VectorEdgeConvolution, point_vectors
from geojax.nn import nearest_nodes
from tests.networks import plain_vectors as plain
from tests.networks.test_cloud_contract import cloud, graph_of

SMALL = VNPointNet(
    neighbors=4,
    widths=(4, 3, 5, 6),
    context=(4, 8),
    head=(3,),
    irreps_out="2x0e+2x1o",
    scalars=("radius",),
    vectors=("normals",),
)


def vectors_of(structure):
    x = structure.positions - structure.positions.mean(0)
    return np.stack([x, structure.inputs["normals"]], -1)


def by_hand(p, structure, network):
    v = vectors_of(structure)
    v = plain.edges(p["edges"], v, plain.nearest(v[..., 0], 4), 0.0, network.cross)
    v = plain.norm(p["norm"], v)
    v = plain.factors(p["scalars"], v, structure.inputs["radius"][:, None])
    first = layer(p["layer_0"], v)
    whole = layer(p["context"]["layer_1"], layer(p["context"]["layer_0"], first)).mean(0)
    for i in range(2):
        whole = plain.neuron(p["context"][f"whole_{i}"], whole, 0.0)
    whole = whole @ p["context"]["vectors"]["kernel"]
    v = np.concatenate([first, np.broadcast_to(whole, first.shape)], -1)
    second = layer(p["layer_1"], v)
    v = plain.norm(p["norm_last"], second @ p["linear"]["kernel"])
    layers = np.concatenate([first, second], -1)
    return plain.head(p["head"], v, layers, 0.0, network.readout)


def layer(p, v):
    return plain.norm(p["norm"], plain.neuron(p["neuron"], v, 0.0))


@pytest.mark.parametrize(("readout", "cross"), [("graph", False), ("node", True)])
def test_it_equals_its_equations(readout, cross, x64):
    network = SMALL.clone(readout=readout, cross=cross)
    assert network.group == ("SE(3)" if cross else "E(3)")
    shape, mate = cloud(6), cloud(9, seed=1)
    graph = graph_of(network, mate, shape)
    params, tree = plain.parameters(network, graph)
    found = np.asarray(jax.jit(network.apply)(params, graph).array[9:15])
    scalars, vectors = by_hand(tree, shape, network)
    np.testing.assert_allclose(found[:, :2], scalars, atol=1e-12)
    np.testing.assert_allclose(found[:, 2:].reshape(6, 2, 3).swapaxes(1, 2), vectors, atol=1e-12)
    assert np.abs(vectors).max() > 1e-3


def test_published_matrices():
    """Those of the published network for classification, with its transform of features."""
    network = VNPointNet(irreps_out="40x0e", cross=True)
    params = jax.eval_shape(network.init, jax.random.key(0), graph_of(network, cloud()))
    kernels = [
        x.size
        for path, x in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "kernel"
    ]
    neuron = lambda a, b: 2 * a * b
    expected = neuron(3, 21) + neuron(21, 21) + neuron(42, 42) + 42 * 341
    expected += neuron(21, 21) + neuron(21, 42) + neuron(42, 341)
    expected += neuron(341, 170) + neuron(170, 85) + 85 * 21
    expected += neuron(682, 341) + neuron(341, 170) + 170 * 3
    expected += 2046 * 512 + 512 * 256 + 256 * 40
    assert sum(kernels) == expected


@pytest.mark.slow
def test_a_point_alone_has_one_vector(x64):
    """Of itself, its only neighbour, it hears but multiples of its position."""
    graph = graph_of(SMALL, cloud(6))
    x = point_vectors(graph, ())
    layer = VectorEdgeConvolution(4)
    across = []
    for k in (1, 4):
        near = nearest_nodes(x[..., 0], graph, k)
        params = jax.jit(layer.init)(jax.random.key(0), x, near)
        across.append(jnp.abs(jnp.cross(layer.apply(params, x, near), x, axis=1)).max())
    assert across[0] < 1e-12 < 1e-3 < across[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"irreps_out": "0e+1e"}, r"scalars 0e and vectors 1o; got irreps_out='0e\+1e' with 1e"),
        ({"readout": "cloud"}, "'graph' or of each 'node'; got 'cloud'"),
        ({"readout": "cloud", "irreps_out": "1o"}, "'graph' or of each 'node'; got 'cloud'"),
    ],
)
def test_what_it_cannot_do_is_refused(fields, message):
    network = SMALL.clone(**fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(network.init, jax.random.key(0), graph_of(network, cloud()))
