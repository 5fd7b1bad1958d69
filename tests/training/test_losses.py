"""Losses against plain numpy, masks, weights and tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Properties, Structure, pad, sample
from geojax.training.losses import (
    LOSSES,
    Term,
    term_sums,
    terms_from_table,
    weight_at,
    weighted_loss,
)


def batch_of(*labels: Properties):
    rng = np.random.default_rng(0)
    structures = [
        Structure(rng.normal(size=(n, 3)), np.ones(n, int), properties=p)
        for n, p in zip((2, 3), labels, strict=True)
    ]
    batch = pad([sample(s, 9.0) for s in structures], Budget(8, 16, 4))
    return jax.tree.map(jnp.asarray, batch)


@pytest.mark.parametrize("kind", [k for k in LOSSES if k != "cross-entropy"])
def test_losses_equal_numpy(kind):
    rng = np.random.default_rng(1)
    known = [Properties(forces=rng.normal(size=(n, 3))) for n in (2, 3)]
    batch = batch_of(*known)
    guess = rng.normal(size=(8, 3)).astype(np.float32)
    sums = term_sums(Properties(forces=jnp.asarray(guess)), batch, [Term("forces", kind=kind)])
    error = guess[:5] - np.concatenate([p.forces for p in known])
    size = np.abs(error)
    huber = np.where(size < 0.01, error**2 / 2, 0.01 * (size - 0.005))
    by_hand = {
        "mse": (error**2).mean(),
        "mae": size.mean(),
        "huber": huber.mean(),
        "norm": np.linalg.norm(error, axis=1).mean(),
    }
    total, count = sums["forces"]
    assert count == 5
    np.testing.assert_allclose(total / count, by_hand[kind], rtol=1e-5)


def test_energies_are_divided_by_atoms_when_asked():
    batch = batch_of(Properties(energy=2.0), Properties(energy=3.0))
    guess = Properties(energy=jnp.zeros(4))
    total, count = term_sums(guess, batch, [Term("energy", per_atom=True)])["energy"]
    np.testing.assert_allclose((total, count), (2.0, 2))


def test_unlabelled_structures_do_not_count():
    batch = batch_of(Properties(energy=2.0), Properties())
    guess = Properties(energy=jnp.full(4, 5.0))
    total, count = term_sums(guess, batch, [Term("energy")])["energy"]
    np.testing.assert_allclose((total, count), (9.0, 1))


def test_cross_entropy_of_classes():
    labels = [Properties(targets={"kind": np.array(k)}) for k in (0, 2)]
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    term = Term("targets.kind", kind="cross-entropy")
    total, _ = term_sums(Properties(targets={"kind": logits}), batch_of(*labels), [term])[
        "targets.kind"
    ]
    plain = np.asarray(logits, np.float64)[:2]
    expected = -(plain[[0, 1], [0, 2]] - np.log(np.exp(plain).sum(1))).sum()
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_weights_follow_their_schedule():
    weight = ((10.0, 1.0), (20.0, 3.0))
    values = [float(weight_at(weight, jnp.float32(e))) for e in (0, 10, 15, 20, 99)]
    assert values == [1, 1, 2, 3, 3]
    terms = (Term("energy", weight=weight), Term("forces", weight=2.0))
    sums = {"energy": (jnp.float32(8), jnp.float32(4)), "forces": (jnp.float32(3), jnp.float32(0))}
    assert float(weighted_loss(sums, terms, jnp.float32(15))) == 2 * 2 + 2 * 3


def test_terms_from_a_table():
    terms = terms_from_table({"energy": 1, "forces": {"weight": [[0, 1], [5, 9]], "kind": "mae"}})
    assert terms[0] == Term("energy", 1, per_atom=True)
    assert terms[1] == Term("forces", ((0, 1), (5, 9)), "mae")


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({}, ValueError, "at least one term"),
        ({"energy": {"wieght": 1}}, KeyError, "weight"),
        ({"energy": {"kind": "mea"}}, KeyError, "mae"),
        ({"enregy": 1}, KeyError, "enregy"),
    ],
)
def test_bad_tables_are_refused(table, error, message):
    with pytest.raises(error, match=message):
        terms_from_table(table)
