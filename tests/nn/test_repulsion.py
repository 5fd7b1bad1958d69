"""The pair repulsion: its published formula, where it ends, and that padding feels nothing."""

import ase.units
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.data import covalent_radii

from geojax.graphs import Budget, Structure, pad, sample
from geojax.nn.repulsion import zbl

CUTOFF = 4.0


def energies(positions, species, cutoff=CUTOFF):
    """Of all rows of a padded graph."""
    structure = Structure(np.asarray(positions, float), np.asarray(species))
    budget = Budget(len(structure) + 2, 64, 2)
    graph = pad([sample(structure, cutoff)], budget, np.float64).graph
    return zbl(jax.tree.map(jnp.asarray, graph), cutoff)


def pair(r, first=6, second=8, cutoff=CUTOFF):
    return energies([[0, 0, 0], [0, 0, r]], [first, second], cutoff).sum()


def formula(r, first=6, second=8):
    """V(r) in the words of the literature: lengths in Bohr, energies in Hartree."""
    a = 0.8854 / (first**0.23 + second**0.23) * ase.units.Bohr
    x = r / a
    phi = 0.1818 * np.exp(-3.2 * x) + 0.5099 * np.exp(-0.9423 * x)
    phi += 0.2802 * np.exp(-0.4029 * x) + 0.02817 * np.exp(-0.2016 * x)
    return ase.units.Hartree * ase.units.Bohr * first * second / r * phi


@pytest.mark.parametrize("r", [0.05, 0.2, 0.6])
def test_a_pair_has_the_published_energy_times_the_envelope(r, x64):
    x = r / (covalent_radii[6] + covalent_radii[8])
    envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    np.testing.assert_allclose(pair(r), formula(r) * envelope, rtol=1e-6)


def test_it_is_shared_equally_and_ends_at_the_covalent_radii(x64):
    node_energies = energies([[0, 0, 0], [0, 0, 0.5], [0, 0, 3.0]], [6, 8, 1])
    assert node_energies[0] == node_energies[1] > 10
    assert not node_energies[2:].any()
    end = covalent_radii[6] + covalent_radii[8]
    assert 0 < pair(end - 1e-3) < 1e-6
    assert pair(end + 1e-3) == 0


def test_a_short_cutoff_ends_it_sooner_and_smoothly(x64):
    assert pair(0.9, cutoff=1.0) < 0.1 * pair(0.9)
    assert pair(0.999, cutoff=1.0) < 1e-4


def test_bare_points_and_single_atoms_feel_nothing(x64):
    assert not energies([[0, 0, 0], [0, 0, 0.5]], [0, 0]).any()
    assert not energies([[0, 0, 0]], [6]).any()


@pytest.mark.slow
def test_derivatives_are_finite_to_third_order_also_in_padding(x64):
    structure = Structure(np.array([[0, 0, 0], [0, 0, 0.5]]), np.array([6, 8]))
    graph = pad([sample(structure, CUTOFF)], Budget(5, 16, 2), np.float64).graph
    graph = jax.tree.map(jnp.asarray, graph)

    def total(positions):
        return zbl(graph._replace(nodes={**graph.nodes, "positions": positions}), CUTOFF).sum()

    for _ in range(3):
        total = (lambda f: lambda x: jax.grad(f)(x).sum())(total)
        assert jnp.isfinite(total(graph.nodes["positions"]))
