"""Every structure once a pass, every batch within the budget, whatever the shuffle."""

import jax
import numpy as np
import pytest

from geojax.training.order import fit_order, in_turn, shuffled

WIDE = [(int(n), int(n * (n - 1))) for n in np.random.default_rng(0).integers(3, 30, 61)]
NARROW = [(5, 20)] * 23


def batches(order, count, turn=0):
    ids = shuffled(jax.random.key(turn), order, np.int32(count))
    return np.asarray(ids)


@pytest.mark.parametrize("sizes", [WIDE, NARROW])
@pytest.mark.parametrize("devices", [1, 2])
def test_a_pass_takes_each_structure_once(sizes, devices):
    order = fit_order(sizes, 8, devices=devices)
    ids = batches(order, len(sizes))
    assert ids.shape == (order.steps, devices, 8 // devices)
    assert sorted(ids[ids >= 0]) == list(range(len(sizes)))


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_every_batch_fits_the_budget(devices):
    order = fit_order(WIDE, 8, devices=devices)
    ranked = np.array(sorted(WIDE, key=lambda s: s[1]) + [(0, 0)])
    for turn in range(50):
        shares = ranked[batches(order, len(WIDE), turn)].sum(2)
        assert shares[..., 0].max() < order.budget.n_node
        assert shares[..., 1].max() <= order.budget.n_edge


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("batch_size", [4, 8])
def test_every_batch_of_every_chunk_fits_the_budget(batch_size, devices):
    """Also where chunks of n and n + 1 structures take different numbers of steps by themselves."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        few = np.where(rng.random(41) < 0.1, 40, rng.integers(3, 9, 41))
        sizes = np.stack([few, few * (few - 1)], 1)
        chunks = np.array_split(rng.permutation(41), 2)
        order = fit_order(
            [(int(n), int(e)) for n, e in sizes], batch_size, chunks=chunks, devices=devices
        )
        for chunk in chunks:
            own = sizes[chunk]
            own = own[np.argsort(own[:, 1], kind="stable")] if order.strata > 1 else own
            ranked = np.concatenate([own, [(0, 0)]])
            for turn in range(10):
                shares = ranked[batches(order, len(chunk), turn)].sum(2)
                assert shares[..., 0].max() < order.budget.n_node
                assert shares[..., 1].max() <= order.budget.n_edge


def test_strata_are_used_where_sizes_differ_and_save_padding():
    wide, narrow = fit_order(WIDE, 8), fit_order(NARROW, 8)
    assert (wide.strata, narrow.strata) == (8, 1)
    largest = sum(sorted((e for _, e in WIDE), reverse=True)[:8])
    assert wide.budget.n_edge < 0.8 * largest


def test_passes_differ_and_repeat_by_their_key():
    order = fit_order(NARROW, 8)
    assert (batches(order, 23, 1) == batches(order, 23, 1)).all()
    assert (batches(order, 23, 1) != batches(order, 23, 2)).any()


def test_evaluation_takes_each_once():
    for sizes in (WIDE, NARROW):
        order = fit_order(sizes, 8)
        ids = in_turn(order, len(sizes))
        assert sorted(ids[ids >= 0]) == list(range(len(sizes)))


def test_a_batch_larger_than_the_data_is_the_data():
    assert fit_order(NARROW, 100).batch_size == len(NARROW)


@pytest.mark.parametrize(("batch_size", "devices"), [(0, 1), (5, 2)])
def test_batches_that_cannot_be_dealt_out_are_refused(batch_size, devices):
    with pytest.raises(ValueError, match="dealt out evenly"):
        fit_order(NARROW, batch_size, devices=devices)


def test_table_layout_budgets_hold_every_slot():
    order = fit_order(WIDE, 8, slots=29)
    assert order.budget.n_edge == 29 * order.budget.n_node
