"""From a network's node outputs to `Properties`: energies by sum, forces and stress by derivative.

One scalar function of positions and strain serves all derivatives: positions and cell are
multiplied by `1 + (strain + strain.T) / 2`, and one backward pass gives forces `-dE/dr` and stress
`(1/V) dE/dstrain` (tension positive). Energies here are *relative to the isolated atoms*: E0s are
added on the host in float64, because float32 has no digits left for total energies of thousands of
eV.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import (
    POOLS,
    Graph,
    Properties,
    degree,
    edge_vectors,
    graph_mask,
    graph_of_nodes,
    node_mask,
    pool,
    to_receivers,
    volumes,
)
from geojax.so3 import ROTATION_HEADS

__all__ = [
    "Output",
    "predict_fn",
    "strained",
    "with_derivatives",
]

Energies = Callable[[Any, Graph], tuple[Float[Array, "node"], Any]]


@dataclass(frozen=True)
class Output:
    """What (a slice of) the network's output means.

    Several outputs of one network take consecutive slices of its `irreps_out`, in order.

    Attributes:
        name: "energy", "targets.<name>" (per structure), "node_targets.<name>" (per node), or
            "hessian": of a network that predicts it directly, beside its `irreps_out`.
        irreps: of this slice; "energy" is "0e", and a Hessian has none.
        pool: how nodes become a structure: "sum" (extensive), "mean" (intensive), "max", or
            "dipole", of neutral molecules: sum_i q_i r_i of charges q (irreps "0e"), or
            sum_i q_i r_i + d_i with dipoles d of atoms ("0e+1o").
        norm: the result is the length of the pooled vector, as QM9's dipole is.
        scale: the network's output is multiplied by this; for an energy, before the sum over atoms.
        shift: then this is added: to each pooled value or node, or, for an energy, to each atom
            that has neighbours (see `_coordinated`), so that an isolated atom keeps exactly its E0.
        atomrefs: by symbol, what each atom adds to a summed target; as E0s of energies, added in
            float64 outside the program.
        relative_to: a node input that the output is counted from, such as "positions".
        unit: of the result, for reports; a Hessian's is eV/Å².
        slots: of the rows of a Hessian (see `graphs.hessian`): the nodes of the largest structure.
            Rows of a larger one are NaN. None: as many as the batch has nodes.
        rotation: a name in `so3.ROTATION_HEADS`, such as "6d" (irreps "6x0e" or "2x1o") and "svd":
            the numbers become rotation matrices `[..., 3, 3]`.
        zbl: add the repulsion of close nuclei to the energy (see `nn.zbl`).
    """

    name: str = "energy"
    irreps: str = "0e"
    pool: str = "sum"
    norm: bool = False
    scale: float = 1.0
    shift: float = 0.0
    relative_to: str = ""
    unit: str = "eV"
    zbl: bool = False
    slots: int | None = None
    rotation: str = ""
    atomrefs: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        kind, _, key = self.name.partition(".")
        if self.name == "hessian":
            self._as_hessian()
        if self.name not in ("energy", "hessian") and not (
            kind in ("targets", "node_targets") and key
        ):
            raise ValueError(
                "an output is named energy, hessian, targets.<name> or node_targets.<name>; "
                f"got {self.name!r}"
            )
        if self.name == "energy" and (self.irreps not in ("0e", "1x0e") or self.pool != "sum"):
            raise ValueError(
                "an energy is one scalar summed over atoms (irreps '0e', pool 'sum'); got "
                f"irreps {self.irreps!r}, pool {self.pool!r}"
            )
        if self.pool not in POOLS:
            raise ValueError(f"pool is one of {', '.join(POOLS)}; got {self.pool!r}")
        if self.pool == "dipole" and self.irreps not in ("0e", "0e+1o"):
            raise ValueError(
                "a dipole is made of charges, irreps '0e', or of charges and dipoles of atoms, "
                f"'0e+1o'; got {self.irreps!r}"
            )
        if self.norm and (kind != "targets" or self.result != "1o"):
            raise ValueError(
                "a norm is that of one pooled vector: targets with irreps '1o' or pool 'dipole'; "
                f"got {self.name!r} with irreps {self.irreps!r} and pool {self.pool!r}"
            )
        if self.norm and self.shift:
            raise ValueError(f"a norm is not shifted; got {self.name!r} with shift {self.shift}")
        if self.rotation:
            self._as_rotation()
        if self.relative_to and kind != "node_targets":
            raise ValueError(f"only node_targets are relative to an input; got {self.name!r}")
        if self.atomrefs and not (self.is_summed and kind == "targets"):
            raise ValueError(
                "atomrefs are of one scalar summed over atoms, targets.<name> with pool 'sum' (E0s "
                f"of an energy are the model's); got {self.name!r} with irreps {self.irreps!r} and "
                f"pool {self.pool!r}"
            )
        if self.zbl and self.name != "energy":
            raise ValueError(f"only an energy has zbl repulsion added; got {self.name!r}")
        if self.slots is not None and self.name != "hessian":
            raise ValueError(f"only a hessian has slots; got {self.name!r}")

    @property
    def result(self) -> str:
        """The irreps of what comes out, after pooling and before the norm.

        Those of rotation matrices are "3x1o", which stands for their columns, or nine scalars.
        """
        if self.rotation:
            return "3x1o" if self.irreps.endswith("1o") else "9x0e"
        return "1o" if self.pool == "dipole" else self.irreps

    @property
    def is_summed(self) -> bool:
        """Whether the result is one number, the sum of those of the atoms."""
        return self.pool == "sum" and self.irreps in ("0e", "1x0e") and not self.norm

    @property
    def is_scalar(self) -> bool:
        """Whether the result is one number."""
        return self.norm or self.result in ("0e", "1x0e", "0o")

    def _as_rotation(self) -> None:
        numbers = ROTATION_HEADS[self.rotation].numbers
        own = {f"{numbers}x0e", f"{numbers // 3}x1o" if numbers % 3 == 0 else ""}
        if self.irreps not in own or self.norm or self.shift or self.relative_to:
            raise ValueError(
                f"a rotation by {self.rotation} has irreps {' or '.join(sorted(filter(None, own)))}"
                f", no norm, shift or relative_to; got {self.name!r} with {self.irreps!r}"
            )

    def _as_hessian(self) -> None:
        if self.shift or self.pool != "sum" or self.irreps not in ("", "0e"):
            raise ValueError(
                "a hessian is no slice of irreps_out: it has neither irreps nor pool nor shift; "
                f"got irreps {self.irreps!r}, pool {self.pool!r}, shift {self.shift}"
            )
        object.__setattr__(self, "irreps", "")
        object.__setattr__(self, "unit", "eV/Å²" if self.unit == "eV" else self.unit)


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
) -> Callable[[Any, Graph], Properties]:
    """The function `(params, graph) -> Properties` of a network and the meaning of its outputs.

    Energies are relative to isolated atoms and `relative_to` outputs to their input; what has to be
    added on the host is `model.references`. Rows of padding are exactly zero.

    A direct Hessian comes as rows (see `graphs.hessian`); that of the energy is another one
    (`dense_hessian`).

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
    slices = _slices(network, outputs)
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

    def others(values: Float[Array, "node d"], graph: Graph) -> dict[str, Array]:
        found = {}
        for output in outputs:
            if output.name == "energy":
                continue
            x = values[:, slices[output.name]]
            if output.name.startswith("targets."):
                x = pool(x, graph, output.pool)
                x = safe_norm(x)[:, None] if output.norm else x
                real = graph_mask(graph)
            else:
                real = node_mask(graph)
            x = jnp.where(real[:, None], x * output.scale + output.shift, 0)
            if output.rotation:
                x = ROTATION_HEADS[output.rotation].decode(x)
            found[output.name] = x[:, 0] if output.is_scalar else x
        return found

    def energies(params: Any, graph: Graph) -> tuple[Float[Array, "node"], dict[str, Array]]:
        values, more = evaluate(params, graph)
        assert energy is not None
        node_energies = values[:, slices["energy"]][:, 0] * energy.scale
        if energy.shift:
            node_energies = node_energies + energy.shift * _coordinated(graph, network.cutoff)
        if energy.zbl:
            from geojax.nn import zbl  # here, because opening an artifact needs no layers

            node_energies = node_energies + zbl(graph, network.cutoff)
        return jnp.where(node_mask(graph), node_energies, 0), others(values, graph) | more

    def predict(params: Any, graph: Graph) -> Properties:
        if energy is None:
            values, more = evaluate(params, graph)
            found, rest = Properties(), others(values, graph) | more
        else:
            found, rest = with_derivatives(energies, forces=forces, stress=stress)(params, graph)
        found = found._replace(hessian=rest.pop("hessian", None))
        groups: dict[str, dict[str, Array]] = {"targets": {}, "node_targets": {}}
        for name, value in rest.items():
            group, key = name.split(".", 1)
            groups[group][key] = value
        return found._replace(**{k: v for k, v in groups.items() if v})

    return predict


def _slices(network: Any, outputs: Sequence[Output]) -> dict[str, slice]:
    from e3nn_jax import Irreps

    whole = Irreps(network.irreps_out)
    parts = [Irreps(output.irreps) for output in outputs]
    joined = Irreps("+".join(str(p) for p in parts)).simplify() if parts else Irreps("")
    if joined != whole.simplify():
        raise ValueError(
            "the outputs fill the network's irreps_out in order; outputs "
            f"{[f'{o.name}: {o.irreps}' for o in outputs]} make {joined}, the network has {whole}"
        )
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + part.dim)
    return {
        output.name: slice(first, last)
        for output, first, last in zip(outputs, ends, ends[1:], strict=False)
    }
