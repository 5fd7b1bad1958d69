"""Structures, neighbour lists and batches: every bad input is refused in words, or computed right.

Each row names its input; its pattern holds the rule, what was received, and what to do.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from geojax.graphs import (
    Budget,
    Edges,
    Properties,
    Structure,
    neighbor_list,
    pad,
    sample,
    store,
    take,
)
from geojax.graphs.structure import _pbc

X = np.array([[0.0, 0, 0], [0, 0, 1.0]])
Z = np.array([8, 1])
CUBE = np.eye(3) * 5.0
PERIODIC: Any = (True, True, True)


def pair(x=X, species=Z, cell=None, pbc: Any = (False,) * 3, **more) -> Structure:
    return Structure(np.asarray(x), species, cell, pbc, **more)


def two_cells(first: float, second: float) -> np.ndarray:
    """A cell of which two vectors are (first, 0, 0) and (second, 0, 0)."""
    return np.array([[first, 0, 0], [second, 0, 0], [0, 0, 5.0]])


def edges_to(node: int) -> Edges:
    return Edges(np.array([node], np.int32), np.zeros(1, np.int32), np.zeros((1, 3), np.int32))


def ready(**options) -> Any:
    return sample(pair(), 5.0, **options)


VALUE = ValueError
# fmt: off
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    # positions, labels and cells
    "NaN position": (
        lambda: pair(np.where(X == 1, np.nan, X)), VALUE,
        r"positions must be finite; entry \[1, 2\] is nan \(atom 1, axis z\); repair it, or take"),
    "infinite position": (
        lambda: pair(X - np.array([[0, np.inf, 0], [0, 0, 0]])), VALUE,
        r"must be finite; entry \[0, 1\] is -inf \(atom 0, axis y\); repair it"),
    "NaN in labels": (
        lambda: pair(properties=Properties(forces=X * np.nan)), VALUE,
        r"forces must be finite; entry \[0, 0\] is nan \(atom 0, axis x\); repair it"),
    "pbc without cell": (
        lambda: pair(pbc=PERIODIC), VALUE,
        r"needs its cell; got pbc \(True, True, True\) and no cell; give the lattice vectors, or"),
    "cell of zeros": (
        lambda: pair(cell=np.zeros((3, 3)), pbc=PERIODIC), VALUE,
        "needs its cell; got pbc .* and no cell; give the lattice vectors"),
    "zero volume": (
        lambda: pair(cell=two_cells(5, 10), pbc=PERIODIC), VALUE,
        r"the cell is singular: .* volume 0 Å³, cell \[\[5.0, .*; give vectors that span a volume"),
    "one zero vector with pbc in it": (
        lambda: pair(cell=np.diag([5.0, 0, 5]), pbc=PERIODIC), VALUE,
        "the cell is singular: .* volume 0 Å³.*; give vectors that span a volume, or set pbc"),
    "NaN cell": (
        lambda: pair(cell=CUBE * np.nan, pbc=PERIODIC), VALUE,
        r"cell must be finite; entry \[0, 0\] is nan; repair it"),
    "atomic number that does not exist": (
        lambda: pair(species=np.array([119, 1])), VALUE,
        "species are atomic numbers 1..118, or 0 for a point; got 119"),
    # shapes and kinds
    "positions Nx2": (
        lambda: pair(X[:, :2]), VALUE, r"positions must have shape \[node, 3\]; got \[2, 2\]"),
    "forces Nx2": (
        lambda: pair(properties=Properties(forces=X[:, :2])), VALUE,
        r"forces must have shape \[2, 3\]; got \[2, 2\]"),
    "complex positions": (
        lambda: pair(X + 0j), TypeError, "positions must be real numbers; got dtype complex128"),
    "species as real numbers": (
        lambda: pair(species=Z * 1.5), TypeError,
        "species are atomic numbers, integers; got dtype float64"),
    "another number of species": (
        lambda: pair(species=Z[:1]), VALUE, r"one entry per node \(2\); got \(1,\)"),
    "pbc as text": (  # which numpy would call true; type checks of tests see it even earlier
        lambda: _pbc("TFT"), VALUE,
        r"pbc is one truth value, or .*; got 'TFT'; write it as in \(True, True, False\)"),
    "pbc of two axes": (
        lambda: _pbc([True, False]), VALUE,
        r"pbc is one truth value, or .*; got \[True, False\]; write it as in"),
    # neighbour lists
    "empty structure": (
        lambda: neighbor_list(pair(np.zeros((0, 3)), np.zeros(0, int)), 5.0), VALUE,
        "a structure has at least one node; got an empty one"),
    "two atoms at one place": (
        lambda: neighbor_list(pair(X * 0), 5.0), VALUE,
        "may not be at one place; atoms [01] and [01] are 0 Å apart; remove one"),
    "two atoms at one place through the lattice": (
        lambda: neighbor_list(pair(X * 5, cell=CUBE, pbc=PERIODIC), 5.0), VALUE,
        "may not be at one place; atoms [01] and [01] are 0 Å apart; remove one"),
    "molecule spread 1e7 Å": (
        lambda: neighbor_list(pair(X * 1e7), 5.0), VALUE,
        r"span at most 1e\+06 Å; atoms 0 and 1 are 1e\+07 Å apart along z; check the units"),
    "cutoff in another unit": (
        lambda: neighbor_list(pair(cell=CUBE * 1e-3, pbc=PERIODIC), 5.0), VALUE,
        r"at most 2e\+08 edges; 2 nodes .* have about .*; check the units of cutoff and cell"),
    "cutoff that is no length": (
        lambda: neighbor_list(pair(), float("nan")), VALUE,
        "a cutoff is a positive length .* or infinity; got nan"),
    # capacity
    "node capacity overflow": (
        lambda: pad([ready()], Budget(2, 9, 2)), VALUE,
        r"must fit its budget; it needs Budget\(n_node=3, .* is Budget\(n_node=2, .* larger"),
    "neighbour capacity overflow": (
        lambda: pad([ready()], Budget(9, 1, 2)), VALUE,
        r"must fit its budget; it needs .*n_edge=2, .* is .*n_edge=1, .*or a larger budget"),
    "graph capacity overflow": (
        lambda: pad([ready(), ready()], Budget(9, 9, 2)), VALUE,
        r"must fit its budget; it needs .*n_graph=3\).* is .*n_graph=2\).*take fewer structures"),
    "table capacity overflow": (
        lambda: ready(slots=0), VALUE,
        "a slot for every neighbour; node 0 has 1 and there are 0; give more slots"),
    "table of another budget": (
        lambda: take(store([ready(slots=2)]), np.zeros(1, np.int32), Budget(9, 9, 2), np), VALUE,
        r"tables of 2 slots need 2 edges for each node.*; got Budget.*; give n_edge = 18"),
    "index past the end": (
        lambda: ready(edges=edges_to(2)), VALUE,
        "edges join nodes that exist; there are 2 and an edge names 2; compute the list again"),
    "index before the beginning": (
        lambda: ready(edges=edges_to(-1)), VALUE,
        "edges join nodes that exist; there are 2 and an edge names -1; compute the list again"),
    # batches
    "no structures": (lambda: store([]), VALUE, "a store holds at least one sample; got none"),
    "inputs in some structures only": (
        lambda: store([ready(), sample(pair(inputs={"q": Z}), 5.0)]), VALUE,
        r"have the same nodes; got both .*'q'.* and .*; give all structures the same inputs"),
}
# fmt: on


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(name):
    attempt, kind, pattern = REFUSED[name]
    with pytest.raises(kind, match=pattern):
        attempt()


def lengths(structure: Structure, cutoff: float) -> np.ndarray:
    """Sorted lengths of all edges, from the graph that a network sees."""
    graph = sample(structure, cutoff).graph
    x = graph.nodes["positions"]
    runs = x[graph.receivers] - x[graph.senders] + graph.edges["shifts"] @ graph.globals["cell"][0]
    return np.sort(np.linalg.norm(runs, axis=1))


def crystal(cell: np.ndarray) -> Structure:
    """Four atoms at the same places in space, whatever cell is said to repeat them."""
    x = np.array([[0.1, 0.2, 0.3], [2.1, 1.9, 0.4], [0.3, 2.2, 2.4], [2.0, 0.5, 2.3]])
    return pair(x, np.full(4, 29), cell, PERIODIC)


SKEWED = CUBE + np.array([[0, 0, 0], [15.0, 0, 0], [-10.0, 5.0, 0]])  # the same lattice
LEFT = CUBE[[1, 0, 2]]
COMPUTED = {
    "very skewed cell": lambda: (lengths(crystal(CUBE), 4.0), lengths(crystal(SKEWED), 4.0)),
    "left-handed cell": lambda: (lengths(crystal(CUBE), 4.0), lengths(crystal(LEFT), 4.0)),
    "cell smaller than two cutoffs": lambda: (  # simple cubic: 6, 12 and 8 neighbours
        np.repeat([2.0, 8**0.5, 12**0.5], [6, 12, 8]),
        lengths(pair(X[:1], Z[:1], CUBE * 0.4, PERIODIC), 3.9),
    ),
    "slab with zero c": lambda: (
        lengths(pair(cell=np.diag([5.0, 5, 90]), pbc=(True, True, False)), 6.0),
        lengths(pair(cell=np.diag([5.0, 5, 0]), pbc=(True, True, False)), 6.0),
    ),
    "offset of 1e4 Å": lambda: (np.ones(2), lengths(pair(X + 1e4), 2.0)),
    "offset of 1e6 Å": lambda: (np.ones(2), lengths(pair(X + 1e6), 2.0)),
    "offset of 1e6 Å in a crystal": lambda: (
        lengths(crystal(CUBE), 4.0),
        lengths(crystal(CUBE).replace(positions=crystal(CUBE).positions + 1e6), 4.0),
    ),
    "isolated atom": lambda: (np.zeros(0), lengths(pair(X[:1], Z[:1]), 5.0)),
    "atoms beyond the cutoff": lambda: (np.zeros(0), lengths(pair(X * 100), 5.0)),
    "atoms nearer than 0.3 Å": lambda: (np.full(2, 0.25), lengths(pair(X * 0.25), 5.0)),
    "integer positions": lambda: (np.ones(2), lengths(pair(X.astype(int)), 5.0)),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_is_computed_right(name):
    wanted, found = COMPUTED[name]()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_without_any_edge_is_padded(count):
    """Capacity is at least one edge; padded rows are zero."""
    alone = [sample(pair(X[:1], Z[:1]), 5.0)] * count
    batch = pad(alone, Budget(count + 1, 1, count + 1))
    assert batch.graph.n_edge.tolist() == [0] * count + [1]
    assert not batch.graph.edges["shifts"].any()
    assert batch.graph.nodes["species"].tolist() == [8] * count + [0]
