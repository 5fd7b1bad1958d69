"""What turns turns together, what is left out is left out, and every pass is another one."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax import so3
from geojax.graphs import Batch, Budget, Properties, Structure, graph_of_nodes, pad, sample
from geojax.networks import EGNN, PointNet
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.training.augment import (
    AUGMENTATIONS,
    Crop,
    Jitter,
    Rotation,
    Scale,
    Thin,
    augment,
    augmentations_from_tables,
    augmenter,
)
from geojax.training.loop import Options
from geojax.training.turning import Turning
from tests.training.test_step import assert_same_bits, run_of

KEY = jax.random.key(4)
IDS = jnp.array([7, -1, 2], jnp.int32)
TURNING = Turning(("normals",), {"targets.moments": "2x1o+2e+1e", "node_targets.arm": "1o"})


def cloud(n: int, seed: int) -> Structure:
    """With labels that turn: sums of what turns, and the arms of points."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    x -= x.mean(0)
    inputs = {"normals": rng.normal(size=(n, 3)), "weight": rng.uniform(size=n)}
    return Structure(x, np.zeros(n, int), inputs=inputs)


def labelled(batch: Batch) -> Batch:
    """With the labels that belong to the positions and normals of the batch."""
    graph = batch.graph
    x, n = graph.nodes["positions"], graph.nodes["normals"]
    total = lambda v: jax.ops.segment_sum(v, graph_of_nodes(graph), len(graph.n_node))
    weight = graph.nodes["weight"][:, None]
    quadratic = so3.harmonics(x, 2, normalize=False)[:, 4:9]
    parts = [total(weight * x), total(weight * n), total(quadratic), total(jnp.cross(x, n))]
    rank_two = total((x[:, :, None] * x[:, None]).reshape(-1, 9)).reshape(-1, 3, 3)
    labels = Properties(
        energy=total(jnp.sum(x * x, -1, keepdims=True))[:, 0],
        forces=-2 * x,
        stress=rank_two,
        targets={"moments": jnp.concatenate(parts, -1)},
        node_targets={"arm": x + n},
    )
    masks = jax.tree.map(lambda v: jnp.ones(v.shape[:1], bool), labels)
    return Batch(graph, labels, masks)


@pytest.fixture
def batch(x64) -> Batch:
    samples = [sample(cloud(n, n), 0.0) for n in (9, 6)]
    made = pad(samples, Budget(20, 1, 4), np.dtype("float64"))
    made = jax.tree.map(jnp.asarray, made)
    n_node = jnp.array([9, 0, 6, 5], jnp.int32)  # the second place is empty
    return labelled(made._replace(graph=made.graph._replace(n_node=n_node)))


@cache
def program(*steps: Any):
    return jax.jit(partial(augment, steps=steps, turning=TURNING))


def changed(batch: Batch, *steps: Any, ids=IDS, key=KEY) -> Batch:
    return program(*steps)(batch, ids, key)


@pytest.mark.parametrize("rotation", [Rotation(), Rotation("y"), Rotation(improper=True)])
def test_labels_and_inputs_turn_with_the_positions(batch, rotation):
    after = changed(batch, rotation)
    graph = batch.graph
    assert np.abs(after.graph.nodes["positions"] - graph.nodes["positions"])[:15].max() > 0.1
    expected = labelled(after).labels
    for found, wanted in zip(jax.tree.leaves(after.labels), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-12)
    for name in ("weight", "species"):
        np.testing.assert_array_equal(after.graph.nodes[name], graph.nodes[name])
    if rotation.axis:
        upright = lambda b: b.graph.nodes["positions"][:, 1]
        np.testing.assert_allclose(upright(after), upright(batch), atol=1e-12)


@pytest.mark.slow
def test_a_crystal_turns_with_its_cell(x64):
    crystal = Structure(np.eye(3)[:2], np.ones(2, int), 3 * np.eye(3), (True, True, True))
    made = jax.tree.map(jnp.asarray, pad([sample(crystal, 4.0)], Budget(4, 99, 2), np.float64))
    steps = {"steps": [Rotation()], "turning": Turning()}
    after = augment(made, jnp.zeros(1, jnp.int32), KEY, **steps).graph
    cell = after.globals["cell"][0]
    np.testing.assert_allclose(cell @ cell.T, 9 * np.eye(3), atol=1e-12)
    network = EGNN(cutoff=4.0, channels=4, elements=(1,), average_neighbors=9.0)
    params = jax.jit(network.init)(jax.random.key(0), made.graph)
    run = predict_fn(network, [Output()])
    np.testing.assert_allclose(run(params, after).energy, run(params, made.graph).energy)


def test_rotations_are_uniform_and_half_of_the_improper_ones_mirror(x64):
    keys = jax.random.split(KEY, 4000)
    graph = jax.vmap(lambda key: Rotation(improper=True)._matrix(key, jnp.float64))(keys)
    signs = np.linalg.det(np.asarray(graph))
    np.testing.assert_allclose(np.abs(signs), 1, atol=1e-12)
    assert abs(np.mean(signs)) < 0.05
    traces = np.trace(np.asarray(graph) * signs[:, None, None], axis1=1, axis2=2)
    assert abs(traces.mean()) < 0.05 and abs((traces**2).mean() - 1) < 0.05  # Haar: 0 and 1


def test_a_structure_is_changed_by_its_number_and_the_pass_alone(batch):
    """Not by its place: the third is the same wherever the first is, and other in another pass."""
    steps = Rotation(), Jitter()
    first, second = changed(batch, *steps), changed(batch, *steps, ids=IDS.at[0].set(5))
    rows = lambda b: np.asarray(b.graph.nodes["positions"])
    np.testing.assert_array_equal(rows(first)[9:15], rows(second)[9:15])
    assert np.abs(rows(first) - rows(second))[:9].max() > 0.1
    third = changed(batch, *steps, key=jax.random.key(5))
    assert np.abs(rows(first) - rows(third))[9:15].max() > 0.1
    same = changed(batch, *steps, ids=jnp.array([2, -1, 2], jnp.int32))
    twice = batch.graph.nodes["positions"].at[:6].set(batch.graph.nodes["positions"][9:15])
    nodes = {**batch.graph.nodes, "positions": twice}
    n_node = jnp.array([6, 3, 6, 5], jnp.int32)
    moved = batch._replace(graph=batch.graph._replace(nodes=nodes, n_node=n_node))
    moved = changed(moved, *steps, ids=jnp.array([2, -1, 2], jnp.int32))
    np.testing.assert_array_equal(rows(moved)[:6], rows(same)[9:15])


def test_jitter_is_normal_and_clipped(batch):
    moves = []
    for i in range(40):
        after = changed(batch, Jitter(std=0.1, clip=0.15), key=jax.random.key(i))
        moves.append(after.graph.nodes["positions"] - batch.graph.nodes["positions"])
    moves = np.stack(moves)[:, :15]
    assert np.abs(moves).max() == pytest.approx(0.15)
    assert abs(moves.mean()) < 0.01
    inside = np.abs(moves) < 0.1499
    assert abs(inside.mean() - 0.8664) < 0.03  # of a normal distribution within 1.5 deviations


@pytest.mark.parametrize("each", [False, True])
def test_scale(batch, each):
    after = changed(batch, Scale(0.5, 2.0, each=each))
    rows = lambda b: np.asarray(b.graph.nodes["positions"])[:15]  # without padding, which is zero
    ratio = rows(after) / rows(batch)
    for rows in (slice(0, 9), slice(9, 15)):
        np.testing.assert_allclose(ratio[rows], np.tile(ratio[rows][:1], (len(ratio[rows]), 1)))
        assert 0.5 <= ratio[rows].min() <= ratio[rows].max() <= 2
    assert (np.ptp(ratio[0]) > 0.01) == each
    assert abs(ratio[0, 0] - ratio[9, 0]) > 1e-3


@pytest.mark.parametrize("step", [Thin(0.9), Crop(0.9)])
def test_copies_of_others_take_the_place_of_what_is_left_out(batch, step):
    left, before = [], np.asarray(batch.graph.nodes["positions"])
    for i in range(30):
        after = changed(batch, step, key=jax.random.key(i))
        x = np.asarray(after.graph.nodes["positions"])
        for rows in (slice(0, 9), slice(9, 15)):
            index = [int(np.flatnonzero((before[rows] == p).all(1))[0]) for p in x[rows]]
            kept, copies = np.unique(index, return_counts=True)
            left.append(1 - len(kept) / len(index))
            assert copies.max() - copies.min() <= 1
            assert (np.asarray(index)[kept] == kept).all()
            arms = np.asarray(after.labels.node_targets["arm"])[rows]
            np.testing.assert_array_equal(
                arms, np.asarray(batch.labels.node_targets["arm"])[rows][index]
            )
    assert min(left) == 0 and max(left) > 0.7 and abs(np.mean(left) - 0.4) < 0.1


@pytest.mark.parametrize("step", [Thin(0.9), Crop(0.9)])
def test_parts_stay_in_their_order_and_are_thinned_each_by_itself(step):
    """Two clouds of a pair: no point of one stands for a point of the other."""

    def pair(sizes, seed):
        found = cloud(sum(sizes), seed)
        return found.replace(inputs={**found.inputs, "part": np.repeat([0.0, 1.0], sizes)})

    samples = [sample(pair(sizes, i), 0.0) for i, sizes in enumerate([(5, 4), (2, 6)])]
    batch = jax.tree.map(jnp.asarray, pad(samples, Budget(20, 1, 4)))
    before, part = (np.asarray(batch.graph.nodes[name]) for name in ("positions", "part"))
    ids, gone = jnp.array([7, 2, -1], jnp.int32), 0
    for i in range(20):
        steps = {"steps": (step,), "turning": Turning((), {})}
        after = augment(batch, ids, jax.random.key(i), **steps).graph.nodes
        np.testing.assert_array_equal(after["part"], part)
        x = np.asarray(after["positions"])
        for rows in (slice(0, 5), slice(5, 9), slice(9, 11), slice(11, 17)):
            there = {tuple(p) for p in x[rows]}
            assert there <= {tuple(p) for p in before[rows]}
            gone += rows.stop - rows.start - len(there)
    assert gone > 60


def test_a_crop_leaves_a_half_space(batch):
    """What is left and what is left out are on two sides of a plane."""
    from scipy.optimize import linprog

    before = np.asarray(batch.graph.nodes["positions"])[:9]
    after = np.asarray(changed(batch, Crop(0.8), key=jax.random.key(3)).graph.nodes["positions"])
    kept = np.array([(after[:9] == p).all(1).any() for p in before])
    assert 1 < kept.sum() < 8
    sides = np.where(kept, 1, -1)[:, None] * np.concatenate([before, np.ones((9, 1))], 1)
    free = [(None, None)] * 4
    assert linprog(np.zeros(4), A_ub=-sides, b_ub=-np.ones(9), bounds=free).status == 0


def test_tables_say_what_is_wrong_with_them():
    made = augmentations_from_tables([{"kind": "rotation", "axis": "y"}, Jitter(0.1)])
    assert made == (Rotation("y"), Jitter(0.1))
    assert Options(augment=({"kind": "thin"},)).augment == (Thin(),)
    for table, error, message in [
        ({"kind": "rotate"}, KeyError, "did you mean 'rotation'"),
        ({"kind": "rotation", "axes": "y"}, KeyError, "did you mean 'axis'"),
        ({"kind": "rotation", "axis": "up"}, ValueError, "x, y or z, or none for any; got 'up'"),
        ({"kind": "jitter", "std": -1.0}, ValueError, "std of jitter is a positive number; got -1"),
        ({"kind": "crop", "most": 1.0}, ValueError, "a share between 0 and 1 at most; got most=1"),
        ("rotation", ValueError, "a table with its kind; got 'rotation'"),
    ]:
        with pytest.raises(error, match=message):
            augmentations_from_tables([table])


def test_edges_that_would_be_wrong_are_refused():
    assert augmenter([], EGNN(cutoff=3.0), [Output()]) is None
    assert augmenter([Rotation()], EGNN(cutoff=3.0), [Output()])
    assert augmenter([Rotation(), Jitter(), Scale()], EGNN(nearest=4), [Output()])
    assert augmenter([kind() for kind in AUGMENTATIONS.values()], PointNet(), [Output()])
    with pytest.raises(ValueError, match="jitter would make those of EGNN wrong; .* no cutoff"):
        augmenter([Jitter()], EGNN(cutoff=3.0), [Output()])
    with pytest.raises(ValueError, match="thin would make .* finds its neighbours itself"):
        augmenter([Thin()], EGNN(nearest=4), [Output()])


def test_poses_turn_only_where_it_is_said_how(batch):
    pose = lambda irreps: Output("targets.pose", irreps, pool="mean", rotation="6d")
    with pytest.raises(ValueError, match="not known how the label of 'targets.pose' turns"):
        augmenter([Rotation()], PointNet(), [pose("6x0e")])
    change: Any = augmenter([Rotation()], PointNet(), [pose("2x1o")])
    turns = so3.random_rotation(jax.random.key(8), (4,), dtype=jnp.float64)
    labels = Properties(targets={"pose": turns})
    after = change(batch._replace(labels=labels), IDS, KEY)
    x, y = batch.graph.nodes["positions"][:3], after.graph.nodes["positions"][:3]
    turn = jnp.linalg.solve(x, y).T
    np.testing.assert_allclose(after.labels.targets["pose"][0], turn @ turns[0], atol=1e-10)


def test_vectors_and_labels_of_a_network_are_found():
    network = EGNN(velocity="v", axes=("n",))
    made: Any = augmenter(
        [Rotation()],
        network,
        [
            Output("targets.dipole", "0e+1o", pool="dipole"),
            Output("targets.length", "1o", norm=True),
            Output("node_targets.end", "1o", relative_to="start"),
        ],
    )
    assert made.keywords["turning"] == Turning(
        ("v", "n", "start"), {"targets.dipole": "1o", "node_targets.end": "1o"}
    )


@pytest.mark.slow
def test_fused_steps_equal_single_steps_and_passes_differ(problem):
    p = problem()
    change = augmenter([Rotation(improper=True)], p.network, [Output()])
    order, store, state, _, epoch = run_of(p, p.terms, augment=change)
    run = lambda s, i, j: epoch(
        s, store, np.int32(len(p.train)), np.int32(0), np.int32(i), np.int32(j)
    )
    steps = 2 * order.steps
    fused = run(state, 0, steps)[0]
    single = state
    for i in range(steps):
        single = run(single, i, i + 1)[0]
    assert_same_bits(fused, single)
    _, _, _, _, plain = run_of(p, p.terms)
    arguments = store, np.int32(len(p.train)), np.int32(0), np.int32(0), np.int32(steps)
    _, losses, _ = plain(state, *arguments)
    np.testing.assert_allclose(run(state, 0, steps)[1][0], losses[0], rtol=1e-4)  # EGNN keeps E(3)
