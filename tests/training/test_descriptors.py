"""Descriptor losses by hand, and what they reward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import logsumexp

from geojax.graphs import Budget, Properties, Structure, pad, sample
from geojax.training.descriptors import (
    agreement,
    circle,
    hinge,
    in_common_frame,
    info_nce,
    pairs_of,
)
from geojax.training.losses import term_sums
from geojax.training.terms import Term

RADIUS, FAR = 0.1, 0.3
RNG = np.random.default_rng(0)


def pieces(seed: int, sizes=(6, 5)) -> Structure:
    """Parts of one cloud, each in its pose; the first three points of each are shared."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(3, 3))
    places, positions = [], []
    for size in sizes:
        place = np.concatenate([shared, rng.normal(size=(size - 3, 3))])
        place[:3] += 0.01 * rng.normal(size=(3, 3))
        turn = Rotation.random(rng=rng).as_matrix()
        places.append(place)
        positions.append((place - rng.normal(size=3)) @ turn)
    part = np.repeat(np.arange(len(sizes), dtype=float), sizes)
    labels = Properties(node_targets={"descriptor": np.concatenate(places)})
    x = np.concatenate(positions)
    return Structure(x, np.zeros(len(x), int), inputs={"part": part}, properties=labels)


ONE, TWO = pieces(1), pieces(2, (4, 5, 3))


@pytest.fixture
def batch(x64):
    made = pad([sample(s, 0.0, members=13) for s in (ONE, TWO)], Budget(26, 1, 4), np.float64)
    return jax.tree.map(jnp.asarray, made)


def descriptors(seed=3):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(26, 4)))


def by_hand(values, structure):
    """Distances of unit descriptors, which pairs are near and far, weights; in plain numpy."""
    f = values / np.linalg.norm(values, axis=1, keepdims=True)
    x, part = structure.properties.node_targets["descriptor"], structure.inputs["part"]
    gap = np.linalg.norm(x[:, None] - x[None], axis=-1)
    apart = part[:, None] != part[None]
    distance = np.linalg.norm(f[:, None] - f[None], axis=-1)
    return distance, apart & (gap < RADIUS), apart & (gap > FAR), np.clip(1 - gap / RADIUS, 0, 1)


def pairs_in(batch, values):
    places = batch.labels.node_targets["descriptor"]
    mask = batch.masks.node_targets["descriptor"]
    return pairs_of(values, places, mask, batch, radius=RADIUS, far=FAR)


@pytest.mark.slow
def test_pairs_are_those_of_different_parts(batch):
    pairs = pairs_in(batch, descriptors())
    rows = np.split(np.asarray(descriptors()), [11, 23])
    for g, structure in enumerate((ONE, TWO)):
        distance, near, far, weight = by_hand(rows[g], structure)
        n = len(structure)
        np.testing.assert_allclose(pairs.distance[g, :n, :n], distance, atol=1e-7)
        np.testing.assert_array_equal(pairs.near[g, :n, :n], near)
        np.testing.assert_array_equal(pairs.far[g, :n, :n], far)
        np.testing.assert_allclose(pairs.weight[g, :n, :n], weight, atol=1e-12)
        assert not pairs.near[g, n:].any() and not pairs.far[g, :, n:].any()
        assert near.sum() >= 6


def test_circle_loss_by_hand(batch):
    loss, known = circle(pairs_in(batch, descriptors()))
    assert known.tolist() == [True, True, False, False]
    for g, (structure, first) in enumerate(((ONE, 0), (TWO, 11))):
        values = np.asarray(descriptors())[first : first + len(structure)]
        d, near, far, weight = by_hand(values, structure)
        terms = []
        for i in range(len(structure)):
            if not (near[i].any() and far[i].any()):
                continue
            a = np.sqrt(weight[i]) * np.maximum(d[i] - 0.1, 0) * (d[i] - 0.1)
            b = np.maximum(1.4 - d[i], 0) * (1.4 - d[i])
            total = np.logaddexp.reduce(24 * a[near[i]]) + np.logaddexp.reduce(24 * b[far[i]])
            terms.append(np.logaddexp(0, total) / 24)
        np.testing.assert_allclose(loss[g], np.mean(terms), rtol=1e-6)


def test_info_nce_by_hand(batch):
    loss, _ = info_nce(pairs_in(batch, descriptors()))
    d, near, far, weight = by_hand(np.asarray(descriptors())[:11], ONE)
    logits, terms = (1 - d**2 / 2) / 0.1, []
    for i in np.flatnonzero(near.any(1) & far.any(1)):
        best = np.flatnonzero(near[i])[weight[i][near[i]].argmax()]
        there = far[i].copy()
        there[best] = True
        terms.append(logsumexp(logits[i][there]) - logits[i, best])
    np.testing.assert_allclose(loss[0], np.mean(terms), rtol=1e-6)


def of_agreement(batch, values):
    places = batch.labels.node_targets["descriptor"]
    mask = batch.masks.node_targets["descriptor"]
    return agreement(values, places, mask, batch, radius=RADIUS, far=FAR)


def test_agreement_by_hand(batch):
    values = jnp.concatenate([descriptors(), descriptors(4)], -1)
    loss, known = of_agreement(batch, values)
    unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)
    q, z = unit(np.asarray(descriptors())[:11]), unit(np.asarray(descriptors(4))[:11])
    _, near, _, weight = by_hand(z, ONE)
    errors = [
        1 - q[i] @ z[np.argmax(np.where(near[i], weight[i], -1))]
        for i in np.flatnonzero(near.any(1))
    ]
    np.testing.assert_allclose(loss[0], np.mean(errors), rtol=1e-6)
    np.testing.assert_array_equal(known, [True, True, False, False])


def test_agreement_teaches_predictions_alone(batch):
    """Zero where they are what the partner projects; no gradient through projections."""
    places = batch.labels.node_targets["descriptor"]
    same = jnp.tile(jnp.sin(places), (1, 2)) + 2
    assert np.abs(of_agreement(batch, same)[0]).max() < 1e-3  # places differ by 0.01
    gradient = jax.grad(lambda f: of_agreement(batch, f)[0].sum())
    found = gradient(jnp.concatenate([descriptors(), descriptors(4)], -1))
    assert np.abs(found[:, :4]).max() > 0 and not found[:, 4:].any()
    assert np.isfinite(gradient(jnp.zeros((26, 8)))).all()
    with pytest.raises(ValueError, match="side by side; got 3 components"):
        of_agreement(batch, descriptors()[:, :3])


@pytest.mark.parametrize("loss", [circle, info_nce, hinge])
def test_what_knows_places_loses_less_and_descent_finds_it(batch, loss):
    """Features of the true place, against random ones; and gradients that lead there."""
    places = batch.labels.node_targets["descriptor"]
    frequencies = jnp.asarray(np.random.default_rng(5).normal(size=(3, 12)))
    waves = places @ frequencies
    knows = jnp.concatenate([jnp.sin(waves), jnp.cos(waves)], -1)
    value = jax.jit(lambda f: loss(pairs_in(batch, f))[0].sum())
    random = jnp.asarray(np.random.default_rng(6).normal(size=knows.shape))
    assert value(knows) < 0.6 * value(random)
    gradient = jax.jit(jax.grad(value))
    moved = random
    for _ in range(20):
        moved = moved - 2.0 * gradient(moved)
    assert value(moved) < value(random)
    equal = jnp.ones_like(knows)  # no distance at all: derivatives stay finite
    assert np.isfinite(gradient(equal)).all() and np.isfinite(gradient(0 * equal)).all()


@pytest.mark.slow
def test_vectors_are_turned_as_their_part_is(batch):
    """Arms of points are the same vectors in the common frame, whatever the poses."""
    places = batch.labels.node_targets["descriptor"]
    x = batch.graph.nodes["positions"]
    arms = lambda p: jnp.concatenate([p - jnp.roll(p, 1, 0), p - jnp.roll(p, 2, 0)], -1)
    mask = batch.masks.node_targets["descriptor"]
    found = in_common_frame(arms(x), places, mask, batch)
    inside = np.array([2, 3, 4, 5, 8, 9, 10])  # both neighbours are of the same part
    np.testing.assert_allclose(found[inside], arms(places)[inside], atol=1e-10)


@pytest.mark.slow
def test_losses_by_name(batch):
    for kind in ("circle", "info-nce", "directions", "agreement"):
        term = Term("node_targets.descriptor", kind=kind, radius=RADIUS, far=FAR)
        values = jnp.concatenate([descriptors(), descriptors(4)], -1)[:, :6]
        guess = Properties(node_targets={"descriptor": values})
        total, count = term_sums(guess, batch, [term])["node_targets.descriptor"]
        assert count == 2 and total > 0
    wide = Term("node_targets.descriptor", kind="circle", radius=RADIUS)
    narrow = Term("node_targets.descriptor", kind="circle", radius=RADIUS, far=2 * RADIUS)
    sums = [term_sums(guess, batch, [t])["node_targets.descriptor"][0] for t in (wide, narrow)]
    assert sums[0] == sums[1]


def test_structures_without_parts_are_refused(batch):
    nodes = {k: v for k, v in batch.graph.nodes.items() if k != "part"}
    alone = batch._replace(graph=batch.graph._replace(nodes=nodes))
    with pytest.raises(KeyError, match="told by the node input 'part'"):
        pairs_in(alone, descriptors())
