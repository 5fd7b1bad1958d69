"""A backbone on each part: what it sees, and what it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample, split_parts
from geojax.networks import EGNN, PointNet, Siamese, from_table, to_table
from geojax.networks.network import input_shapes

SMALL = Siamese(backbone=PointNet(widths=(6, 8), head=()), features=5, head=(7,), irreps_out="4x0e")
INVARIANT = Siamese(
    backbone=EGNN(nearest=4, channels=5, layers=1), features=3, head=(6,), irreps_out="2x0e"
)


def pair(seed: int, sizes=(8, 6)) -> Structure:
    rng = np.random.default_rng(seed)
    part = np.repeat(np.arange(len(sizes), dtype=float), sizes)
    return Structure(
        rng.normal(size=(len(part), 3)), np.zeros(len(part), int), inputs={"part": part}
    )


def graph_of(network, *structures):
    samples = [sample(s, network.cutoff, nearest=network.nearest) for s in structures]
    return jax.tree.map(jnp.asarray, pad(samples, Budget(40, 160, 4), np.float64)).graph


def ready(network, *structures):
    graph = graph_of(network, *structures)
    params = jax.tree.map(np.asarray, jax.jit(network.init)(jax.random.key(0), graph))
    return graph, params, np.asarray(jax.jit(network.apply)(params, graph).array)


@pytest.mark.slow
def test_it_is_the_backbone_on_each_part_and_a_perceptron(x64):
    graph, params, found = ready(SMALL, pair(0), pair(1))
    tree = params["params"]
    backbone = SMALL.backbone
    assert backbone.irreps_out == "5x0e" and SMALL.cutoff == 0
    rows = backbone.apply({"params": tree["backbone"]}, split_parts(graph, 2)).array
    joined = np.concatenate([rows[0], rows[8]])  # the first graph's parts
    y = joined @ tree["affine_0"]["kernel"] + tree["affine_0"]["bias"]
    y = (y - y.mean()) / np.sqrt(y.var() + 1e-5) * tree["norm_0"]["gain"] + tree["norm_0"]["shift"]
    y = np.maximum(y, 0) @ tree["output"]["kernel"] + tree["output"]["bias"]
    np.testing.assert_allclose(found[:14], np.tile(y, (14, 1)), atol=1e-12)
    assert np.abs(found[14] - found[0]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("network", [SMALL, INVARIANT])
def test_parts_may_be_moved_and_their_points_listed_otherwise(network, x64):
    first, second = pair(0), pair(1)
    _, params, before = ready(network, first, second)
    rng = np.random.default_rng(3)
    order = np.concatenate([rng.permutation(8), 8 + rng.permutation(6)])
    x = first.positions + np.where(first.inputs["part"][:, None] == 1, 9.0, -2.0)
    moved = first.replace(positions=x[order])
    after = jax.jit(network.apply)(params, graph_of(network, moved, second)).array
    np.testing.assert_allclose(after[:14], before[:14], atol=1e-10)
    np.testing.assert_allclose(after[14:28], before[14:28], atol=1e-12)


def test_how_parts_are_turned_is_seen_as_far_as_the_backbone_sees_it(x64):
    turn = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    structure = pair(0)
    second = structure.inputs["part"][:, None] == 1
    turned = structure.replace(
        positions=np.where(second, structure.positions @ turn, structure.positions)
    )
    for network, differs in [(SMALL, True), (INVARIANT, False)]:
        _, params, before = ready(network, structure)
        after = jax.jit(network.apply)(params, graph_of(network, turned)).array
        assert (np.abs(after - before)[:14].max() > 1e-3) == differs


def test_the_order_of_parts_matters(x64):
    structure = pair(0)
    _, params, before = ready(SMALL, structure)
    swapped = np.roll(np.arange(14), 6)
    other = Structure(
        structure.positions[swapped],
        structure.species,
        inputs={"part": np.repeat([0.0, 1], [6, 8])},
    )
    after = jax.jit(SMALL.apply)(params, graph_of(SMALL, other)).array
    assert np.abs(after - before)[:14].max() > 1e-3


def test_its_inputs_are_known_where_it_is_loaded():
    assert input_shapes(SMALL) == {"part": ()}


def test_tables_round_trip_and_structures_without_parts_are_refused():
    assert from_table(to_table(SMALL)) == SMALL
    cloud = Structure(np.eye(3), np.zeros(3, int))
    with pytest.raises(KeyError, match="told by the node input 'part'"):
        jax.jit(SMALL.init)(jax.random.key(0), graph_of(SMALL, cloud))
