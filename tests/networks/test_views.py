"""Two embeddings of one backbone: which view each belongs to, and how it turns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.graphs import Budget, pad, sample, split_parts
from geojax.networks import PointNet, Views, VNPointNet, from_table, to_table
from tests.networks.test_siamese import pair

PLAIN = Views(
    backbone=PointNet(widths=(6, 8), head=()), features=5, head=(7,), irreps_out="3x0e+3x0e"
)
TURNING = Views(
    backbone=VNPointNet(neighbors=4, widths=(4, 4, 4), context=(), head=()),
    features=4,
    head=(),
    irreps_out="2x0e+2x1o+2x0e+2x1o",
)


def ready(network, *structures):
    samples = [sample(s, 0.0) for s in structures]
    graph = jax.tree.map(jnp.asarray, pad(samples, Budget(40, 1, 4), np.float64)).graph
    params = jax.jit(network.init)(jax.random.key(0), graph)
    return graph, params, np.asarray(jax.jit(network.apply)(params, graph).array)


def test_each_half_is_one_view(x64):
    graph, params, found = ready(PLAIN, pair(0), pair(1))
    tree = params["params"]
    assert PLAIN.backbone.irreps_out == "5x0e" and PLAIN.cutoff == 0
    rows = np.asarray(
        PLAIN.backbone.apply({"params": tree["backbone"]}, split_parts(graph, 2)).array
    )
    for half, row in ((found[0, :3], rows[0]), (found[0, 3:], rows[8])):
        y = row @ tree["affine_0"]["kernel"] + tree["affine_0"]["bias"]
        y = (y - y.mean()) / np.sqrt(y.var() + 1e-5)
        y = np.maximum(y * tree["norm_0"]["gain"] + tree["norm_0"]["shift"], 0)
        np.testing.assert_allclose(
            half, y @ tree["output"]["kernel"] + tree["output"]["bias"], atol=1e-12
        )
    np.testing.assert_array_equal(found[:14], np.tile(found[0], (14, 1)))


@pytest.mark.slow
def test_an_embedding_turns_with_its_own_view(x64):
    structure, turn = pair(0), Rotation.random(rng=np.random.default_rng(1)).as_matrix()
    second = structure.inputs["part"][:, None] == 1
    x = structure.positions
    turned = structure.replace(positions=np.where(second, x @ turn.T, x))
    _, params, before = ready(TURNING, structure)
    graph, _, _ = ready(TURNING, turned)
    after = np.asarray(TURNING.apply(params, graph).array)[0]
    assert np.abs(before[0, 10:]).max() > 1e-3
    np.testing.assert_allclose(after[:10], before[0, :10], atol=1e-12)
    expected = before[0, 10:].reshape(2, 3) @ turn.T
    np.testing.assert_allclose(after[10:].reshape(2, 3), expected, atol=1e-10)


def test_tables_and_irreps():
    assert to_table(from_table(to_table(TURNING))) == to_table(TURNING)
    with pytest.raises(ValueError, match="those of one embedding twice"):
        Views(irreps_out="4x0e+5x0e")
