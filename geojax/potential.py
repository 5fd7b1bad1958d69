"""From a network's node outputs to `Properties`: energies by sum, forces and stress by derivative.

One scalar function of positions and strain serves all derivatives: positions and cell are
multiplied by `1 + (strain + strain.T) / 2`, and one backward pass gives forces `-dE/dr` and stress
`(1/V) dE/dstrain` (tension positive). Energies here are *relative to the isolated atoms*: E0s are
added on the host in float64, because float32 has no digits left for total energies of thousands of
eV.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.deviations import check_std_names, deviation, mean_and_std, std_name
from geojax.graphs import (
    Graph,
    Properties,
    degree,
    edge_vectors,
    graph_mask,
    graph_of_nodes,
    node_mask,
    pool,
    replace_leaves,
    to_receivers,
    volumes,
)
from geojax.outputs import Output, slices
from geojax.so3 import ROTATION_HEADS

__all__ = ["predict_fn", "strained", "with_derivatives"]

Energies = Callable[[Any, Graph], tuple[Float[Array, "node"], Any]]


def with_derivatives(
    energies: Energies, *, forces: bool = True, stress: bool = False
) -> Callable[[Any, Graph], tuple[Properties, Any]]:
    """From `energies(params, graph) -> (E_i, aux)` to `(params, graph) -> (Properties, aux)`.

    Args:
        energies: E_i of each node [eV], zero for padding.
        forces: whether to return -dE/dr [eV/Å].
        stress: whether to return (1/V) dE/dstrain [eV/Å³]; zero for graphs without a cell, which
            the callers refuse or mask.
    """

    def total(positions, strain, params, graph):
        graph = graph._replace(nodes={**graph.nodes, "positions": positions})
        if strain is not None:
            graph = strained(graph, strain)
        node_energies, aux = energies(params, graph)
        return node_energies.sum(), (node_energies, aux)

    def potential(params: Any, graph: Graph) -> tuple[Properties, Any]:
        x = graph.nodes["positions"]
        strain = jnp.zeros((graph.n_node.shape[0], 3, 3), x.dtype) if stress else None
        if not forces and not stress:
            _, (node_energies, aux) = total(x, None, params, graph)
            return Properties(_per_graph(node_energies, graph), energies=node_energies), aux
        which = (0, 1) if stress else (0,)
        derivative = jax.grad(total, which, has_aux=True)
        gradients, (node_energies, aux) = derivative(x, strain, params, graph)
        found = Properties(
            energy=_per_graph(node_energies, graph),
            energies=node_energies,
            forces=-gradients[0] if forces else None,
        )
        if stress:
            volume = volumes(graph)[:, None, None]
            real = volume > 0
            found = found._replace(
                stress=jnp.where(real, gradients[1] / jnp.where(real, volume, 1), 0)
            )
        return found, aux

    return potential


def _per_graph(x: Float[Array, "node"], graph: Graph) -> Float[Array, "graph"]:
    return pool(x[:, None], graph)[:, 0]


def strained(graph: Graph, strain: Float[Array, "graph 3 3"]) -> Graph:
    """Positions and cells of each graph multiplied by 1 + (strain + strain.T) / 2."""
    deformation = jnp.eye(3, dtype=strain.dtype)[None] + (strain + jnp.swapaxes(strain, 1, 2)) / 2
    at_node = deformation[graph_of_nodes(graph)]
    positions = jnp.einsum("nx,nxy->ny", graph.nodes["positions"], at_node)
    cell = jnp.einsum("gax,gxy->gay", graph.globals["cell"].astype(strain.dtype), deformation)
    return graph._replace(
        nodes={**graph.nodes, "positions": positions},
        globals={**graph.globals, "cell": cell},
    )


def _coordinated(graph: Graph, cutoff: float) -> Float[Array, "node"]:
    """A smooth switch (C²): 0 for an atom without neighbours, 1 (to rounding) for a bonded one.

    1 - exp(-4 sum_j u(r_ij / cutoff)) with the polynomial envelope u(x) = 1 - 10x³ + 15x⁴ - 6x⁵.
    Where no edges are read, all nodes of a graph are neighbours.
    """
    if cutoff == 0:
        others = jnp.minimum(graph.n_node - 1, 1).astype(graph.nodes["positions"].dtype)
        return others[graph_of_nodes(graph)]
    if math.isinf(cutoff):
        return jnp.minimum(degree(graph, graph.nodes["positions"].dtype), 1)
    x = jnp.minimum(safe_norm(edge_vectors(graph)) / cutoff, 1)
    near = 1 - x**3 * (10 - x * (15 - 6 * x))
    return 1 - jnp.exp(-4 * to_receivers(near, graph))


def predict_fn(
    network: Any,
    outputs: Sequence[Output],
    *,
    forces: bool = False,
    stress: bool = False,
    deviations: bool = False,
) -> Callable[[Any, Graph], Properties]:
    """The function `(params, graph) -> Properties` of a network and the meaning of its outputs.

    Energies are relative to isolated atoms and `relative_to` outputs to their input; what has to be
    added on the host is `model.references`. Rows of padding are exactly zero.

    A direct Hessian comes as rows (see `graphs.hessian`); that of the energy is another one
    (`dense_hessian`). Outputs of a shallow ensemble have their standard deviations beside them.

    Args:
        deviations: those of forces and stress too, of a shallow ensemble: one backward pass for
            each member, after one forward pass.

    Raises:
        ValueError: the outputs do not fill the network's `irreps_out`, forces or stress are asked
            for and no output is an energy or the network says that it is not `conservative`, or a
            Hessian of a network that predicts none.
    """
    hessian = next((o for o in outputs if o.name == "hessian"), None)
    outputs = [o for o in outputs if o.name != "hessian"]
    if hessian is not None and not hasattr(network, "with_hessian"):
        raise ValueError(
            "a direct Hessian is an output of a network with a Hessian head, such as hip; got "
            f"{type(network).__name__}; that of the energy needs no output"
        )
    where = slices(network, outputs)
    check_std_names([o.name for o in outputs if o.members > 1])
    energy = next((o for o in outputs if o.name == "energy"), None)
    if energy is None and (forces or stress):
        raise ValueError(
            "forces and stress are derivatives of an energy; the outputs are "
            f"{', '.join(o.name for o in outputs)}; add an energy or ask for less"
        )
    if (forces or stress) and not getattr(network, "conservative", True):
        raise ValueError(
            "forces and stress are derivatives of an energy, exact ones; those of this "
            f"{type(network).__name__} would leave its frames out (conservative = False); put "
            "forces out directly, or take frames with derivatives, such as provider='weighted'"
        )

    def evaluate(params: Any, graph: Graph) -> tuple[Array, dict[str, Array]]:
        """What nodes put out, and the rows of the Hessian if there is one."""
        if hessian is None:
            return network.apply(params, graph).array, {}
        values, rows = network.apply(params, graph, hessian.slots, method="with_hessian")
        return values.array, {"hessian": rows * hessian.scale}

    def by_member(
        values: Float[Array, "node d"], output: Output
    ) -> Float[Array, "member node width"]:
        mine = values[:, where[output.name]]
        return jnp.moveaxis(mine.reshape(mine.shape[0], output.members, -1), 1, 0)

    def others(values: Float[Array, "node d"], graph: Graph) -> dict[str, Array]:
        found = {}
        for output in outputs:
            if output.name == "energy":
                continue
            mine = by_member(values, output)
            if output.members == 1:
                found[output.name] = _read(mine[0], output, graph)
                continue
            every = jax.vmap(lambda x, output=output: _read(x, output, graph))(mine)
            found |= {output.name: every.mean(0), std_name(output.name): deviation(every)}
        return found

    def energies(params: Any, graph: Graph) -> tuple[Float[Array, "member node"], dict[str, Array]]:
        """Of each member; what else there is comes beside them."""
        values, more = evaluate(params, graph)
        assert energy is not None
        mine = by_member(values, energy)[..., 0] * energy.scale
        if energy.shift:
            mine = mine + energy.shift * _coordinated(graph, network.cutoff)[None]
        if energy.zbl:
            from geojax.nn import zbl  # here, because opening an artifact needs no layers

            mine = mine + zbl(graph, network.cutoff)[None]
        return jnp.where(node_mask(graph)[None], mine, 0), others(values, graph) | more

    def mean_energies(params: Any, graph: Graph) -> tuple[Float[Array, "node"], dict[str, Array]]:
        every, more = energies(params, graph)
        if len(every) == 1:
            return every[0], more
        of_graphs = jax.vmap(lambda x: _per_graph(x, graph))(every)
        spread = {"energy": of_graphs, "energies": every}
        return every.mean(0), more | {std_name(k): deviation(v) for k, v in spread.items()}

    def all_members(params: Any, graph: Graph) -> tuple[Properties, dict[str, Array]]:
        """One forward pass, since members differ only where it ends."""

        def one(member: Array) -> tuple[Properties, dict[str, Array]]:
            def mine(params: Any, graph: Graph) -> tuple[Float[Array, "node"], dict[str, Array]]:
                every, more = energies(params, graph)
                return every[member], more

            return with_derivatives(mine, forces=forces, stress=stress)(params, graph)

        assert energy is not None
        every, more = jax.vmap(one, out_axes=(0, None))(jnp.arange(energy.members))
        return mean_and_std(every), more

    def predict(params: Any, graph: Graph) -> Properties:
        if energy is None:
            values, more = evaluate(params, graph)
            return replace_leaves(Properties(), others(values, graph) | more)
        if deviations and energy.members > 1:
            found, rest = all_members(params, graph)
        else:
            derived = with_derivatives(mean_energies, forces=forces, stress=stress)
            found, rest = derived(params, graph)
        return replace_leaves(found, rest)

    return predict


def _read(x: Float[Array, "node d"], output: Output, graph: Graph) -> Array:
    """The property that an output stands for, other than an energy."""
    if output.name.startswith("targets."):
        x = pool(x, graph, output.pool)
        x = safe_norm(x)[:, None] if output.norm else x
        real = graph_mask(graph)
    else:
        real = node_mask(graph)
    x = jnp.where(real[:, None], x * output.scale + output.shift, 0)
    if output.rotation:
        x = ROTATION_HEADS[output.rotation].decode(x)
    return x[:, 0] if output.is_scalar else x
