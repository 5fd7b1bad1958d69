"""Any function of a graph, made equivariant by the frames of its graphs.

    f(X) = sum_g w_g rho(g) phi(g⁻¹ X)

where g = (R, c) are the frames of X, g⁻¹ X is X in the coordinates of the frame, and rho(g) turns
outputs by the Wigner matrices of their irreps. A function that is equivariant already stays as it
is.

References:
    Puny et al., "Frame averaging for invariant and equivariant network design", ICLR 2022,
    https://arxiv.org/abs/2110.03336.
    Dym, Lawrence, Siegel, "Equivariant frames and the impossibility of continuous
    canonicalization", ICML 2024, https://arxiv.org/abs/2402.16077 (weights).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from e3nn_jax import Irrep, Irreps
from jaxtyping import Array, Float

from geojax.graphs import Graph, graph_of_nodes
from geojax.so3 import wigner_d
from geojax.so3.rotation import turn_degree
from geojax.symmetrize.frames import Frames

__all__ = ["into_frame", "symmetrize", "turn_irreps"]

VECTOR = Irrep(1, -1)


def symmetrize(
    function: Callable[[Graph], Float[Array, "row d"]],
    graph: Graph,
    frames: Frames,
    irreps: str,
    *,
    vectors: Sequence[str] = (),
    per: str = "node",
    points: bool = False,
    chunk: int | None = None,
) -> Float[Array, "row d"]:
    """The weighted mean over frames of what a function finds in them, turned back.

    Args:
        function: of a graph, to the columns of `irreps` for every node or every graph.
        graph: positions [Å]; they, the cell and `vectors` are turned into each frame.
        frames: of the graph, from a provider.
        irreps: of the outputs, such as "2x0e+1o".
        vectors: names of node inputs `[node, 3]` or `[node, k, 3]` that turn like positions:
            velocities, normals, where nodes were.
        per: "node" or "graph", the rows of the output.
        points: outputs 1o are points: the origin of the frame is added.
        chunk: so many frames at a time, with less memory; None: all at once.

    Returns:
        Outputs of nodes or graphs; zero in padding.

    Raises:
        ValueError: `per` is something else, or the function's outputs do not have `irreps`.
    """
    if per not in ("node", "graph"):
        raise ValueError(f"outputs are per 'node' or per 'graph'; got per={per!r}")
    index = graph_of_nodes(graph) if per == "node" else None
    at_rows = lambda x: x if index is None else x[index]

    def in_frame(frame: tuple[Array, Array]) -> Float[Array, "row d"]:
        matrices, weights = frame
        found = function(into_frame(graph, matrices, frames.origins, vectors=vectors))
        found = turn_irreps(found, at_rows(matrices), irreps)
        if points:
            found = _moved(found, at_rows(frames.origins), irreps)
        return found * at_rows(weights)[:, None]

    each = (jnp.moveaxis(frames.matrices, 1, 0), jnp.moveaxis(frames.weights, 1, 0))
    if chunk is None:
        return jnp.sum(jax.vmap(in_frame)(each), 0)
    return jnp.sum(jax.lax.map(jax.checkpoint(in_frame), each, batch_size=chunk), 0)


def into_frame(
    graph: Graph,
    matrices: Float[Array, "graph 3 3"],
    origins: Float[Array, "graph 3"],
    *,
    vectors: Sequence[str] = (),
) -> Graph:
    """The graph in the coordinates of one frame of each structure.

    Raises:
        KeyError: the graph has no node input of a name.
    """
    if missing := [name for name in vectors if name not in graph.nodes]:
        raise KeyError(f"no node input {missing[0]!r}; the structures have {sorted(graph.nodes)}")
    index = graph_of_nodes(graph)
    at_node = matrices[index]
    turn = lambda x: jnp.einsum("n...x,nxy->n...y", x, at_node, precision="highest")
    nodes = {**graph.nodes, "positions": turn(graph.nodes["positions"] - origins[index])}
    nodes |= {name: turn(graph.nodes[name]) for name in vectors}
    cell = graph.globals["cell"].astype(matrices.dtype)
    cell = jnp.einsum("gax,gxy->gay", cell, matrices, precision="highest")
    return graph._replace(nodes=nodes, globals={**graph.globals, "cell": cell})


def turn_irreps(
    x: Float[Array, "row d"], matrices: Float[Array, "row 3 3"], irreps: str
) -> Float[Array, "row d"]:
    """Columns of `irreps` turned by orthogonal matrices, proper or improper.

    Raises:
        ValueError: there are more or fewer columns.
    """
    kinds = Irreps(irreps)
    if x.ndim != 2 or x.shape[-1] != kinds.dim:
        raise ValueError(
            f"outputs with irreps {irreps!r} have shape [row, {kinds.dim}]; got {x.shape}"
        )
    degrees = {p: [i.l for _, i in kinds if _is_pseudo(i) == p] for p in (False, True)}
    blocks = {p: wigner_d(matrices, max(l), pseudo=p) for p, l in degrees.items() if l}
    columns = []
    for (multiplicity, i), rows in zip(kinds, kinds.slices(), strict=True):
        part = x[:, rows]
        if i.l or i.p < 0:
            part = part.reshape(-1, multiplicity, i.dim).swapaxes(1, 2)
            part = turn_degree(blocks[_is_pseudo(i)][i.l], part).swapaxes(1, 2)
        columns.append(part.reshape(x.shape[0], multiplicity * i.dim))
    return jnp.concatenate(columns, -1)


def _is_pseudo(irrep: Irrep) -> bool:
    return irrep.p != (-1) ** irrep.l


def _moved(x: Float[Array, "row d"], by: Float[Array, "row 3"], irreps: str) -> Array:
    """Outputs 1o moved by a vector."""
    columns = [
        jnp.tile(by, (1, n)) if i == VECTOR else jnp.zeros((by.shape[0], n * i.dim), by.dtype)
        for n, i in Irreps(irreps)
    ]
    return x + jnp.concatenate(columns, -1)
