"""Losses against plain numpy, masks, weights and tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.spatial.transform import Rotation

from geojax.graphs import Budget, Properties, Structure, pad, sample
from geojax.so3 import random_rotation
from geojax.training.losses import term_sums
from geojax.training.terms import Term, sum_name


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


@pytest.mark.parametrize("kind", ["mse", "mae", "huber", "norm"])
def test_a_column_of_one_number_is_that_number(kind):
    """Files say `[frame, 1]`; the difference to `[frame]` would be a matrix."""
    numbers, columns = (
        batch_of(*(Properties(targets={"gap": np.full(shape, x)}) for x in (0.5, 2.0)))
        for shape in ((), (1,))
    )
    guess = Properties(targets={"gap": jnp.array([1.0, 1.0, 7.0, 8.0])})
    for per_atom in (False, True):
        term = Term("targets.gap", kind=kind, per_atom=per_atom)
        total, count = term_sums(guess, columns, [term])["targets.gap"]
        expected, _ = term_sums(guess, numbers, [term])["targets.gap"]
        assert count == 2 and float(total) == float(expected) > 0


def test_classes_of_points_may_be_a_column():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
    found = []
    for shape in ((-1,), (-1, 1)):
        known = [np.array([0, 2]).reshape(shape), np.array([1, 1, 0]).reshape(shape)]
        batch = batch_of(*(Properties(node_targets={"kind": k}) for k in known))
        term = Term("node_targets.kind", kind="cross-entropy")
        predicted = Properties(node_targets={"kind": logits})
        found.append(term_sums(predicted, batch, [term])["node_targets.kind"])
    assert found[0] == found[1] and found[0][1] == 5


@pytest.mark.parametrize("kind", ["mse", "cross-entropy", "geodesic"])
def test_labels_of_other_numbers_are_refused(kind):
    batch = batch_of(*(Properties(targets={"gap": np.arange(4.0)}) for _ in range(2)))
    guess = Properties(targets={"gap": jnp.zeros((4, 3))})
    with pytest.raises(ValueError, match=r"targets.gap of each row has shape \[4\].* takes \["):
        term_sums(guess, batch, [Term("targets.gap", kind=kind)])


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


def spread_sums(kind, property="energy", std=None, **more):
    """Sums of one term on two structures of 2 and 3 atoms; the second label is missing."""
    batch = batch_of(Properties(energy=np.float64(1.5)), Properties())
    std = jnp.array([0.4, 0.2, 0.0, 0.0]) if std is None else std
    predicted = Properties(jnp.array([1.0, 9.0, 0.0, 0.0]), targets={"energy_std": std})
    return term_sums(predicted, batch, [Term(property, kind=kind, **more)])[property]


def test_likelihoods_equal_those_of_scipy():
    floor = 0.3
    sigma = np.hypot(0.4, floor)
    total, count = spread_sums("nll", floor=floor)
    expected = -stats.norm(1.0, sigma).logpdf(1.5) - np.log(floor * np.sqrt(2 * np.pi))
    np.testing.assert_allclose((total, count), (expected, 1), rtol=1e-5)
    below, above = (
        integrate.quad(lambda t, above=above: (stats.norm(1, sigma).cdf(t) - above) ** 2, *ends)[0]
        for above, ends in ((0, (-9.0, 1.5)), (1, (1.5, 9.0)))
    )
    total, count = spread_sums("crps", floor=floor)
    np.testing.assert_allclose((total, count), (below + above, 1), rtol=1e-5)
    total, _ = spread_sums("nll", floor=floor, per_atom=True)
    sigma = np.hypot(0.2, floor)
    expected = -stats.norm(0.5, sigma).logpdf(0.75) - np.log(floor * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(total, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["nll", "crps"])
def test_a_deviation_of_zero_has_a_likelihood_and_a_gradient(kind):
    slope = jax.grad(lambda s: spread_sums(kind, std=s * jnp.zeros(4))[0])(1.0)
    assert np.isfinite(spread_sums(kind, std=jnp.zeros(4))[0]) and np.isfinite(slope)


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
