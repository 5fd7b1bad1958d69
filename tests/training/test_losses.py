"""Losses against plain numpy, masks, weights and tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.graphs import Budget, Properties, Structure, pad, sample
from geojax.so3 import random_rotation
from geojax.training.losses import (
    Term,
    sum_name,
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


@pytest.mark.parametrize("kind", ["mse", "mae", "huber", "norm"])
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


def hessians(seed: int):
    """Symmetric, of two and of three nodes."""
    rng = np.random.default_rng(seed)
    drawn = [rng.normal(size=(3 * n, 3 * n)) for n in (2, 3)]
    return [m + m.T for m in drawn]


def rows_of(matrices) -> jax.Array:
    """As a network gives them, for the eight nodes of the batch and four slots."""
    rows, first = np.zeros((8, 4, 3, 3), np.float32), 0
    for m in matrices:
        n = len(m) // 3
        rows[first : first + n, :n] = m.reshape(n, 3, n, 3).transpose(0, 2, 1, 3)
        first += n
    return jnp.asarray(rows)


def labels_of(matrices) -> list[Properties]:
    sizes = [len(m) // 3 for m in matrices]
    return [Properties(hessian=m.reshape(n, 3, n, 3)) for m, n in zip(matrices, sizes, strict=True)]


def test_hessians_count_entry_by_entry():
    label, guess = hessians(0), hessians(1)
    terms = [Term("hessian", kind="mae")]
    sums = term_sums(Properties(hessian=rows_of(guess)), batch_of(*labels_of(label)), terms)
    total, count = sums["hessian"]
    assert count == 2**2 + 3**2
    error = np.concatenate([np.abs(a - b).ravel() for a, b in zip(label, guess, strict=True)])
    np.testing.assert_allclose(total / count, error.mean(), rtol=1e-5)


def test_eigenpairs_are_those_of_the_label_and_padding_has_none():
    label, guess = hessians(0), hessians(1)
    term = Term("hessian", kind="eigenpairs", pairs=7)
    batch = batch_of(*labels_of(label))
    total, count = term_sums(Properties(hessian=rows_of(guess)), batch, [term])[sum_name(term)]
    by_hand = []
    for a, b in zip(label, guess, strict=True):
        values, vectors = np.linalg.eigh(a)
        values, vectors = values[:7], vectors[:, :7]
        by_hand.append(np.abs(vectors.T @ b @ vectors - np.diag(values)).mean())
    assert count == 2
    np.testing.assert_allclose(total, sum(by_hand), rtol=2e-3)
    (one,) = labels_of(label)[1:]
    partly = batch_of(Properties(), one)
    total, count = term_sums(Properties(hessian=rows_of(guess)), partly, [term])[sum_name(term)]
    assert count == 1
    np.testing.assert_allclose(total, by_hand[1], rtol=2e-3)
    exact = term_sums(Properties(hessian=rows_of(label)), batch, [term])[sum_name(term)]
    assert exact[0] < 1e-2


def test_gradients_of_eigenpairs_are_finite_where_eigenvalues_are_equal():
    label = [np.eye(6), np.zeros((9, 9))]
    batch, term = batch_of(*labels_of(label)), Term("hessian", kind="eigenpairs")
    loss = lambda rows: term_sums(Properties(hessian=rows), batch, [term])[sum_name(term)][0]
    assert np.isfinite(jax.grad(loss)(rows_of(hessians(1)))).all()


def test_predicted_rows_have_a_place_for_every_label():
    guess = Properties(hessian=rows_of(hessians(1))[:, :2])
    with pytest.raises(ValueError, match="got 2 and 3"):
        term_sums(guess, batch_of(*labels_of(hessians(0))), [Term("hessian")])


def test_the_geodesic_loss_is_the_angle_between_rotations():
    turns = random_rotation(jax.random.key(0), (2,))
    labels = [Properties(targets={"pose": np.asarray(r, np.float64)}) for r in turns]
    guess = random_rotation(jax.random.key(1), (4,))
    term = Term("targets.pose", kind="geodesic")
    total, count = term_sums(Properties(targets={"pose": guess}), batch_of(*labels), [term])[
        "targets.pose"
    ]
    expected = [
        Rotation.from_matrix(a @ b.T).magnitude() for a, b in zip(guess, turns, strict=False)
    ]
    np.testing.assert_allclose((total, count), (sum(expected), 2), rtol=1e-5)


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
    pair = terms_from_table({"hessian": [{"kind": "mae"}, {"kind": "eigenpairs", "weight": 0.1}]})
    assert [sum_name(term) for term in pair] == ["hessian", "hessian.eigenpairs"]


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({}, ValueError, "at least one term"),
        ({"energy": {"wieght": 1}}, KeyError, "weight"),
        ({"energy": {"kind": "mea"}}, KeyError, "mae"),
        ({"enregy": 1}, KeyError, "enregy"),
        ({"forces": {"kind": "eigenpairs"}}, ValueError, "those of a Hessian"),
        ({"targets.a": {"kind": "circle"}}, ValueError, "descriptors of points, node_targets"),
        (
            {"node_targets.a": {"kind": "circle", "radius": 1.0, "far": 0.5}},
            ValueError,
            "0 < radius <= far; got 'node_targets.a', radius=1.0, far=0.5",
        ),
        ({"hessian": [{"kind": "mae"}, {"kind": "mse"}]}, ValueError, "two of 'hessian'"),
    ],
)
def test_bad_tables_are_refused(table, error, message):
    with pytest.raises(error, match=message):
        terms_from_table(table)
