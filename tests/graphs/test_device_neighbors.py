"""The list on the device is the one of the host: the same edges, as a multiset and in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Structure, neighbor_list
from geojax.graphs.device_neighbors import (
    device_neighbors,
    heights,
    inverse,
    pairs,
    repeats,
    too_few,
)
from tests.graphs.test_neighbors import KINDS, random_structure

search = jax.jit(device_neighbors, static_argnames=("reach", "periodic", "images", "capacity"))


def listed(structure: Structure, reach: float, capacity: int = 0, fewer: int = 0):
    cell = np.eye(3) if structure.cell is None else structure.cell
    images = repeats(cell, reach, structure.pbc)
    images = (images[0], images[1], max(images[2] - fewer, 0))
    return search(
        jnp.asarray(structure.positions @ np.linalg.inv(cell)),
        jnp.asarray(cell),
        reach=reach,
        periodic=structure.pbc,
        images=images,
        capacity=capacity or pairs(len(structure), images),
    )


def rows(edges, count: int | None = None) -> list[tuple[int, ...]]:
    ends = np.stack([edges.receivers, edges.senders], 1)
    return [tuple(row) for row in np.hstack([ends, edges.shifts])[:count].tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_the_edges_are_those_of_the_host(kind, x64):
    rng = np.random.default_rng(KINDS.index(kind))
    for _ in range(2):
        structure, cutoff = random_structure(rng, kind)
        want = rows(neighbor_list(structure, cutoff))
        found = listed(structure, cutoff)
        assert int(found.count) == len(want)
        assert rows(found, len(want)) == want
        assert not found.overflowed


def test_an_atom_is_its_own_neighbour(x64):
    atom = Structure(np.zeros((1, 3)), np.array([29]), 2.55 * np.eye(3), (True, True, True))
    found = listed(atom, 5.2)
    assert rows(found, int(found.count)) == rows(neighbor_list(atom, 5.2))
    assert int(found.count) == 32 and repeats(atom.cell, 5.2, atom.pbc) == (2, 2, 2)


def test_places_that_are_left_join_the_padding_node(x64):
    structure, cutoff = random_structure(np.random.default_rng(0), "skewed")
    found = listed(structure, cutoff, capacity=5000)
    n, count = len(structure), int(found.count)
    assert count < 5000
    assert (np.asarray(found.senders)[count:] == n).all()
    assert (np.asarray(found.receivers)[count:] == n).all()
    assert not np.asarray(found.shifts)[count:].any()
    assert (np.diff(found.receivers) >= 0).all()


def test_an_overflow_and_too_few_images_are_seen(x64):
    structure, cutoff = random_structure(np.random.default_rng(0), "small")
    whole = listed(structure, cutoff)
    short = listed(structure, cutoff, capacity=int(whole.count) - 1)
    assert short.overflowed and int(short.count) == int(whole.count)
    assert rows(short) == rows(whole, int(whole.count) - 1)
    images = repeats(structure.cell, cutoff, structure.pbc)
    assert images[2] > 0
    less = (images[0], images[1], images[2] - 1)
    cell, periodic = jnp.asarray(structure.cell), structure.pbc
    assert not too_few(cell, cutoff, periodic=periodic, images=images)
    assert too_few(cell, cutoff, periodic=periodic, images=less)
    assert int(listed(structure, cutoff, fewer=1).count) < int(whole.count)
    assert not too_few(cell, cutoff, periodic=(True, True, False), images=less)


def test_it_is_compiled_in_float32():
    structure, cutoff = random_structure(np.random.default_rng(3), "skewed")
    found = listed(structure, cutoff, capacity=4096)
    assert found.senders.dtype == jnp.int32
    want = rows(neighbor_list(structure, cutoff))
    assert rows(found, int(found.count)) == want


def test_geometry_of_a_cell(x64):
    cell = np.array([[4.1, 0.3, 0.0], [0.2, -4.4, 0.5], [-0.4, 0.1, 3.9]])
    np.testing.assert_allclose(inverse(jnp.asarray(cell)), np.linalg.inv(cell), rtol=1e-12)
    volume = abs(np.linalg.det(cell))
    faces = [np.linalg.norm(np.cross(cell[i - 2], cell[i - 1])) for i in range(3)]
    np.testing.assert_allclose(heights(jnp.asarray(cell)), volume / np.array(faces), rtol=1e-12)


def test_too_many_pairs_are_refused():
    with pytest.raises(ValueError, match="looks at no more than 1e\\+08 images of pairs"):
        pairs(11000, (0, 0, 0))
