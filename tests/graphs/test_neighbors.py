"""Neighbour lists against all images of all pairs, and every input that a search cannot take."""

import itertools
import subprocess
import sys
from collections import Counter

import ase
import ase.neighborlist
import numpy as np
import pytest

from geojax.graphs import Edges, Structure, neighbor_list, neighbors

CHUNKS = 10
PERIODIC, SLAB_AXES, OPEN = (True, True, True), (True, True, False), (False, False, False)
KINDS = ("skewed", "small", "left-handed", "slab", "wire", "mixed", "unwrapped", "open")


def brute_force(structure: Structure, cutoff: float) -> Edges:
    """Every image of every pair, by the definition r = x[receiver] - x[sender] + shift @ cell."""
    x, cell, n = structure.positions, structure.cell, len(structure)
    difference = x[:, None] - x[None]  # [receiver, sender, xyz]
    reach = np.zeros(3, int)
    if any(structure.pbc):
        axes = [axis for axis in range(3) if structure.pbc[axis]]
        dual = np.linalg.pinv(cell[axes])  # |r| <= cutoff bounds the coordinates r @ dual
        far = np.abs(difference @ dual).max((0, 1)) + cutoff * np.linalg.norm(dual, axis=0)
        reach[axes] = np.ceil(far)
    found = []
    for shift in itertools.product(*(range(-m, m + 1) for m in reach)):
        vectors = difference + (0 if cell is None else shift @ cell)
        near = np.linalg.norm(vectors, axis=-1) <= cutoff
        if not any(shift):
            near &= ~np.eye(n, dtype=bool)
        found += [(r, s, *shift) for r, s in np.argwhere(near)]
    rows = np.array(sorted(found), int).reshape(-1, 5)
    return Edges(rows[:, 1], rows[:, 0], rows[:, 2:])


def random_structure(rng: np.random.Generator, kind: str) -> tuple[Structure, float]:
    """One to six points in a cell of that kind, and a cutoff of up to three boxes."""
    cell = np.eye(3) * rng.uniform(2, 6, 3) + rng.normal(size=(3, 3)) * 0.3
    pbc = {"slab": SLAB_AXES, "wire": (False, True, False), "open": OPEN}.get(kind, PERIODIC)
    if kind == "mixed":
        turned = rng.permutation(SLAB_AXES if rng.random() < 0.5 else (True, False, False))
        pbc = (bool(turned[0]), bool(turned[1]), bool(turned[2]))
    if kind == "skewed":
        cell[1] += rng.integers(-2, 3) * cell[0]
        cell[2] += rng.uniform(-2, 2) * cell[0] + rng.uniform(-1, 1) * cell[1]
    if kind == "small":
        cell *= 0.6
    x = rng.uniform(size=(rng.integers(1, 7), 3)) @ cell
    if kind == "unwrapped":
        x += rng.integers(-4, 5, x.shape) @ cell
    if kind in ("slab", "wire", "mixed") and rng.random() < 0.5:
        cell[~np.array(pbc, bool)] = 0
    if (np.linalg.det(cell) < 0) != (kind == "left-handed"):
        cell = cell[[1, 0, 2]]
        pbc = (pbc[1], pbc[0], pbc[2])
    wanted = rng.uniform(0.3, 3 if kind == "small" else 1.2)
    cutoff = wanted * np.linalg.norm(cell, axis=1).max()
    species = np.ones(len(x), int)
    return Structure(x, species, cell, pbc), float(min(cutoff, 9.0))


def as_multiset(edges: Edges) -> Counter:
    return Counter(map(tuple, np.column_stack(edges).tolist()))


def vectors(structure: Structure, edges: Edges) -> np.ndarray:
    cell = np.zeros((3, 3)) if structure.cell is None else structure.cell
    x = structure.positions
    return x[edges.receivers] - x[edges.senders] + edges.shifts @ cell


@pytest.mark.parametrize(
    "chunk", [pytest.param(i, marks=[pytest.mark.slow] * (i > 3)) for i in range(CHUNKS)]
)
def test_is_the_brute_force_list_on_500_cells(chunk, monkeypatch):
    rng = np.random.default_rng(chunk)
    for i in range(500 // CHUNKS):
        if i == 25:  # the second half of the open structures goes through the search as well
            monkeypatch.setattr(neighbors, "FEW", 0)
        structure, cutoff = random_structure(rng, KINDS[i % len(KINDS)])
        edges = neighbor_list(structure, cutoff)
        wanted = brute_force(structure, cutoff)
        assert as_multiset(edges) == as_multiset(wanted), (KINDS[i % len(KINDS)], structure)
        assert (np.linalg.norm(vectors(structure, edges), axis=-1) <= cutoff).all()
        key = list(zip(edges.receivers, edges.senders, *edges.shifts.T, strict=True))
        assert key == sorted(key)
        assert edges.senders.dtype == edges.receivers.dtype == edges.shifts.dtype == np.int32


@pytest.mark.parametrize("kind", KINDS)
def test_has_the_sign_of_ase(kind):
    structure, cutoff = random_structure(np.random.default_rng(3), kind)
    atoms = ase.Atoms(
        structure.species, structure.positions, cell=structure.cell, pbc=structure.pbc
    )
    i, j, shifts, runs = ase.neighborlist.neighbor_list("ijSD", atoms, cutoff)
    edges = neighbor_list(structure, cutoff)
    assert as_multiset(edges) == as_multiset(Edges(i, j, shifts))  # ase: from i to j
    order = np.lexsort((*shifts.T[::-1], i, j))
    np.testing.assert_allclose(vectors(structure, edges), runs[order], atol=1e-10)


def test_has_the_sign_of_vesin():
    vesin = pytest.importorskip("vesin")
    structure, cutoff = random_structure(np.random.default_rng(5), "skewed")
    i, j, shifts, runs = vesin.NeighborList(cutoff=cutoff, full_list=True).compute(
        structure.positions, structure.cell, structure.pbc, "ijSD"
    )
    edges = neighbor_list(structure, cutoff)
    order = np.lexsort((*shifts.T[::-1], i, j))
    assert as_multiset(edges) == as_multiset(Edges(i, j, shifts))
    np.testing.assert_allclose(vectors(structure, edges), runs[order], atol=1e-12)


def test_a_slab_needs_no_third_vector():
    rng = np.random.default_rng(0)
    x, cell = rng.uniform(0, 4, (5, 3)), np.diag([4.0, 5.0, 0.0])
    bare = Structure(x, np.ones(5, int), cell, (True, True, False))
    full = Structure(x, np.ones(5, int), np.diag([4.0, 5.0, 70.0]), (True, True, False))
    assert as_multiset(neighbor_list(bare, 6.0)) == as_multiset(neighbor_list(full, 6.0))


def test_open_axes_may_have_any_vector():
    """The vectors along axes that do not repeat may even be parallel: they are never used."""
    x = np.random.default_rng(0).uniform(0, 4, (5, 3))
    cell = np.array([[4.0, 0, 0], [1, 1, 1], [1, 1, 1]])
    wire = Structure(x, np.ones(5, int), cell, (True, False, False))
    assert as_multiset(neighbor_list(wire, 5.0)) == as_multiset(brute_force(wire, 5.0))


def test_images_may_be_many_cells_away():
    x = np.array([[0.0, 0, 0], [1e6 * 10 + 1, 0, 0], [1, 1, -3e5 * 10]])
    structure = Structure(x, np.ones(3, int), np.eye(3) * 10, (True,) * 3)
    edges = neighbor_list(structure, 3.0)
    assert as_multiset(edges) == {
        (1, 0, 1_000_000, 0, 0): 1,
        (0, 1, -1_000_000, 0, 0): 1,
        (2, 0, 0, 0, -300_000): 1,
        (0, 2, 0, 0, 300_000): 1,
        (2, 1, -1_000_000, 0, -300_000): 1,
        (1, 2, 1_000_000, 0, 300_000): 1,
    }


@pytest.mark.parametrize("few", [64, 0])
def test_single_atom_has_no_edge(few, monkeypatch):
    monkeypatch.setattr(neighbors, "FEW", few)
    edges = neighbor_list(Structure(np.zeros((1, 3)), np.array([1])), 5.0)
    assert [part.shape for part in edges] == [(0,), (0,), (0, 3)]
    one = Structure(np.zeros((1, 3)), np.array([1]), np.eye(3) * 20, (True,) * 3)
    assert len(neighbor_list(one, 5.0).senders) == 0


def test_single_atom_sees_its_images():
    one = Structure(np.zeros((1, 3)), np.array([1]), np.eye(3) * 2.0, (True,) * 3)
    assert len(neighbor_list(one, 2.1).senders) == 6


def test_precision_of_the_positions_does_not_matter():
    structure, cutoff = random_structure(np.random.default_rng(1), "skewed")
    single = structure.replace(positions=structure.positions.astype(np.float32))
    exact = single.replace(positions=single.positions.astype(np.float64))
    assert as_multiset(neighbor_list(single, cutoff)) == as_multiset(neighbor_list(exact, cutoff))


def test_infinite_cutoff_joins_all_pairs():
    x = np.random.default_rng(0).normal(size=(5, 3)) * 100
    edges = neighbor_list(Structure(x, np.zeros(5, int)), np.inf)
    pairs = list(zip(edges.receivers, edges.senders, strict=True))
    assert pairs == list(itertools.permutations(range(5), 2))
    assert not edges.shifts.any()


def test_wide_open_structures_are_searched():
    x = np.vstack([np.zeros(3), [9e5, 9e5, 9e5], [9e5, 9e5, 9e5 - 1]])
    slab = Structure(x, np.ones(3, int), np.diag([10.0, 10, 0]), (True, True, False))
    edges = neighbor_list(slab, 5.0)
    assert list(edges.senders) == [2, 1] and list(edges.receivers) == [1, 2]


@pytest.mark.parametrize("height", [4.0, 11.0])
def test_flat_and_long_boxes_are_searched(height):
    """Their grids have more cells than vesin holds, and few of them along some axes."""
    rng = np.random.default_rng(0)
    for sides in ([height, 3000.0, 3000.0], [height, height, 9e5]):
        x = np.concatenate([rng.uniform(size=(4, 3)) * 4, rng.uniform(size=(4, 3)) * sides])
        flat = Structure(x, np.ones(8, int), np.diag(sides), PERIODIC)
        edges = neighbor_list(flat, 5.0)
        assert as_multiset(edges) == as_multiset(brute_force(flat, 5.0))
        assert len(edges.senders) > 0


# Bad input


def atoms(x, **more) -> Structure:
    return Structure(np.asarray(x, float), np.ones(len(x), int), **more)


CUBE = {"cell": np.eye(3) * 4.0, "pbc": (True, True, True)}
TWO = [[0.0, 0, 0], [1.0, 0, 0]]


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan])
def test_cutoff_is_positive(cutoff):
    with pytest.raises(ValueError, match=r"cutoff is a positive length .* got (0.0|-1.0|nan)"):
        neighbor_list(atoms(TWO), cutoff)


def test_infinite_cutoff_needs_an_end():
    with pytest.raises(ValueError, match="a periodic structure has no end; give a finite cutoff"):
        neighbor_list(atoms(TWO, **CUBE), np.inf)


def test_empty_structure():
    with pytest.raises(ValueError, match="at least one node; got an empty one"):
        neighbor_list(atoms(np.zeros((0, 3))), 5.0)


@pytest.mark.parametrize("nearest", [0, -2])
def test_nearest_is_positive(nearest):
    with pytest.raises(ValueError, match=f"at least one nearest sender; got nearest={nearest}"):
        neighbor_list(atoms(TWO), 5.0, nearest=nearest)


@pytest.mark.parametrize("few", [64, 0])
@pytest.mark.parametrize("more", [{}, CUBE], ids=["open", "periodic"])
@pytest.mark.parametrize("options", [{}, {"nearest": 1}], ids=["cutoff", "nearest"])
def test_coincident_atoms(few, more, options, monkeypatch):
    monkeypatch.setattr(neighbors, "FEW", few)
    x = [[0.5, 0, 0], [2.0, 0, 0], [0.5, 0, 2e-4]]
    message = r"atoms (0 and 2|2 and 0) are 0.0002 Å apart; remove one of them"
    with pytest.raises(ValueError, match=message):
        neighbor_list(atoms(x, **more), 3.0, **options)


def test_atoms_that_coincide_through_the_lattice():
    with pytest.raises(ValueError, match=r"atoms (0 and 1|1 and 0) are 1e-05 Å apart"):
        neighbor_list(atoms([[0, 0, 0], [4 - 1e-5, 0, 0]], **CUBE), 3.0)


def test_points_may_coincide():
    cloud = Structure(np.zeros((3, 3)), np.zeros(3, int))
    assert len(neighbor_list(cloud, 1.0).senders) == 6


WIDE = [[0.0, 0, 0], [1, 0, 0], [0, 0, 1e7]]
SLAB = {"cell": np.diag([10.0, 10, 0]), "pbc": (True, True, False)}


@pytest.mark.parametrize("few", [64, 0])
@pytest.mark.parametrize("more", [{}, SLAB], ids=["open", "slab"])
def test_spread_is_refused_before_the_search(more, few, monkeypatch):
    monkeypatch.setattr(neighbors, "FEW", few)
    message = r"span at most 1e\+06 Å; atoms [01] and 2 are 1e\+07 Å apart along z; check the units"
    with pytest.raises(ValueError, match=message):
        neighbor_list(atoms(WIDE, **more), 5.0)


def test_long_lattice_vectors_are_refused():
    with pytest.raises(ValueError, match=r"lattice vectors are at most 1e\+06 Å long; got 1e\+12"):
        neighbor_list(atoms(TWO, cell=np.diag([1e12, 10, 10]), pbc=(True,) * 3), 5.0)


def test_positions_beyond_all_digits_are_refused():
    message = r"atom 1 is 1e\+12 along lattice vector 0; wrap the positions"
    with pytest.raises(ValueError, match=message):
        neighbor_list(atoms([[0, 0, 0], [1e13, 0, 0]], cell=np.eye(3) * 10, pbc=(True,) * 3), 5.0)


def test_lists_that_fill_the_memory_are_refused():
    with pytest.raises(ValueError, match=r"have about 5e\+11; check the units of cutoff and cell"):
        neighbor_list(atoms([[0, 0, 0]], cell=np.eye(3) * 1e-3, pbc=(True,) * 3), 5.0)
    with pytest.raises(ValueError, match="1 nodes at .* per Å³ within 3e.06 Å"):
        neighbor_list(atoms([[0, 0, 0]], cell=np.eye(3), pbc=(True,) * 3), 3e6)
    cloud = Structure(np.random.default_rng(0).uniform(size=(20_000, 3)), np.zeros(20_000, int))
    with pytest.raises(ValueError, match="a list has at most 2e.08 edges; 20000 nodes"):
        neighbor_list(cloud, 5.0)
    with pytest.raises(ValueError, match="all pairs of 20000 nodes are more"):
        neighbor_list(cloud, np.inf)


def test_the_process_survives_what_kills_a_search():
    """In a process of its own, since a failure would be a signal, or no end."""
    code = """
import numpy as np
from geojax.graphs import Structure, neighbor_list, neighbors
neighbors.FEW = 0
for x, cell, pbc in [
    ([[0, 0, 0], [0, 0, 1e7]], np.diag([10.0, 10, 1]), (True, True, False)),
    ([[0, 0, 0], [0, 9e5, 9e5]], np.diag([10.0, 1, 1]), (True, False, False)),
    ([[0, 0, 0], [0, 0, 9e5]], np.diag([10.0, 10, 1]), (True, True, False)),
    ([[0, 0, 0], [1, 0, 0]], np.diag([1e12, 10, 10]), (True, True, True)),
    ([[0, 0, 0], [1e7, 1e7, 1e7]], None, (False, False, False)),
    ([[0, 0, 0], [9e5, 9e5, 9e5]], None, (False, False, False)),
]:
    try:
        print(len(neighbor_list(Structure(np.array(x, float), np.ones(2, int), cell, pbc), 5.0)[0]))
    except ValueError as error:
        print("refused:", str(error).split()[0])
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[:6] == [
        "refused: positions",
        "0",
        "0",
        "refused: lattice",
        "refused: positions",
        "0",
    ]


def test_missing_vesin_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "vesin", None)
    with pytest.raises(ImportError, match=r"need vesin; pip install 'geojax\[atoms\]'"):
        neighbor_list(atoms(TWO, **CUBE), 3.0)
    assert len(neighbor_list(atoms(TWO), 3.0).senders) == 2  # small molecules do without


# Nearest neighbours


def lengths_by_receiver(structure: Structure, edges: Edges) -> list[np.ndarray]:
    lengths = np.linalg.norm(vectors(structure, edges), axis=-1)
    return [np.sort(lengths[edges.receivers == node]) for node in range(len(structure))]


@pytest.mark.parametrize("pbc", [OPEN, PERIODIC, SLAB_AXES], ids=["open", "periodic", "slab"])
@pytest.mark.parametrize("kind", ["random", "lattice", "duplicated"])
@pytest.mark.parametrize("nearest", [1, 4, 30])
def test_nearest_by_brute_force(pbc, kind, nearest):
    """Ties may be broken anyhow, so lengths are compared."""
    rng = np.random.default_rng(0)
    x = {
        "random": rng.uniform(0, 4, (20, 3)),
        "lattice": np.array(list(itertools.product([0.0, 1, 2], repeat=3))),
        "duplicated": np.repeat(rng.uniform(0, 4, (4, 3)), 5, axis=0),
    }[kind]
    cell = np.diag([4.0, 4.5, 5.0]) if any(pbc) else None
    cloud = Structure(x, np.zeros(len(x), int), cell, pbc)
    edges = neighbor_list(cloud, 2.6, nearest=nearest)
    every = lengths_by_receiver(cloud, brute_force(cloud, 2.6))
    for found, wanted in zip(lengths_by_receiver(cloud, edges), every, strict=True):
        np.testing.assert_allclose(found, wanted[:nearest], atol=1e-12)
    assert max(Counter(map(tuple, np.column_stack(edges).tolist())).values()) == 1
    loops = (edges.senders == edges.receivers) & ~edges.shifts.any(1)
    assert not loops.any()
    key = list(zip(edges.receivers, edges.senders, *edges.shifts.T, strict=True))
    assert key == sorted(key)


def test_nearest_of_a_single_point():
    edges = neighbor_list(Structure(np.zeros((1, 3)), np.zeros(1, int)), np.inf, nearest=4)
    assert [part.shape for part in edges] == [(0,), (0,), (0, 3)]


def test_nearest_with_and_without_cutoff():
    cloud = Structure(np.array([[0.0, 0, 0], [1, 0, 0], [9, 0, 0]]), np.zeros(3, int))
    edges = neighbor_list(cloud, np.inf, nearest=1)
    assert list(edges.senders) == [1, 0, 1] and list(edges.receivers) == [0, 1, 2]
    assert list(neighbor_list(cloud, 2.0, nearest=1).receivers) == [0, 1]


# Keys


def test_keys_keep_the_order():
    rng = np.random.default_rng(0)
    rows = rng.integers([0, 0, -3, -3, -3], [9, 9, 4, 4, 4], (200, 5))
    edges = Edges(rows[:, 1], rows[:, 0], rows[:, 2:])
    keys = neighbors.order_keys(edges, 9)
    order = np.lexsort(rows.T[::-1])
    assert (np.diff(keys[order]) >= 0).all()
    assert len(np.unique(keys)) == len(np.unique(rows, axis=0))


def test_keys_that_do_not_fit_are_refused():
    edges = Edges(np.zeros(1, int), np.zeros(1, int), np.full((1, 3), 10**6))
    with pytest.raises(ValueError, match="numbered by 63 bits; got 5 nodes and shifts of up to 10"):
        neighbors.order_keys(edges, 5)
