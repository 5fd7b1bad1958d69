"""One cloud of a pair turns, and with it the pose between the two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax import so3
from geojax.datasets.pairs import random_rotation_matrix, registration_pair
from geojax.graphs import Budget, Properties, Structure, pad, sample
from geojax.training.augment import Rotation, augment
from geojax.training.turning import Turning, partner_turned

TURNING = Turning(
    ("normals",),
    {"targets.rotation": "6x0e", "targets.translation": "1o", "node_targets.arm": "1o"},
)


def pair(seed: int) -> Structure:
    """A cloud and itself in another pose, with arms that turn with each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(15, 3))
    rotation, translation = random_rotation_matrix(rng), rng.normal(size=3)
    clouds = [
        Structure(y, np.zeros(15, int), inputs={"normals": n})
        for y, n in ((x, np.sin(x)), (x @ rotation.T + translation, np.sin(x) @ rotation.T))
    ]
    made = registration_pair(*clouds, rotation, translation)
    arms = {"arm": 2 * made.inputs["normals"]}
    return made.replace(properties=made.properties._replace(node_targets=arms))


@pytest.fixture
def batch(x64):
    samples = [sample(pair(seed), 0.0) for seed in (0, 1)]
    return jax.tree.map(jnp.asarray, pad(samples, Budget(70, 1, 3), np.dtype("float64")))


def clouds(batch, g: int):
    """Positions and normals of both clouds of a graph, and its pose."""
    first = int(batch.graph.n_node[:g].sum())
    rows = slice(first, first + int(batch.graph.n_node[g]))
    nodes = {k: np.asarray(v)[rows] for k, v in batch.graph.nodes.items()}
    arms = np.asarray(batch.labels.node_targets["arm"])[rows]
    apart = [{k: v[nodes["part"] == i] for k, v in (nodes | {"arm": arms}).items()} for i in (0, 1)]
    targets = batch.labels.targets
    return *apart, np.asarray(targets["rotation"])[g], np.asarray(targets["translation"])[g]


def mismatch(source, target, rotation, translation) -> float:
    """How far the points of the moved source are from the target, a nearest one each."""
    moved = source["positions"] @ rotation.T + translation
    return np.linalg.norm(moved[:, None] - target["positions"][None], axis=-1).min(0).max()


def test_the_pose_turns_with_the_second_cloud(batch):
    matrices = jax.vmap(so3.random_rotation)(jax.random.split(jax.random.key(0), 3))
    after = partner_turned(batch, matrices.astype(jnp.float64), TURNING)
    for g in (0, 1):
        source, target, rotation, translation = clouds(after, g)
        before = clouds(batch, g)
        assert mismatch(*before) < 1e-12
        assert mismatch(source, target, rotation, translation) < 1e-12
        assert mismatch(source, target, before[2], translation) > 0.1
        np.testing.assert_allclose(rotation, np.asarray(matrices[g]) @ before[2], atol=1e-12)
        np.testing.assert_array_equal(source["normals"], before[0]["normals"])
        np.testing.assert_allclose(target["arm"], 2 * target["normals"], atol=1e-12)
        both = np.concatenate([source["positions"], target["positions"]])
        np.testing.assert_allclose(both.mean(0), 0, atol=1e-12)


def test_rotations_of_a_list_are_the_same_in_every_pass(batch):
    ids, few = jnp.array([3, 8], jnp.int32), Rotation(partner=True, choices=2)
    found = set()
    for epoch in range(6):
        after = augment(batch, ids, jax.random.key(epoch), steps=[few], turning=TURNING)
        for g in (0, 1):
            turn = clouds(after, g)[2] @ clouds(batch, g)[2].T
            found.add(tuple(np.round(turn, 9).ravel().tolist()))
    assert len(found) == 2


def test_the_whole_pair_turns_with_its_pose_conjugated(batch):
    after = augment(
        batch,
        jnp.arange(2, dtype=jnp.int32),
        jax.random.key(1),
        steps=[Rotation()],
        turning=TURNING,
    )
    for g in (0, 1):
        assert mismatch(*clouds(after, g)) < 1e-12


def test_what_is_no_pose_is_refused(batch):
    eye = jnp.broadcast_to(jnp.eye(3), (3, 3, 3))
    labels = Properties(targets={"quadrupole": jnp.zeros((3, 5))})
    with pytest.raises(
        ValueError, match=r"a rotation \[3, 3\] and a vector; got targets.quadrupole"
    ):
        partner_turned(
            batch._replace(labels=labels), eye, Turning((), {"targets.quadrupole": "2e"})
        )
    with pytest.raises(ValueError, match="those of a partner are proper"):
        Rotation(partner=True, improper=True)
