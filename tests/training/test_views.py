"""Losses of two views by hand, their limits, and a training with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import logsumexp

from geojax.datasets import Dataset
from geojax.graphs import Properties, Structure
from geojax.networks import PointNet, Views
from geojax.outputs import Output
from geojax.training import Options, train
from geojax.training.terms import Term
from geojax.training.views import care, contrastive, sie, two_views, vicreg

IRREPS = "3x0e+2x1o"
KNOWN = np.array([True, True, False, True])
rng = np.random.default_rng(0)
FIRST, SECOND = rng.normal(size=(2, 4, 9))
TURNS = Rotation.random(4, rng=rng).as_matrix()


@pytest.fixture(autouse=True)
def double(x64):
    """All of it in double precision."""


def found(loss, *more, first=FIRST, second=SECOND, known=KNOWN):
    views = (jnp.asarray(first), jnp.asarray(second))
    return np.asarray(loss(views, *map(jnp.asarray, more), jnp.asarray(known)))[known]


def units(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def nt_xent(a, b):
    """Of all structures, pair by pair."""
    u, errors = units(np.concatenate([a, b])), []
    for i in range(len(u)):
        partner = (i + len(a)) % len(u)
        others = [u[i] @ u[j] / 0.5 for j in range(len(u)) if j != i]
        errors.append(logsumexp(others) - u[i] @ u[partner] / 0.5)
    return (np.array(errors[: len(a)]) + errors[len(a) :]) / 2


def spread(a, b, variance, covariance):
    total = 0.0
    for x in (a, b):
        c = np.cov(x.T)
        total += variance / 2 * np.maximum(1 - np.sqrt(np.diag(c) + 1e-4), 0).mean()
        total += covariance * (np.square(c).sum() - np.square(np.diag(c)).sum()) / len(c)
    return total


def test_contrastive_and_vicreg_by_hand():
    a, b = FIRST[KNOWN], SECOND[KNOWN]
    np.testing.assert_allclose(found(contrastive), nt_xent(a, b), atol=1e-12)
    expected = 25 * np.square(a - b).mean(1) + spread(a, b, 25.0, 1.0)
    np.testing.assert_allclose(found(vicreg), expected, atol=1e-12)


def test_care_compares_angles_of_structures_that_turned_alike():
    turns = TURNS.copy()
    turns[3] = turns[0]
    u, w = units(FIRST), units(SECOND)
    change = 2 * (u[0] @ u[3] - w[0] @ w[3]) ** 2
    expected = nt_xent(FIRST[KNOWN], SECOND[KNOWN]) + 0.03 * np.array([change, 0, change])
    np.testing.assert_allclose(found(care, turns), expected, atol=1e-12)
    alike = np.repeat(TURNS[:1], 4, 0)
    q = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    shear = np.eye(9) + np.triu(rng.normal(size=(9, 9)), 1)
    extra = lambda second: found(care, alike, second=second) - found(contrastive, second=second)
    np.testing.assert_allclose(extra(FIRST @ q), 0, atol=1e-14)
    assert extra(FIRST @ shear).min() > 1e-4


def test_sie_by_hand_and_its_zero():
    turned = FIRST.copy()
    for i, turn in enumerate(TURNS):
        turned[i, 3:] = (FIRST[i, 3:].reshape(2, 3) @ turn.T).ravel()
    gap = np.square(turned - SECOND)[KNOWN]
    expected = 10 * gap[:, :3].mean(1) + 4.5 * gap[:, 3:].mean(1)
    expected += spread(FIRST[KNOWN], SECOND[KNOWN], 10.0, 1.0)
    loss = lambda views, rotations, known: sie(views, rotations, known, IRREPS)
    np.testing.assert_allclose(found(loss, TURNS), expected, atol=1e-12)
    equivariant = found(loss, TURNS, second=turned)
    np.testing.assert_allclose(equivariant, spread(FIRST[KNOWN], turned[KNOWN], 10.0, 1.0))


def test_batches_of_white_noise_have_no_spread_to_lose():
    x, y = np.random.default_rng(1).normal(size=(2, 20_000, 4)) * 1.1
    known = np.ones(len(x), bool)
    assert found(vicreg, first=x, second=x, known=known).max() < 1e-2
    mixed = x @ np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0.1]])
    assert found(vicreg, first=mixed, second=mixed, known=known).min() > 1


def test_unknown_structures_do_not_count():
    other = FIRST.copy()
    other[2] = 50.0
    alike = np.repeat(TURNS[:1], 4, 0)
    for loss, more in [(contrastive, ()), (vicreg, ()), (care, (alike,))]:
        np.testing.assert_array_equal(found(loss, *more, first=other), found(loss, *more))


def test_bad_terms_are_refused():
    with pytest.raises(ValueError, match="embeddings of two views"):
        Term("node_targets.a", kind="vicreg")
    with pytest.raises(ValueError, match="by their irreps where it is sie"):
        Term("targets.views", kind="sie")
    with pytest.raises(ValueError, match="two embeddings of one length"):
        two_views(jnp.zeros((3, 5)))
    views = (jnp.zeros((2, 4)), jnp.zeros((2, 4)))
    for irreps in ("4x0e", "1o", "2x0e+1o"):
        with pytest.raises(ValueError, match="sie compares scalars and what turns"):
            sie(views, jnp.zeros((2, 3, 3)), jnp.ones(2, bool), irreps)


def pair(seed: int) -> Structure:
    x = np.random.default_rng(seed).normal(size=(12, 3))
    inputs = {"part": np.repeat([0.0, 1.0], 6)}
    targets = Properties(targets={"views": np.eye(3)})
    return Structure(x, np.zeros(12, int), inputs=inputs, properties=targets)


@pytest.mark.parametrize(
    "kind",
    ["sie", *(pytest.param(k, marks=pytest.mark.slow) for k in ("contrastive", "vicreg", "care"))],
)
def test_a_network_learns_without_labels(kind, tmp_path):
    shapes = tuple(pair(seed) for seed in range(8))
    backbone = PointNet(widths=(8,), head=())
    irreps = "4x0e+1o+4x0e+1o" if kind == "sie" else "6x0e+6x0e"
    network = Views(backbone=backbone, features=6, head=(), irreps_out=irreps)
    term = {"kind": kind} | ({"irreps": "4x0e+1o"} if kind == "sie" else {})
    model = train(
        network,
        Dataset("pairs", shapes, shapes[:4]),
        loss={"targets.views": term},
        outputs=[Output("targets.views", irreps=irreps, pool="mean")],
        options=Options(
            epochs=2,
            batch_size=4,
            augment=({"kind": "rotation", "partner": True, "choices": 2},),
        ),
        folder=tmp_path / "run",
    )
    assert jax.tree.all(jax.tree.map(lambda x: bool(np.isfinite(x).all()), model.params))
