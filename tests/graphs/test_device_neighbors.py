"""The list on the device is the one of the host: the same edges, as a multiset."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Edges, Structure, neighbor_list
from geojax.graphs.device_neighbors import (
    device_neighbors,
    fitting_grid,
    heights,
    inverse,
    narrow,
)
from tests.graphs.test_neighbors import KINDS, as_multiset, random_structure

search = jax.jit(device_neighbors, static_argnames=("reach", "periodic", "grid", "capacity"))


def frame(structure: Structure):
    cell = np.eye(3) if structure.cell is None else structure.cell
    return structure.positions @ np.linalg.inv(cell), cell


def listed(structure: Structure, reach: float, capacity: int = 4096, grid=None):
    fractional, cell = frame(structure)
    grid = grid or fitting_grid(fractional, cell, reach, periodic=structure.pbc)
    found = search(
        jnp.asarray(fractional),
        jnp.asarray(cell),
        reach=reach,
        periodic=structure.pbc,
        grid=grid,
        capacity=capacity,
    )
    assert int(found.fullest) <= grid.places
    return found


def real(edges) -> Counter:
    """Those that are edges."""
    count = min(int(edges.count), len(edges.senders))
    return as_multiset(Edges(*(np.asarray(x)[:count] for x in edges[:3])))


@pytest.mark.parametrize("kind", KINDS)
def test_the_edges_are_those_of_the_host(kind, x64):
    rng = np.random.default_rng(KINDS.index(kind))
    for _ in range(2):
        structure, cutoff = random_structure(rng, kind)
        found, want = listed(structure, cutoff), as_multiset(neighbor_list(structure, cutoff))
        assert real(found) == want and int(found.count) == want.total()
        assert (np.diff(found.receivers) >= 0).all()


@pytest.mark.parametrize("pbc", [(True,) * 3, (True, False, True), (False,) * 3])
def test_many_bins_and_chunks_have_the_edges_of_the_host(pbc, x64, monkeypatch):
    """A skewed cell of several hundred atoms, some outside of it, in bins of few."""
    monkeypatch.setattr("geojax.graphs.device_neighbors.CANDIDATES", 5000)
    rng = np.random.default_rng(1)
    cell = np.array([[17.0, 0, 0], [-5, 14, 0], [3, 4, -15]])
    x = rng.uniform(-0.5, 1.5, (300, 3)) @ cell
    structure = Structure(x, np.full(300, 14), cell, pbc)
    grid = fitting_grid(*frame(structure), 3.0, periodic=pbc)
    assert min(grid.bins) >= 4 and max(grid.range) == 1 and grid.places < 40
    found = search.__wrapped__(
        *map(jnp.asarray, frame(structure)), 3.0, periodic=pbc, grid=grid, capacity=8000
    )
    assert real(found) == as_multiset(neighbor_list(structure, 3.0))


def test_a_bin_of_many_atoms_takes_several_words(x64):
    x = np.random.default_rng(2).uniform(0, 4, (75, 3))
    cloud = Structure(x, np.ones(75, int), 6 * np.eye(3), (True, False, False))
    grid = fitting_grid(*frame(cloud), 3.0, periodic=cloud.pbc)
    assert grid.places > 32 and grid.words[0] > 1
    assert real(listed(cloud, 3.0, capacity=9999)) == as_multiset(neighbor_list(cloud, 3.0))


def test_an_atom_is_its_own_neighbour(x64):
    atom = Structure(np.zeros((1, 3)), np.array([29]), 2.55 * np.eye(3), (True, True, True))
    found = listed(atom, 5.2)
    assert real(found) == as_multiset(neighbor_list(atom, 5.2)) and int(found.count) == 32
    assert fitting_grid(*frame(atom), 5.2, periodic=atom.pbc)[:2] == ((1, 1, 1), (3, 3, 3))


def test_all_pairs_of_an_infinite_reach(x64):
    rng = np.random.default_rng(0)
    cloud = Structure(rng.normal(size=(7, 3)), np.ones(7, int))
    found = listed(cloud, np.inf)
    assert int(found.count) == 42 and real(found) == as_multiset(neighbor_list(cloud, np.inf))
    assert int(listed(cloud, 0.0).count) == 0


def test_an_atom_that_is_not_finite_has_no_edges(x64):
    rng = np.random.default_rng(0)
    x, cell = rng.uniform(0, 9, (20, 3)), 9 * np.eye(3)
    grid = fitting_grid(x / 9, cell, 3.0, periodic=(True, True, False), multiple=2.0)
    periodic = (True, True, False)
    with jax.debug_nans(False):
        lost = jnp.asarray(x / 9).at[4, 2].set(jnp.nan)
        found = search(lost, jnp.asarray(cell), 3.0, periodic=periodic, grid=grid, capacity=999)
    rest = np.delete(np.arange(20), 4)
    kept = Structure(x[rest], np.ones(19, int), cell, (True, True, False))
    want = neighbor_list(kept, 3.0)
    assert real(found) == as_multiset(Edges(rest[want.senders], rest[want.receivers], want.shifts))


def test_empty_space_has_few_bins():
    far = np.array([[0.0, 0, 0], [900, 900, 900], [901, 900, 900]])
    for pbc in ((True,) * 3, (False,) * 3):
        structure = Structure(far, np.ones(3, int), 1000 * np.eye(3), pbc)
        grid = fitting_grid(*frame(structure), 2.0, periodic=pbc)
        assert np.prod(grid.bins) <= 24 and int(listed(structure, 2.0).count) == 2


def test_places_that_are_left_join_the_padding_node(x64):
    structure, cutoff = random_structure(np.random.default_rng(0), "skewed")
    found = listed(structure, cutoff, capacity=5000)
    n, count = len(structure), int(found.count)
    assert count < 5000
    assert (np.asarray(found.senders)[count:] == n).all()
    assert (np.asarray(found.receivers)[count:] == n).all()
    assert not np.asarray(found.shifts)[count:].any()


def test_overflows_and_a_narrow_cell_are_seen(x64):
    structure, cutoff = random_structure(np.random.default_rng(0), "small")
    whole = listed(structure, cutoff)
    short = listed(structure, cutoff, capacity=int(whole.count) - 1)
    assert int(short.count) == int(whole.count) and real(short) <= real(whole)
    fractional, cell = frame(structure)
    periodic = structure.pbc
    grid = fitting_grid(fractional, cell, cutoff, periodic=periodic)
    few = grid._replace(places=grid.places - 1)
    found = search(
        *map(jnp.asarray, (fractional, cell)), cutoff, periodic=periodic, grid=few, capacity=4096
    )
    assert int(found.fullest) > few.places
    a, b, c = grid.range
    less = grid._replace(range=(a, b, c - 1))
    assert not narrow(jnp.asarray(cell), cutoff, periodic=periodic, grid=grid)
    assert narrow(jnp.asarray(cell), cutoff, periodic=periodic, grid=less)
    assert not narrow(jnp.asarray(cell), cutoff, periodic=(True, True, False), grid=less)
    less = grid._replace(range=(a, b, c - 2))  # one bin less may still be enough
    assert int(listed(structure, cutoff, grid=less).count) < int(whole.count)


def test_a_cell_may_lose_what_is_spared(x64):
    cell = np.diag([11.0, 12.0, 13.0])
    x = np.random.default_rng(0).uniform(size=(30, 3))
    grid = fitting_grid(x, cell, 3.0, periodic=(True,) * 3, spare=0.1)
    for scale, missing in ((0.91, False), (0.5, True)):
        smaller = jnp.asarray(scale * cell)
        assert bool(narrow(smaller, 3.0, periodic=(True,) * 3, grid=grid)) == missing


def test_it_is_compiled_in_float32():
    structure, cutoff = random_structure(np.random.default_rng(3), "skewed")
    found = listed(structure, cutoff)
    assert found.senders.dtype == jnp.int32
    assert real(found) == as_multiset(neighbor_list(structure, cutoff))


def test_geometry_of_a_cell(x64):
    cell = np.array([[4.1, 0.3, 0.0], [0.2, -4.4, 0.5], [-0.4, 0.1, 3.9]])
    np.testing.assert_allclose(inverse(jnp.asarray(cell)), np.linalg.inv(cell), rtol=1e-12)
    volume = abs(np.linalg.det(cell))
    faces = [np.linalg.norm(np.cross(cell[i - 2], cell[i - 1])) for i in range(3)]
    np.testing.assert_allclose(heights(jnp.asarray(cell)), volume / np.array(faces), rtol=1e-12)
