"""A potential as jax-md takes one: `neighbor_fn`, `energy_fn`, `shift_fn`, in eV, Å and amu.

The unit of time is then Å (amu/eV)^½ = 10.18 fs: a femtosecond is `units.FEMTOSECOND`, a
temperature is kT in eV (`units.BOLTZMANN` times kelvins), a pressure is in eV/Å³
(`units.PRESSURE`). A box holds the lattice vectors in its *columns*: it is the transpose of a cell.

References:
    Schoenholz, Cubuk, "JAX, M.D.: a framework for differentiable physics", NeurIPS 2020.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.datasets import from_ase
from geojax.graphs import Graph, Structure
from geojax.graphs.device_neighbors import inverse
from geojax.graphs.parts import PART
from geojax.inference.engine import Engine, engine_of
from geojax.model import check_elements, references
from geojax.simulation.jax_md.neighbors import (
    NO_LATTICE,
    NeighborFns,
    Neighbors,
    Search,
    cell_of,
    checked,
    neighbor_fns,
)

__all__ = ["JaxMD", "jax_md_potential"]


class JaxMD(NamedTuple):
    """A potential of certain atoms in jax-md's terms.

    Attributes:
        neighbor_fn: makes the lists.
        energy_fn: `(position, neighbor, *, box=None, perturbation=None) -> energy` [eV], relative
            to the isolated atoms; NaN where the list is not complete.
        shift_fn: `(position, change) -> position`, jax-md's; positions are not wrapped.
        position: `[node, 3]` of the atoms, in Å, or fractional.
        mass: `[node]` [amu].
        box: `[3, 3]` [Å], lattice vectors in columns; None without a lattice.
        reference: [eV], the energy of the isolated atoms, to be added.
    """

    neighbor_fn: NeighborFns
    energy_fn: Callable[..., Float[Array, ""]]
    shift_fn: Callable[..., Array]
    position: Float[Array, "node 3"]
    mass: Float[Array, "node"]
    box: Float[Array, "3 3"] | None
    reference: float


def jax_md_potential(
    model: Any,
    atoms: Any,
    *,
    fractional: bool = False,
    skin: float = 0.5,
    capacity: float = 1.25,
    inputs: Mapping[str, str] | None = None,
) -> JaxMD:
    """The potential of a model for the simulators, minimizers and quantities of jax-md.

    Arrays are float64 where jax's 64 bits are on, whatever the model computes in.

    Args:
        model: a `Model`, an `Ensemble` or an opened artifact.
        atoms: ASE's: their species, masses, cell and boundaries; any cell.
        fractional: whether positions are fractional coordinates, which a moving cell needs.
        skin: [Å], of the neighbour list.
        capacity: places of the list, as a multiple of the edges at allocation.
        inputs: see `inference.Calculator`.

    Raises:
        ImportError: jax-md is not installed.
        ValueError: atoms or elements that the model cannot predict, no energy, a model of nearest
            neighbours, float64 while jax's 64 bits are off, fractional coordinates without a
            lattice, a skin or capacity that is too small.
    """
    space = _space()
    engine, structure = engine_of(model), from_ase(atoms, labels=False, inputs=inputs)
    _check(engine, structure, atoms, fractional, skin, capacity)
    dtype = jnp.result_type(float)
    cell = np.eye(3) if structure.cell is None else structure.cell
    box = None if structure.cell is None else jnp.asarray(cell.T, dtype)
    search = Search(engine.cutoff, float(skin), structure.pbc, fractional)
    x = structure.positions.astype(np.float64)
    displaced = {"fractional_coordinates": fractional, "wrapped": False}
    _, shift_fn = space.free() if box is None else space.periodic_general(box, **displaced)
    energy = references(engine.card, structure).energy
    return JaxMD(
        neighbor_fns(structure, search, capacity),
        _energy_fn(engine, structure, space),
        shift_fn,
        jnp.asarray(x @ np.linalg.inv(cell) if fractional else x, dtype),
        jnp.asarray(atoms.get_masses(), dtype),
        box,
        0.0 if energy is None else float(energy),
    )


def _space() -> Any:
    try:
        from jax_md import space
    except ImportError as error:
        raise ImportError("jax-md is not installed; pip install 'geojax[jax-md]'") from error
    return space


def _check(
    engine: Engine,
    structure: Structure,
    atoms: Any,
    fractional: bool,
    skin: float,
    capacity: float,
) -> None:
    card = engine.card
    check_elements(card, [structure])
    if not any(output.name == "energy" for output in card.outputs):
        raise ValueError(
            f"dynamics need an energy; {card.name!r} predicts "
            f"{', '.join(output.name for output in card.outputs)}"
        )
    if engine.nearest is not None or PART in structure.inputs:
        raise ValueError(
            "lists on the device hold all pairs within a cutoff; this model reads "
            f"{engine.nearest or 'its'} nearest neighbours or parts; simulate it through ASE"
        )
    if card.dtype == "float64" and jnp.result_type(float) != jnp.float64:
        raise ValueError(
            f"{card.name!r} computes in float64 and jax's 64 bits are off; switch them on, "
            "jax.config.update('jax_enable_x64', True), or take model.replace_card(dtype='float32')"
        )
    if fractional and structure.cell is None:
        raise ValueError("fractional coordinates need a lattice; these atoms have no cell")
    if math.isinf(engine.cutoff) and any(structure.pbc):
        raise ValueError(
            f"a lattice has no end, and neither has the cutoff of {card.name!r}; simulate these "
            f"atoms with pbc=False, not {structure.pbc}"
        )
    if not 0 < skin < np.inf or not capacity >= 1:
        raise ValueError(f"skin > 0 Å and capacity >= 1; got skin={skin}, capacity={capacity}")
    if atoms.constraints:
        raise ValueError("jax-md knows nothing of ASE's constraints; remove them from the atoms")


def _energy_fn(engine: Engine, structure: Structure, space: Any) -> Callable[..., Array]:
    energy_of, dtype = _energy_of_graph(engine), jnp.dtype(engine.card.dtype)
    nodes = len(structure)
    fixed = {"species": structure.species, **structure.inputs}
    fixed = {name: _padded(np.asarray(x), dtype) for name, x in fixed.items()}
    rows = {"members": np.arange(nodes)[None] < [[nodes], [0]]} if engine.members else {}
    lattice = structure.cell is not None

    def energy_fn(
        position: Array,
        neighbor: Neighbors,
        *,
        box: Any = None,
        perturbation: Any = None,
        **unused: Any,
    ) -> Array:
        position = checked(position, nodes)
        if neighbor.reference.shape[0] != nodes:
            raise ValueError(
                f"a list belongs to its atoms; got one of {neighbor.reference.shape[0]} for {nodes}"
            )
        if box is not None and not lattice:
            raise ValueError(NO_LATTICE)
        search, cell = neighbor.search, cell_of(box, neighbor.default)
        offset = neighbor.offset(search.coordinates(position, cell))
        if search.fractional:  # jax-md's: its derivative by position is that in space
            x = space.transform(cell.T, position - offset)
        else:
            x = position - offset @ cell
        complete = neighbor.is_complete(*jax.lax.stop_gradient((position, cell.T)))
        if perturbation is not None:
            perturbation = jnp.asarray(perturbation, x.dtype)
            x, cell = (space.raw_transform(perturbation, rows) for rows in (x, cell))
        x = x - jax.lax.stop_gradient(x.mean(0, keepdims=True))
        graph = Graph(
            nodes={"positions": jnp.pad(x, ((0, 1), (0, 0))).astype(dtype), **fixed},
            edges={"shifts": neighbor.shifts.astype(dtype)},
            senders=neighbor.senders,
            receivers=neighbor.receivers,
            globals={"cell": jnp.stack([cell * lattice, 0 * cell]).astype(dtype), **rows},
            n_node=jnp.array([nodes, 1], jnp.int32),
            n_edge=_parts(neighbor.count, neighbor.senders.shape[0]),
        )
        return energy_of(graph).astype(position.dtype) * jnp.where(complete, 1, jnp.nan)

    return energy_fn


def _padded(x: np.ndarray, dtype: Any) -> np.ndarray:
    """With a row of zeros for the node that padding edges join."""
    x = np.concatenate([x, np.zeros_like(x[:1])])
    return x.astype(dtype if x.dtype.kind == "f" else np.int32)


def _parts(count: Array, capacity: int) -> Array:
    return jnp.stack([jnp.minimum(count, capacity), jnp.maximum(capacity - count, 0)])


def _energy_of_graph(engine: Engine) -> Callable[[Graph], Array]:
    """The energy [eV] as a function that has derivatives, also of an exported file.

    Exported programs have none, but return forces F and stress S. As x and the cell h turn and
    stretch together, hᵀ dE/dh = V S + xᵀ F.
    """
    if engine.curvature is not None:
        return lambda graph: engine.program(False, False, False)(graph).energy[0]

    def place(graph: Graph, x: Array, cell: Array) -> Graph:
        return graph._replace(
            nodes={**graph.nodes, "positions": x}, globals={**graph.globals, "cell": cell}
        )

    @jax.custom_vjp
    def energy(x: Array, cell: Array, graph: Graph) -> Array:
        return engine.program(False, False, False)(place(graph, x, cell)).energy[0]

    def forward(x: Array, cell: Array, graph: Graph) -> tuple[Array, tuple[Array, ...]]:
        found = engine.program(True, True, False)(place(graph, x, cell))
        one = cell[0]
        virial = found.stress[0] * jnp.abs(jnp.linalg.det(one)) + x.T @ found.forces
        lattice = jnp.any(one != 0)
        dual = inverse(jnp.where(lattice, one, jnp.eye(3, dtype=one.dtype)))
        by_cell = jnp.where(lattice, dual.T @ virial, 0)
        return found.energy[0], (found.forces, jnp.stack([by_cell, jnp.zeros_like(by_cell)]))

    def backward(kept: tuple[Array, ...], g: Array) -> tuple[Any, ...]:
        forces, by_cell = kept
        return -forces * g, by_cell * g, None

    energy.defvjp(forward, backward)
    return lambda graph: energy(graph.nodes["positions"], graph.globals["cell"], graph)
