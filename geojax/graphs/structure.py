"""One molecule, crystal or point cloud on the host, and what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Properties", "Structure", "leaf", "leaves", "replace_leaves"]


class Properties(NamedTuple):
    """What is known or predicted. None means: not there.

    One type for labels and predictions, of one structure (axes `graph` absent) or of a batch, in
    numpy or jax arrays.

    Attributes:
        energy: `[graph]` [eV], total energy.
        forces: `[node, 3]` [eV/Å], -dE/dr.
        stress: `[graph, 3, 3]` [eV/Å³], (1/V) dE/dstrain; tension is positive.
        hessian: `[node, 3, node, 3]` [eV/Å²], d²E/dr dr; in a batch its rows of blocks,
            `[node, slot, 3, 3]` (see `graphs.hessian`).
        energies: `[node]` [eV], the share of each atom in the energy.
        targets: anything else per structure, `[graph, ...]`: dipoles, QM9 columns, class labels.
        node_targets: anything else per node, `[node, ...]`: charges, per-point labels, positions.
    """

    energy: Any = None
    forces: Any = None
    stress: Any = None
    hessian: Any = None
    energies: Any = None
    targets: Mapping[str, Any] = {}
    node_targets: Mapping[str, Any] = {}


PER_NODE = ("forces", "energies")


def leaves(properties: Properties) -> dict[str, Any]:
    """Everything that is there, by name: "energy", "targets.mu", "node_targets.charge"."""
    found = {}
    for name, value in zip(properties._fields, properties, strict=True):
        if isinstance(value, Mapping):
            found |= {f"{name}.{key}": value[key] for key in sorted(value)}
        elif value is not None:
            found[name] = value
    return found


def leaf(properties: Properties, name: str) -> Any:
    """The value called `name` (as in `leaves`), or None where it is absent."""
    group, _, key = name.partition(".")
    if group not in Properties._fields:
        raise KeyError(f"a property is one of {', '.join(Properties._fields)}; got {name!r}")
    value = getattr(properties, group)
    return value.get(key) if key else value


def replace_leaves(properties: Properties, new: Mapping[str, Any]) -> Properties:
    """`properties` with the values of `new` (named as in `leaves`) put in their place."""
    plain = {name: value for name, value in new.items() if "." not in name}
    for group in ("targets", "node_targets"):
        keys = {n.split(".", 1)[1]: v for n, v in new.items() if n.startswith(group + ".")}
        if keys:
            plain[group] = {**getattr(properties, group), **keys}
    return properties._replace(**plain)


def is_per_node(name: str) -> bool:
    """Whether the property called `name` has one row per node (otherwise one per structure)."""
    return name in PER_NODE or name.startswith("node_targets.")


@dataclass(frozen=True, eq=False)
class Structure:
    """One molecule, crystal or point cloud: numpy, exact size.

    Attributes:
        positions: `[node, 3]` [Å], or the cloud's own length unit.
        species: `[node]`, the atomic number; 0 for a bare point.
        cell: `[3, 3]` [Å], the rows are the lattice vectors; None without a lattice.
        pbc: whether each lattice vector repeats.
        inputs: more that is given per node, `[node, ...]`: normals, charges, velocities.
        properties: the labels.
        info: remarks that follow the structure (file, line, temperature); networks never see them.

    Raises:
        ValueError, TypeError: an array has a wrong shape or kind, or is not finite; the message
            names the atom and the axis. A lattice that repeats must span a volume.
    """

    positions: np.ndarray
    species: np.ndarray
    cell: np.ndarray | None = None
    pbc: tuple[bool, bool, bool] = (False, False, False)
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    properties: Properties = Properties()
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        put = lambda name, value: object.__setattr__(self, name, value)
        put("positions", _real("positions", self.positions, (None, 3)))
        n_node = len(self.positions)
        put("species", _species(self.species, n_node))
        put("pbc", _pbc(self.pbc))
        put("cell", _lattice(self.cell, self.pbc))
        for name, value in self.inputs.items():
            if len(np.shape(value)) < 1 or len(value) != n_node:
                raise ValueError(
                    f"an input has one row per node ({n_node}); {name!r} has shape "
                    f"{np.shape(value)}"
                )
        inputs = {
            name: _real(f"inputs[{name!r}]", value, (n_node, *np.shape(value)[1:]))
            for name, value in self.inputs.items()
        }
        put("inputs", inputs)
        put("properties", _labels(self.properties, n_node))

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def volume(self) -> float:
        """|det cell| [Å³]; zero without a lattice."""
        return 0.0 if self.cell is None else float(abs(np.linalg.det(self.cell)))

    def replace(self, **changes: Any) -> "Structure":
        """A copy with some fields changed, checked again."""
        return replace(self, **changes)

    def take(self, rows: np.ndarray) -> "Structure":
        """Its nodes `rows` alone, in this order, also repeated.

        Inputs and labels of nodes (`node_targets`) come along, `targets` of the whole stay. Energy,
        forces, stress and Hessian belong to all atoms together and are left out.

        Args:
            rows: indices or a mask of nodes.

        Raises:
            IndexError: there is no such node, or a mask has another length.
        """
        chosen = lambda table: {name: np.asarray(value)[rows] for name, value in table.items()}
        labels = self.properties
        return self.replace(
            positions=self.positions[rows],
            species=self.species[rows],
            inputs=chosen(self.inputs),
            properties=Properties(targets=labels.targets, node_targets=chosen(labels.node_targets)),
        )


def _real(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be real numbers; got dtype {array.dtype}")
    array = array.astype(np.float64 if array.dtype.kind != "f" else array.dtype, copy=False)
    fits = array.ndim == len(shape)
    if not fits or any(s not in (None, n) for s, n in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("node" if s is None else str(s) for s in shape)
        raise ValueError(f"{name} must have shape [{wanted}]; got {list(array.shape)}")
    if not np.isfinite(array).all():
        where = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        vectors = name in ("positions", "forces")
        place = f" (atom {where[0]}, axis {'xyz'[where[1]]})" if vectors else ""
        raise ValueError(
            f"{name} must be finite; entry {where} is {array[tuple(where)]}{place}; repair it, or "
            "take the structure out"
        )
    return array


def _species(value: Any, n_node: int) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != (n_node,):
        raise ValueError(f"species must have one entry per node ({n_node}); got {array.shape}")
    if n_node and array.dtype.kind not in "iu":
        raise TypeError(f"species are atomic numbers, integers; got dtype {array.dtype}")
    if n_node and (array.min() < 0 or array.max() > 118):
        worst = int(array.min() if array.min() < 0 else array.max())
        raise ValueError(f"species are atomic numbers 1..118, or 0 for a point; got {worst}")
    return array.astype(np.int32)


def _pbc(value: Any) -> tuple[bool, bool, bool]:
    flags = np.asarray(value)
    if flags.dtype.kind not in "biu" or flags.shape not in ((), (1,), (3,)):
        raise ValueError(
            f"pbc is one truth value, or one for each lattice vector; got {value!r}; write it as "
            "in (True, True, False)"
        )
    flags = np.broadcast_to(flags.astype(bool), 3)
    return (bool(flags[0]), bool(flags[1]), bool(flags[2]))


def _lattice(cell: Any, pbc: tuple[bool, bool, bool]) -> np.ndarray | None:
    """The cell, completed along axes that do not repeat; None if none was given."""
    if cell is not None:
        cell = np.asarray(cell)
        cell = _real("cell", np.diag(cell) if cell.shape == (3,) else cell, (3, 3))
    if cell is None or not cell.any():
        if any(pbc):
            raise ValueError(
                f"a periodic structure needs its cell; got pbc {pbc} and no cell; "
                "give the lattice vectors, or set pbc to False"
            )
        return None
    repeated = cell[list(pbc)]
    lengths = np.linalg.norm(repeated, axis=1)
    span = np.prod(np.linalg.svd(repeated)[1]) if any(pbc) else 1.0
    if any(pbc) and (lengths.min() < 1e-6 or span < 1e-6 * np.prod(lengths)):
        raise ValueError(
            f"the cell is singular: the lattice vectors that repeat (pbc {pbc}) span nothing; "
            f"volume {abs(np.linalg.det(cell)):.3g} Å³, cell {cell.tolist()}; give vectors that "
            "span a volume, or set pbc to False where nothing repeats"
        )
    return _complete(cell, pbc)


def _complete(cell: np.ndarray, pbc: tuple[bool, bool, bool]) -> np.ndarray:
    """Unit vectors across in place of zero vectors along axes that do not repeat."""
    cell = cell.copy()
    for axis in range(3):
        if not pbc[axis] and not cell[axis].any():
            rest = cell[[i for i in range(3) if i != axis]]
            across = np.linalg.svd(rest)[2][np.linalg.matrix_rank(rest) :][-1]
            cell[axis] = across / np.linalg.norm(across)
    return cell


def _labels(properties: Properties, n_node: int) -> Properties:
    checked = {}
    shapes = {
        "energy": (),
        "forces": (n_node, 3),
        "stress": (3, 3),
        "energies": (n_node,),
    }
    shapes["hessian"] = (n_node, 3, n_node, 3)
    for name, value in leaves(properties).items():
        array = np.asarray(value)
        if name.startswith("node_targets.") and (array.ndim < 1 or len(array) != n_node):
            raise ValueError(
                f"{name} must have one row per node ({n_node}); got {list(array.shape)}"
            )
        if name in shapes or array.dtype.kind not in "iub":  # class labels stay integers
            array = _real(name, array, shapes.get(name, array.shape))
        checked[name] = array
    return replace_leaves(properties, checked)
