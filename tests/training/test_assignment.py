"""Assignment and moments of balls as losses: by hand in numpy, masks, poses, gradients, descent."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import logsumexp

from geojax.graphs import Budget, Properties, Structure, pad, sample
from geojax.training.assignment import sinkhorn, ume
from geojax.training.losses import LOSSES, term_sums
from geojax.training.terms import Term

RADIUS, FAR, BALL, WIDTH = 0.1, 0.3, 2.5, 3
SIZES = ((14, 12), (11, 15))  # points of source and target in the two structures
FIRST = (0, 26, 52)
NODES, MEMBERS = 60, 28


def pair_of_clouds(seed: int, sizes: tuple[int, ...], shared: int = 8) -> Structure:
    """Clouds in their poses that share some places, nearly; one point is between near and far."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(shared, 3))
    places, positions = [], []
    for size in sizes:
        place = np.concatenate([common, 2 * rng.normal(size=(size - shared, 3))])
        place[:shared] += 0.01 * rng.normal(size=(shared, 3))
        places.append(place)
        positions.append((place - rng.normal(size=3)) @ Rotation.random(rng=rng).as_matrix())
    places[1][0] = places[0][0] + [0.2, 0, 0]
    part = np.repeat(np.arange(len(sizes), dtype=float), sizes)
    labels = Properties(node_targets={"descriptor": np.concatenate(places)})
    x = np.concatenate(positions)
    return Structure(x, np.zeros(len(x), int), inputs={"part": part}, properties=labels)


PAIRS = [pair_of_clouds(seed, sizes) for seed, sizes in enumerate(SIZES)]


def batch_of(structures, nodes=NODES):
    made = pad([sample(s, 0.0, members=MEMBERS) for s in structures], Budget(nodes, 1, 4), float)
    return jax.tree.map(jnp.asarray, made)


def descriptors(seed=3, rows=NODES):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(rows, WIDTH)))


def clouds_of(structure, values, known=None):
    """Descriptors and places of source and target, and the distances between places."""
    part, places = structure.inputs["part"], structure.properties.node_targets["descriptor"]
    known = np.ones(len(part), bool) if known is None else known
    source, target = ((part == k) & known for k in (0, 1))
    gap = np.linalg.norm(places[source][:, None] - places[target][None], axis=-1)
    return values[source], values[target], places[source], places[target], gap


def assignment_by_hand(structure, values, dustbin, known=None):
    """The loss from plain scaling of rows and columns in turn."""
    f, g, _, _, gap = clouds_of(structure, values, known)
    mass = np.append(np.ones(len(f)), len(g)), np.append(np.ones(len(g)), len(f))
    plain = np.exp(np.pad(f @ g.T / np.sqrt(WIDTH), (0, 1), constant_values=dustbin))
    for _ in range(100):
        plain *= (mass[0] / plain.sum(1))[:, None]
        plain *= mass[1] / plain.sum(0)
    terms = [-np.log(plain[i, j]) for i, j in zip(*np.nonzero(gap < RADIUS), strict=True)]
    terms += [-np.log(plain[i, -1]) for i in np.flatnonzero((gap > FAR).all(1))]
    terms += [-np.log(plain[-1, j]) for j in np.flatnonzero((gap > FAR).all(0))]
    return np.mean(terms), len(terms)


def farthest(x, count):
    chosen = [np.linalg.norm(x - x.mean(0), axis=1).argmax()]
    while len(chosen) < min(count, len(x)):
        chosen.append(np.linalg.norm(x[:, None] - x[chosen][None], axis=-1).min(1).argmax())
    return x[chosen]


def moments_by_hand(structure, values, keys):
    """The loss from projectors of every pair of balls."""
    f, g, x, y, gap = clouds_of(structure, values)
    centres = farthest(x[(gap < RADIUS).any(1)], keys)
    projectors = []
    for features, places in ((f, x), (g, y)):
        features = np.concatenate([np.maximum(features, 0), np.maximum(-features, 0)], 1)
        for centre in centres:
            inside = np.linalg.norm(places - centre, axis=1) <= BALL
            full = np.concatenate([np.ones((inside.sum(), 1)), places[inside]], 1)
            moments = features[inside].T @ full
            q = np.linalg.qr(moments)[0]
            good = len(moments) >= 4 and np.linalg.matrix_rank(moments, tol=1e-6) == 4
            projectors.append(q @ q.T if good else None)
    one, two = projectors[: len(centres)], projectors[len(centres) :]
    good = [k for k in range(len(centres)) if one[k] is not None and two[k] is not None]
    distance = lambda a, b: np.linalg.norm(one[a] - two[b]) / np.sqrt(2)
    terms = []
    for k in good:
        away = [m for m in good if np.linalg.norm(centres[m] - centres[k]) > FAR]
        if away:
            right = (1 - distance(k, k)) / 0.1
            for pairs in ([(k, m) for m in [k, *away]], [(m, k) for m in [k, *away]]):
                terms.append(logsumexp([(1 - distance(*p)) / 0.1 for p in pairs]) - right)
    return np.mean(terms), len(terms) / 2


def assignment_loss(values, batch, mask=None, dustbin=0.7):
    places = batch.labels.node_targets["descriptor"]
    mask = batch.masks.node_targets["descriptor"] if mask is None else mask
    return sinkhorn(values, places, mask, batch, radius=RADIUS, far=FAR, dustbin=dustbin)


def moments_loss(values, batch, keys=5):
    places = batch.labels.node_targets["descriptor"]
    mask = batch.masks.node_targets["descriptor"]
    return ume(values, places, mask, batch, radius=RADIUS, far=FAR, ball=BALL, keys=keys)


ASSIGNMENT, MOMENTS = jax.jit(assignment_loss), jax.jit(moments_loss, static_argnames="keys")


@pytest.fixture
def batch(x64):
    return batch_of(PAIRS)


def test_assignment_by_hand(batch):
    loss, known = ASSIGNMENT(descriptors(), batch)
    assert known.tolist() == [True, True, False, False]
    for g, structure in enumerate(PAIRS):
        values = np.asarray(descriptors())[FIRST[g] : FIRST[g + 1]]
        expected, number = assignment_by_hand(structure, values, 0.7)
        assert number == 7 + (SIZES[g][0] - 8) + (SIZES[g][1] - 8)  # one asks for nothing
        np.testing.assert_allclose(loss[g], expected, rtol=1e-9)


def test_points_without_a_label_have_no_part(batch):
    mask = np.asarray(batch.masks.node_targets["descriptor"]).copy()
    mask[[2, 16, 26 + 3]] = False
    filled = jnp.where(mask[:, None], descriptors(), 1e3)
    loss, _ = ASSIGNMENT(filled, batch, jnp.asarray(mask))
    for g, structure in enumerate(PAIRS):
        rows = slice(FIRST[g], FIRST[g + 1])
        values = np.asarray(descriptors())[rows]
        expected, _ = assignment_by_hand(structure, values, 0.7, mask[rows])
        np.testing.assert_allclose(loss[g], expected, rtol=1e-9)


def test_moments_by_hand(batch):
    loss, known = MOMENTS(descriptors(), batch)
    assert known.tolist() == [True, True, False, False]
    for g, structure in enumerate(PAIRS):
        values = np.asarray(descriptors())[FIRST[g] : FIRST[g + 1]]
        expected, number = moments_by_hand(structure, values, 5)
        assert number >= 3
        np.testing.assert_allclose(loss[g], expected, rtol=1e-8)


def test_neither_the_frame_nor_the_order_of_points_matters(batch):
    """Labels in another frame that both clouds share, and points of a cloud listed otherwise."""
    rng = np.random.default_rng(7)
    order = np.concatenate([rng.permutation(14), 14 + rng.permutation(12)])
    turn, shift = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
    labels = PAIRS[0].properties.node_targets["descriptor"][order] @ turn.T + shift
    mixed = dataclasses.replace(
        PAIRS[0],
        positions=PAIRS[0].positions[order],
        properties=Properties(node_targets={"descriptor": labels}),
    )
    rows = np.concatenate([order, np.arange(26, NODES)])
    for loss in (ASSIGNMENT, MOMENTS):
        expected, _ = loss(descriptors(), batch)
        found, _ = loss(descriptors()[rows], batch_of([mixed, PAIRS[1]]))
        np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [assignment_loss, partial(moments_loss, keys=8)])
def test_what_knows_places_loses_less_and_descent_finds_it(x64, loss):
    """Features of the place, against random ones; and gradients that lead on, always finite."""
    batch = batch_of([pair_of_clouds(1, (14, 14), 13)])
    places = batch.labels.node_targets["descriptor"]
    waves = places @ jnp.asarray(np.random.default_rng(5).normal(size=(3, 6)))
    knows = 3 * jnp.concatenate([jnp.sin(waves), jnp.cos(waves)], -1)
    random = jnp.asarray(np.random.default_rng(6).normal(size=knows.shape))
    both = jax.jit(jax.value_and_grad(lambda f: loss(f, batch)[0].sum()))
    start, _ = both(random)
    assert both(knows)[0] < 0.7 * start
    moved = random
    for _ in range(20):
        moved = moved - 1.0 * both(moved)[1]
    assert both(moved)[0] < 0.9 * start
    for bad in (jnp.ones_like(knows), jnp.zeros_like(knows)):  # no rank, no distance
        assert np.isfinite(both(bad)[0]) and np.isfinite(both(bad)[1]).all()


@pytest.mark.slow
def test_moments_of_copies_are_found_by_any_features(x64):
    """Balls of copies with equal features have no distance; those of other features have one."""
    rng = np.random.default_rng(9)
    x, f = rng.normal(size=(13, 3)), rng.normal(size=(13, 4))
    part = np.repeat([0.0, 1.0], 13)
    labels = Properties(node_targets={"descriptor": np.tile(x, (2, 1))})
    turned = np.concatenate([x, x @ Rotation.random(rng=rng).as_matrix() + 3])
    copies = batch_of(
        [Structure(turned, np.zeros(26, int), inputs={"part": part}, properties=labels)], nodes=27
    )
    values = jnp.asarray(np.concatenate([f, f, f[:1]]))
    loss, known = MOMENTS(values, copies)
    others, _ = MOMENTS(values.at[:13].set(f[::-1]), copies)
    assert known[0] and 20 * loss[0] < others[0]
    slope = jax.jit(jax.grad(lambda f: moments_loss(f, copies)[0].sum()))(values)
    assert np.isfinite(slope).all() and np.abs(slope).max() > 1e-4


def test_features_of_rank_less_than_four_have_no_part(batch):
    """All points have the same descriptor: nothing is known, and nothing is lost."""
    loss, known = MOMENTS(jnp.ones((NODES, WIDTH)), batch)
    assert not known.any() and not loss.any()


def test_losses_by_name(batch):
    assert {"sinkhorn", "ume"} <= set(LOSSES)
    guess = Properties(node_targets={"descriptor": descriptors()})
    for kind, expected in (("sinkhorn", ASSIGNMENT), ("ume", MOMENTS)):
        of = partial(Term, "node_targets.descriptor", kind=kind, dustbin=0.7)
        term = of(radius=RADIUS, far=FAR, ball=BALL)
        total, count = jax.jit(partial(term_sums, terms=[term]))(guess, batch)[term.property]
        keys = {"keys": 32} if kind == "ume" else {}
        wanted, known = expected(descriptors(), batch, **keys)
        assert count == known.sum() == 2
        np.testing.assert_allclose(total, wanted[:2].sum(), rtol=1e-12)


def test_a_third_cloud_is_refused_as_nan(x64):
    three = batch_of([pair_of_clouds(4, (9, 9, 9)), PAIRS[0]])
    with jax.debug_nans(False):
        for loss in (ASSIGNMENT, MOMENTS):
            found, known = loss(descriptors(), three)
            assert np.isnan(found[0]) and np.isfinite(found[1]) and known[:2].all()


def test_bad_terms_are_refused(batch):
    with pytest.raises(ValueError, match="positive radius; got ball=-1"):
        Term("node_targets.descriptor", kind="ume", ball=-1.0)
    with pytest.raises(ValueError, match="compares descriptors of points"):
        Term("energy", kind="sinkhorn")
    with pytest.raises(
        ValueError, match=r"two channels or more; got descriptors of shape \(60, 1\)"
    ):
        moments_loss(descriptors()[:, :1], batch)
