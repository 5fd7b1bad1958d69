"""A model as a function of edge vectors, which a pair style has, and not of positions and a cell.

A network reads edges by `graphs.edge_vectors`: with all positions zero and the unit matrix as
cell, the vectors of edges are their `shifts`. What a network makes of positions or cells otherwise
is lost; `comparison.compare_with_model` measures whether anything is.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geojax.graphs import Graph
from geojax.model import Model
from geojax.potential import predict_fn

__all__ = ["INPUTS", "OUTPUTS", "Program", "edge_program"]

INPUTS = ("species", "vectors", "senders", "receivers", "counts")
OUTPUTS = ("energies", "gradient")

Program = Callable[..., dict[str, Any]]


def edge_program(model: Model) -> Program:
    """The function (species, vectors, senders, receivers, counts) -> energies and gradient.

    Counts are those of local atoms, of real atoms and of real edges; atoms beyond are padding, of
    which there is one at least, and edges beyond join the first of it to itself, with vector zero.
    Energies [eV] are zero but for local atoms, relative to E0s; the gradient [eV/Å] is that of
    their sum by the vectors.
    """
    dtype = np.dtype(model.card.dtype)
    run = predict_fn(model.network, model.card.outputs)
    params = jax.tree.map(lambda x: np.asarray(x, dtype), model.params)
    cell = np.stack([np.eye(3), np.zeros((3, 3))]).astype(dtype)

    def program(species: Any, vectors: Any, senders: Any, receivers: Any, counts: Any):
        n, e = species.shape[0], senders.shape[0]
        local, nodes, edges = counts[0], counts[1], counts[2]
        weights = jax.tree.map(jnp.asarray, params)

        def total(vectors: Any) -> tuple[Any, Any]:
            graph = Graph(
                nodes={"positions": jnp.zeros((n, 3), dtype), "species": species},
                edges={"shifts": vectors},
                senders=senders,
                receivers=receivers,
                globals={"cell": cell},
                n_node=jnp.stack([nodes, n - nodes]).astype(jnp.int32),
                n_edge=jnp.stack([edges, e - edges]).astype(jnp.int32),
            )
            energies = jnp.where(jnp.arange(n) < local, run(weights, graph).energies, 0)
            return energies.sum(), energies

        gradient, energies = jax.grad(total, has_aux=True)(vectors)
        return {"energies": energies, "gradient": gradient}

    return program
