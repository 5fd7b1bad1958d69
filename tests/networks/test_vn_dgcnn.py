"""VN-DGCNN by hand, and its published size."""

import jax
import numpy as np
import pytest

from geojax.networks import VNDGCNN
from tests.networks import plain_vectors as plain
from tests.networks.test_cloud_contract import cloud, graph_of

SMALL = VNDGCNN(
    neighbors=4,
    widths=(3, 4),
    embedding=5,
    head=(3,),
    irreps_out="1o+2x0e+1o",
    scalars=("radius",),
    vectors=("normals",),
)


def by_hand(p, structure, network, again=True):
    """Without `again` neighbours are those in space in both layers."""
    x = structure.positions - structure.positions.mean(0)
    v = np.stack([x, structure.inputs["normals"]], -1)
    near, layers = plain.nearest(x, 4), []
    for i in range(2):
        near = plain.nearest(v.reshape(len(v), -1), 4) if i and again else near
        v = plain.edges(p[f"edges_{i}"], v, near, 0.2, network.cross and not i)
        v = plain.norm(p[f"norm_{i}"], v)
        if not i:
            v = plain.factors(p["scalars"], v, structure.inputs["radius"][:, None])
        layers.append(v)
    layers = np.concatenate(layers, -1)
    v = plain.norm(p["norm"], plain.neuron(p["embedding"], layers, 0.2))
    return plain.head(p["head"], v, layers, 0.2, network.readout)


@pytest.mark.parametrize(("readout", "cross"), [("graph", True), ("node", False)])
def test_it_equals_its_equations(readout, cross, x64):
    network = SMALL.clone(readout=readout, cross=cross)
    assert network.group == ("SE(3)" if cross else "E(3)")
    shape, mate = cloud(6), cloud(9, seed=1)
    graph = graph_of(network, mate, shape)
    params, tree = plain.parameters(network, graph)
    found = np.asarray(jax.jit(network.apply)(params, graph).array[9:15])
    scalars, vectors = by_hand(tree, shape, network)
    np.testing.assert_allclose(found[:, 3:5], scalars, atol=1e-12)
    np.testing.assert_allclose(found[:, :3], vectors[..., 0], atol=1e-12)
    np.testing.assert_allclose(found[:, 5:], vectors[..., 1], atol=1e-12)
    wrong = by_hand(tree, shape, network, again=False)[1]
    assert np.abs(vectors - wrong).max() > 1e-4, "neighbours are searched anew in features"


def test_published_matrices():
    """Those of the published network, which has 2.9 million parameters with the mean of invariants
    beside their maximum: another 2046 rows of the head's first matrix."""
    network = VNDGCNN(irreps_out="40x0e")
    params = jax.eval_shape(network.init, jax.random.key(0), graph_of(network, cloud()))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kernels = sum(x.size for path, x in leaves if path[-1].key == "kernel")
    neuron = lambda a, b: 2 * a * b
    expected = neuron(2, 21) + neuron(42, 21) + neuron(42, 42) + neuron(84, 85)
    expected += 169 * 341 + 169  # one direction for all
    expected += neuron(682, 341) + neuron(341, 170) + 170 * 3
    expected += 2046 * 512 + 512 * 256 + 256 * 40
    assert kernels == expected
    assert round((expected + 2046 * 512) / 1e6, 1) == 2.9
