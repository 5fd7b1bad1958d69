"""Second derivatives of an energy, by positions and by strain, without a matrix where it can be."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.graphs import Graph, Properties
from geojax.potential import strained

__all__ = ["VOIGT", "dense_hessian", "hessian_vector_product", "strain_derivatives"]

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # xx yy zz yz xz xy

Predict = Callable[[Any, Graph], Properties]


def hessian_vector_product(
    predict: Predict, params: Any, graph: Graph, vector: Float[Array, "node 3"]
) -> Float[Array, "node 3"]:
    """d²E/dr dr · v [eV/Å² times the unit of v], forward over reverse; no matrix is formed.

    Args:
        predict: from `predict_fn(..., forces=True)`.
    """

    def gradient(positions):
        return -predict(params, _moved_to(graph, positions)).forces

    return jax.jvp(gradient, (graph.nodes["positions"],), (vector,))[1]


def dense_hessian(
    predict: Predict, params: Any, graph: Graph, *, block: int = 32
) -> Float[Array, "node 3 node 3"]:
    """All second derivatives [eV/Å²] of the sum of energies, `block` columns at a time.

    Rows and columns of padding nodes are zero.

    Args:
        predict: from `predict_fn(..., forces=True)`.
    """
    x = graph.nodes["positions"]
    basis = jnp.eye(x.size, dtype=x.dtype).reshape(-1, *x.shape)
    column = lambda v: hessian_vector_product(predict, params, graph, v)
    columns = jax.lax.map(column, basis, batch_size=min(block, x.size))
    return columns.reshape(*x.shape, *x.shape)


def strain_derivatives(
    predict: Predict, params: Any, graph: Graph
) -> tuple[Float[Array, "6 6"], Float[Array, "node 3 6"]]:
    """d²E/dη dη [eV] and d²E/du dη [eV/Å] of the sum of energies, with atoms at r + η r + u.

    The six strains η are Voigt's, xx yy zz yz xz xy, where a shear of one is 1/2 in both of its
    entries.

    Args:
        predict: from `predict_fn`.
    """
    x = graph.nodes["positions"]
    shape, first = (graph.n_node.shape[0], 3, 3), np.zeros((6, 3, 3))
    for k, (i, j) in enumerate(VOIGT):
        first[k, i, j] += 0.5
        first[k, j, i] += 0.5
    basis = jnp.asarray(first, x.dtype)

    def energy(eta: Float[Array, "6"], moves: Float[Array, "node 3"]) -> Float[Array, ""]:
        strain = jnp.broadcast_to(jnp.einsum("k,kxy->xy", eta, basis)[None], shape)
        under = strained(graph, strain)
        return jnp.sum(predict(params, _moved_to(under, under.nodes["positions"] + moves)).energy)

    start = jnp.zeros(6, x.dtype), jnp.zeros_like(x)
    gradient = jax.grad(energy, (0, 1))
    along = lambda eta: jax.jvp(gradient, start, (eta, start[1]))[1]
    of_strain, of_moves = jax.lax.map(along, jnp.eye(6, dtype=x.dtype))
    return of_strain, jnp.moveaxis(of_moves, 0, -1)


def _moved_to(graph: Graph, positions: Float[Array, "node 3"]) -> Graph:
    return graph._replace(nodes={**graph.nodes, "positions": positions})
