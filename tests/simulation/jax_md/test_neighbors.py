"""Lists hold the edges of the host's, know how long they do, and say when they do not."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.datasets import from_ase
from geojax.graphs import neighbor_list
from geojax.simulation.jax_md import jax_md_potential
from tests.simulation.jax_md.cases import ATOMS, CASES, free, model, tiny, triclinic

SKIN = 0.4


def lengths(neighbor, x, cell) -> np.ndarray:
    """[Å] of the listed pairs for positions that were not wrapped since the list was made."""
    count = int(neighbor.count)
    senders, receivers, shifts = (
        np.asarray(part)[:count] for part in (neighbor.senders, neighbor.receivers, neighbor.shifts)
    )
    return np.linalg.norm(x[receivers] - x[senders] + shifts @ cell, axis=1)


@pytest.mark.parametrize("kind, fractional", CASES)
def test_the_edges_are_those_of_the_host(kind, fractional, x64):
    atoms = ATOMS[kind]()
    potential = jax_md_potential(model(), atoms, skin=SKIN, fractional=fractional)
    neighbor = potential.neighbor_fn.allocate(potential.position)
    edges = neighbor_list(from_ase(atoms), 3.0 + SKIN)
    count = int(neighbor.count)
    assert count == len(edges.senders) and not neighbor.did_buffer_overflow
    assert count <= len(neighbor.senders) <= 1.25 * count + 17
    # The list is that of wrapped positions; shifts of the host are those of the atoms as they are
    cell = np.eye(3) if potential.box is None else np.asarray(neighbor.cell)
    moved = np.round(atoms.positions @ np.linalg.inv(cell) - np.asarray(neighbor.reference))
    moved = (moved * atoms.pbc).astype(int)
    found = Counter()
    parts = (neighbor.senders, neighbor.receivers, neighbor.shifts)
    for s, r, shift in zip(*(np.asarray(part)[:count] for part in parts), strict=True):
        found[int(s), int(r), *map(int, shift - moved[r] + moved[s])] += 1
    parts = (edges.senders, edges.receivers, edges.shifts)
    rows = zip(*(part.tolist() for part in parts), strict=True)
    assert found == Counter((s, r, *shift) for s, r, shift in rows)


def test_a_list_is_complete_for_as_long_as_it_says(x64):
    """Against the pairs of the host, for moves and strains of which half are too large."""
    potential = jax_md_potential(model(), triclinic(), skin=SKIN, fractional=True)
    neighbor = potential.neighbor_fn.allocate(potential.position)
    rng, seen = np.random.default_rng(0), Counter()
    complete = jax.jit(lambda neighbor, u, box: neighbor.is_complete(u, box))
    for trial in range(150):
        size = 0.4 * rng.uniform() ** 2
        strain, move = ((0.2, 0.3), (0.5, 0.0), (0.0, 0.3))[trial % 3]  # and each by itself
        cell = np.asarray(neighbor.cell) @ (np.eye(3) + strain * size * rng.normal(size=(3, 3)))
        u = np.asarray(neighbor.reference) + move * size * rng.normal(size=(4, 3))
        wrapped = u + rng.integers(-2, 3, u.shape)  # an image more or less is the same place
        claims = bool(complete(neighbor, jnp.asarray(wrapped), jnp.asarray(cell.T)))
        there = from_ase(triclinic()).replace(positions=u @ cell, cell=cell)
        near = int((lengths(neighbor, u @ cell, cell) <= 3.0).sum())
        want = len(neighbor_list(there, 3.0).senders)
        seen[claims, near == want] += 1
    assert not seen[True, False] and seen[True, True] > 10
    assert seen[False, False] > 3  # such a list would have been wrong


def test_updates_are_made_once_half_of_the_skin_is_used(x64):
    potential = jax_md_potential(model(), free(), skin=SKIN)
    first = potential.neighbor_fn.allocate(potential.position)
    update = jax.jit(potential.neighbor_fn.update)
    along = jnp.zeros((5, 3)).at[2, 1].set(1.0)
    little, far = (potential.position + length * along for length in (0.09, 0.15))
    np.testing.assert_array_equal(update(little, first).reference, first.reference)
    np.testing.assert_array_equal(update(far, first).reference, far)
    assert float(first.used(far)) == pytest.approx(0.3)
    assert first.is_complete(far) and not first.is_complete(potential.position + 0.3 * along)
    assert not first.is_complete(far.at[0, 0].set(jnp.nan))


def test_too_few_places_are_seen_and_kept_in_mind(x64):
    potential = jax_md_potential(model(), free(), skin=0.1, capacity=1.0)
    spread = potential.position * 3
    neighbor = potential.neighbor_fn.allocate(spread)
    full = potential.neighbor_fn.update(potential.position, neighbor)
    assert int(full.fullest) > full.search.grid.places
    assert full.did_buffer_overflow and not full.cell_size_too_small
    assert not full.is_complete(potential.position)
    again = potential.neighbor_fn.update(spread, full)
    assert int(again.count) <= len(again.senders) and again.did_buffer_overflow
    more = potential.neighbor_fn.allocate(spread, 4)
    assert len(more.senders) >= int(more.count) + 4 * 5


def test_a_cell_too_narrow_for_its_grid_is_seen(x64):
    potential = jax_md_potential(model(), tiny(), skin=0.3, fractional=True)
    neighbor = potential.neighbor_fn.allocate(potential.position)
    assert neighbor.search.grid[:2] == ((1, 1, 1), (3, 3, 3))
    smaller = potential.neighbor_fn.update(potential.position, neighbor, box=0.5 * potential.box)
    assert smaller.did_buffer_overflow and smaller.cell_size_too_small
    mended = potential.neighbor_fn.allocate(potential.position, box=0.5 * potential.box)
    assert mended.search.grid.range == (5, 5, 5) and not mended.did_buffer_overflow


def test_a_box_is_a_length_three_or_a_matrix(x64):
    atoms = tiny()
    atoms.set_cell([3.1, 3.1, 3.1])
    potential = jax_md_potential(model(), atoms, fractional=True)
    counts = [
        int(potential.neighbor_fn.allocate(potential.position, box=box).count)
        for box in (None, 3.1, jnp.full(3, 3.1), 3.1 * jnp.eye(3), potential.box)
    ]
    assert len(set(counts)) == 1 and counts[0] == 6
    assert int(potential.neighbor_fn.allocate(potential.position, box=6.0).count) == 0


def test_bad_positions_and_boxes_are_refused(x64):
    crystal, molecule = (jax_md_potential(model(), make()) for make in (triclinic, free))
    x = crystal.position
    with pytest.raises(ValueError, match=r"floats of shape \(4, 3\); got float64 \(3, 3\)"):
        crystal.neighbor_fn.allocate(x[:3])
    with pytest.raises(ValueError, match="int"):
        crystal.neighbor_fn.allocate(x.astype(int))
    with pytest.raises(ValueError, match="atom 1, axis z"), jax.debug_nans(False):
        crystal.neighbor_fn.allocate(x.at[1, 2].set(jnp.nan))
    with pytest.raises(ValueError, match="two atoms may not be at one place"):
        crystal.neighbor_fn.allocate(x.at[1].set(x[0]))
    neighbor = crystal.neighbor_fn.allocate(x)
    with pytest.raises(ValueError, match=r"got float64 \(5, 3\)"):
        neighbor.update(jnp.zeros((5, 3)))
    with pytest.raises(ValueError, match="a box is a length"):
        neighbor.update(x, box=jnp.ones(2))
    with pytest.raises(ValueError, match="the cell is singular"):
        crystal.neighbor_fn.allocate(x, box=jnp.ones((3, 3)))
    with pytest.raises(ValueError, match="these atoms have no cell"):
        molecule.neighbor_fn.allocate(molecule.position, box=3.0)
