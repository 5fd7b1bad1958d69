"""Errors by sums equal errors by hand, on the device and on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Properties, Structure, pad, sample
from geojax.metrics import (
    compare,
    constant_baseline,
    error_sums,
    errors_table,
    in_words,
    summary,
)

RNG = np.random.default_rng(0)


def structures():
    made = []
    for n in (2, 3, 4):
        labels = Properties(
            energy=RNG.normal(), forces=RNG.normal(size=(n, 3)), targets={"kind": np.array(n % 2)}
        )
        made.append(Structure(RNG.normal(size=(n, 3)), np.ones(n, int), properties=labels))
    return made


def test_what_is_right_has_no_error_and_classes_that_are_wrong_have_none_right():
    known = structures()
    wrong = lambda s: np.eye(2)[1 - int(s.properties.targets["kind"])]
    guesses = [s.properties._replace(targets={"kind": wrong(s)}) for s in known]
    found = compare(guesses, known)
    right = {
        f"{n}.{m}": 0.0 for n in ("energy", "energy_per_atom", "forces") for m in ("mae", "rmse")
    }
    assert found == right | {"targets.kind.accuracy": 0.0}


def test_device_and_host_agree_with_each_other_and_by_hand():
    known = structures()
    batch = jax.tree.map(jnp.asarray, pad([sample(s, 9.0) for s in known], Budget(12, 32, 4)))
    energy, forces = RNG.normal(size=4), RNG.normal(size=(12, 3))
    logits = RNG.normal(size=(4, 2))
    guess = Properties(
        jnp.float32(energy), jnp.float32(forces), targets={"kind": jnp.float32(logits)}
    )
    device = summary(error_sums(guess, batch))
    ends = np.cumsum([0, 2, 3, 4])
    parts = [
        Properties(energy[i], forces[ends[i] : ends[i + 1]], targets={"kind": logits[i]})
        for i in range(3)
    ]
    host = compare(parts, known)
    assert device.keys() == host.keys()
    for name, value in host.items():
        np.testing.assert_allclose(device[name], value, rtol=1e-5)
    error = forces[:9] - np.concatenate([s.properties.forces for s in known])
    np.testing.assert_allclose(host["forces.mae"], np.abs(error).mean())
    np.testing.assert_allclose(host["forces.rmse"], np.sqrt((error**2).mean()))
    right = [logits[i].argmax() == s.properties.targets["kind"] for i, s in enumerate(known)]
    assert host["targets.kind.accuracy"] == np.mean(right)
    per_atom = [abs(energy[i] - s.properties.energy) / len(s) for i, s in enumerate(known)]
    np.testing.assert_allclose(host["energy_per_atom.mae"], np.mean(per_atom))


def test_union_and_intersection_of_classes_of_nodes():
    """By hand; a class that nobody has or says does not count."""
    said, there = np.array([0, 0, 1, 1, 1, 3]), np.array([0, 1, 1, 1, 3, 3])
    known = [
        Structure(
            RNG.normal(size=(3, 3)),
            np.ones(3, int),
            properties=Properties(node_targets={"label": there[rows]}),
        )
        for rows in (slice(3), slice(3, 6))
    ]
    batch = jax.tree.map(jnp.asarray, pad([sample(s, 9.0) for s in known], Budget(8, 32, 3)))
    logits = np.concatenate([np.eye(4)[said], np.eye(4)[[2, 2]]])
    device = summary(error_sums(Properties(node_targets={"label": jnp.float32(logits)}), batch))
    host = compare([Properties(node_targets={"label": logits[a : a + 3]}) for a in (0, 3)], known)
    assert device == host
    np.testing.assert_allclose(host["node_targets.label.miou"], (1 / 2 + 2 / 4 + 1 / 2) / 3)
    np.testing.assert_allclose(host["node_targets.label.accuracy"], 4 / 6)


def test_errors_of_hessians_count_real_entries_alone():
    known = [
        Structure(
            RNG.normal(size=(n, 3)),
            np.ones(n, int),
            properties=Properties(hessian=RNG.normal(size=(n, 3, n, 3))),
        )
        for n in (2, 4, 3)
    ]
    batch = jax.tree.map(jnp.asarray, pad([sample(s, 9.0) for s in known], Budget(12, 32, 5)))
    guess = RNG.normal(size=(12, 5, 3, 3))
    device = summary(error_sums(Properties(hessian=jnp.float32(guess)), batch))
    parts = [guess[:2, :2], guess[2:6, :4], guess[6:9, :3]]
    host = compare([Properties(hessian=p.transpose(0, 2, 1, 3)) for p in parts], known)
    assert device.keys() == host.keys() == {"hessian.mae", "hessian.rmse"}
    for name, value in host.items():
        np.testing.assert_allclose(device[name], value, rtol=1e-5)


def test_what_is_not_labelled_or_not_predicted_is_left_out():
    plain = Structure(RNG.normal(size=(2, 3)), np.ones(2, int))
    assert compare([Properties(energy=1.0)], [plain]) == {}
    labelled = plain.replace(properties=Properties(energy=1.0))
    assert compare([Properties()], [labelled]) == {}


def test_a_column_of_one_number_is_that_number():
    """As `[frame, 1]` and `[node, 1]` in a file of arrays; on the device and on the host."""
    rng = np.random.default_rng(0)
    found = []
    for tail in ((), (1,)):
        known = [
            Properties(targets={"gap": np.full(tail, x)}, node_targets={"q": q.reshape(-1, *tail)})
            for x, q in ((0.5, np.arange(2.0)), (2.0, np.arange(3.0)))
        ]
        structures = [
            Structure(np.eye(3)[:n], np.ones(n, int), properties=p)
            for n, p in zip((2, 3), known, strict=True)
        ]
        guess = [
            Properties(targets={"gap": np.array(1.0)}, node_targets={"q": np.ones(n)})
            for n in (2, 3)
        ]
        batch = jax.tree.map(
            jnp.asarray, pad([sample(s, 9.0) for s in structures], Budget(8, 16, 4))
        )
        q = jnp.asarray(np.r_[np.ones(5), rng.normal(size=3)], jnp.float32)
        device = Properties(targets={"gap": jnp.array([1.0, 1.0, 7.0, 8.0])}, node_targets={"q": q})
        found += [compare(guess, structures), summary(error_sums(device, batch))]
    assert all(other == pytest.approx(found[0]) for other in found[1:])
    assert found[0]["targets.gap.mae"] == 0.75 and found[0]["node_targets.q.mae"] == 0.6


def test_the_baseline_knows_composition_and_nothing_else():
    train = [
        Structure(RNG.normal(size=(n, 3)), np.full(n, 6), properties=Properties(energy=2.0 * n))
        for n in (1, 2, 3)
    ]
    assert constant_baseline(train, train)["energy.mae"] < 1e-12


def test_words_have_units():
    words = in_words({"forces.mae": 0.01234, "targets.mu.mae": 0.5, "energy.rmse": 0.001})
    assert words == {"forces.mae": "12.3 meV/Å", "targets.mu.mae": "0.5", "energy.rmse": "1 meV"}


def test_the_table_of_errors_has_the_baseline_beside():
    columns = errors_table("mine", {"forces.mae": 0.0123}, {"forces.mae": 0.5}).columns
    assert [list(column.cells) for column in columns] == [
        ["forces.mae"],
        ["12.3 meV/Å"],
        ["500 meV/Å"],
    ]
    assert len(errors_table("mine", {"forces.mae": 0.0123}).columns) == 2
