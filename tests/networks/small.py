"""A small molecule, its padded graph and large parameters, for networks that are tried by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from geojax.graphs import Budget, Graph, Structure, pad, sample

CUTOFF, ELEMENTS = 3.0, (1, 6, 8)


def molecule(n: int = 6, seed: int = 0, spacing: float = 1.2) -> Structure:
    """Atoms about `spacing` [Å] apart, without any symmetry."""
    rng = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)
    species = np.array([1, 6, 8, 1, 6, 1, 1, 8])
    return Structure(spacing * corners[:n] + 0.15 * rng.normal(size=(n, 3)), species[:n])


def graph_of(structure: Structure, dtype=np.float64) -> Graph:
    batch = pad([sample(structure, CUTOFF)], Budget(9, 60, 2), dtype)
    return jax.tree.map(jnp.asarray, batch.graph)


def shapes(network):
    """Of the parameters."""
    return jax.eval_shape(network.init, jax.random.key(0), graph_of(molecule(), np.float32))


def parameters(network, scale: float = 1.0):
    rng = np.random.default_rng(1)
    draw = lambda x: jnp.asarray(rng.normal(scale=scale, size=x.shape))
    return jax.tree.map(draw, shapes(network))
