"""Deviations equal numpy's, have names of their own, and derivatives where members agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.deviations import check_std_names, deviation, mean_and_std, std_name
from geojax.graphs import Properties, leaves


def test_deviations_are_unbiased_and_have_a_derivative_where_members_agree(x64):
    values = np.random.default_rng(0).normal(size=(5, 4, 3))
    np.testing.assert_allclose(deviation(jnp.asarray(values)), values.std(0, ddof=1), rtol=1e-12)
    slope = jax.grad(lambda x: deviation(x).sum())(jnp.ones((3, 2)))
    np.testing.assert_array_equal(slope, np.zeros((3, 2)))


def test_every_property_but_a_hessian_has_a_deviation():
    every = Properties(
        energy=jnp.arange(6.0).reshape(3, 2),
        forces=jnp.ones((3, 4, 3)),
        hessian=jnp.ones((3, 4, 2, 3, 3)),
        targets={"mu": jnp.zeros((3, 2))},
    )
    found = mean_and_std(every)
    assert set(leaves(found)) == {
        *("energy", "forces", "hessian", "targets.mu"),
        *("targets.energy_std", "targets.mu_std", "node_targets.forces_std"),
    }
    np.testing.assert_allclose(found.energy, [2, 3])
    np.testing.assert_allclose(found.targets["energy_std"], [2, 2], rtol=1e-6)


def test_names_of_deviations_are_told_apart():
    assert std_name("node_targets.q") == "node_targets.q_std"
    check_std_names(["energy", "targets.a"])
    for names in (["energy", "targets.energy"], ["targets.a", "targets.a_std"]):
        with pytest.raises(ValueError, match="a name of its own"):
            check_std_names(names)
