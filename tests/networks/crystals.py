"""Crystals, and the same ones given in another way, for networks that read a lattice."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax.graphs import Budget, Graph, Structure, pad, sample

PERIODIC = (True, True, True)
CUTOFF = 3.0
SPECIES = np.array([6, 8, 8, 22])
TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
TURN = TURN * np.sign(np.linalg.det(TURN))


def generic() -> Structure:
    """Four atoms without any symmetry, in a triclinic cell."""
    cell = np.array([[3.1, 0.2, 0.1], [0.6, 3.4, -0.2], [-0.5, 0.9, 3.9]])
    inside = np.array([[0.05, 0.1, 0.0], [0.5, 0.45, 0.1], [0.15, 0.55, 0.6], [0.6, 0.0, 0.55]])
    return Structure(inside @ cell, SPECIES, cell, PERIODIC)


def centred() -> Structure:
    """Three atoms that inversion at the first one maps onto each other."""
    cell = generic().cell
    x = np.array([[0.0, 0, 0], [0.3, 0.35, 0.2], [-0.3, -0.35, -0.2]]) @ cell
    return Structure(x, np.array([22, 8, 8]), cell, PERIODIC)


def perovskite() -> Structure:
    """In a cube, with displaced atoms: three lattice vectors of one length at right angles."""
    x = np.array([[0.0, 0, 0.02], [0.5, 0.5, 0.52], [0.5, 0, 0.47], [0, 0.5, 0.49], [0.03, 0, 0.5]])
    return Structure(4.0 * x, np.array([6, 22, 8, 8, 8]), 4.0 * np.eye(3), PERIODIC)


def prism(angle: float) -> Structure:
    """One atom in a rhombic prism; within the cutoff only its four neighbours in the plane."""
    angle = np.deg2rad(angle)
    cell = np.array([[2.5, 0, 0], [2.5 * np.cos(angle), 2.5 * np.sin(angle), 0], [0, 0, 5.0]])
    return Structure(np.zeros((1, 3)), np.array([8]), cell, PERIODIC)


def turned(s: Structure, matrix: np.ndarray = TURN) -> Structure:
    """The world turned, or mirrored."""
    return s.replace(positions=s.positions @ matrix.T, cell=s.cell @ matrix.T)


def mirrored(s: Structure) -> Structure:
    """x -> -x of all coordinates."""
    return turned(s, -np.eye(3))


def supercell(s: Structure) -> Structure:
    """Twice along the first lattice vector."""
    x = np.concatenate([s.positions, s.positions + s.cell[0]])
    return Structure(x, np.tile(s.species, 2), s.cell * np.array([[2], [1], [1]]), PERIODIC)


def equal(s: Structure) -> list[Structure]:
    """The same crystal: turned, moved, in another cell, atoms in another order and image."""
    order = np.random.default_rng(0).permutation(len(s))
    basis = np.array([[1, 2, 0], [0, 1, 0], [-1, 0, 1]])
    images = np.random.default_rng(0).integers(-2, 3, s.positions.shape)
    return [
        s,
        turned(s),
        s.replace(positions=s.positions + np.array([[0.7, -1.3, 2.1]])),
        s.replace(cell=basis @ s.cell),
        s.replace(positions=(s.positions + images @ s.cell)[order], species=s.species[order]),
    ]


def graph_of(structures, dtype=np.float64, **options) -> Graph:
    """One batch, with two padding nodes and four padding edges."""
    samples = [sample(s, CUTOFF, **options) for s in structures]
    edges = sum(int(s.graph.n_edge[0]) for s in samples)
    budget = Budget(sum(map(len, structures)) + 2, edges + 4, len(samples) + 1)
    return jax.tree.map(jnp.asarray, pad(samples, budget, dtype).graph)


def parameters(network, *inputs, dtype=np.float64):
    """Drawn by numpy, large enough that every term counts."""
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(scale=0.8, size=x.shape), dtype), shapes)


def outputs(network, structures, dtype=np.float64) -> np.ndarray:
    """The outputs of the first node of each structure, of one program."""
    graph = graph_of(structures, dtype)
    params = parameters(network, graph, dtype=dtype)
    found = np.asarray(jax.jit(network.apply)(params, graph).array)
    first = np.cumsum([0, *[len(s) for s in structures]])[:-1]
    return found[first]
