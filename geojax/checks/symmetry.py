"""Checks of what may not matter: orientation, place, order, image, padding, company.

Each is a function `(context) -> Measurement | None` in `CHECKS`; limits are those of the acceptance
list (figures A1 to A9), in float64 and float32.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from e3nn_jax import Irreps

from geojax.checks.context import CHECKS, Context, Measurement, Values, difference
from geojax.checks.examples import supercell, turned
from geojax.graphs import Budget, Graph, Sample, Structure, is_per_node
from geojax.so3 import random_rotation, wigner_d

__all__ = ["rotations", "turn_values"]

ROTATIONS = 10  # proper ones, and as many improper ones
FAR = 1e4  # [Å]

_wigner_d = jax.jit(wigner_d, static_argnames=("lmax", "pseudo"))
_random_rotation = jax.jit(random_rotation, static_argnames=("shape", "improper", "dtype"))


def rotations(context: Context, *, improper: bool) -> np.ndarray:
    """`[rotation, 3, 3]`, the same ones for every check of a context."""
    with jax.enable_x64(True):
        key = jax.random.key(context.seed)
        return np.asarray(_random_rotation(key, (ROTATIONS,), improper=improper, dtype=np.float64))


def turn_values(values: Values, irreps: dict[str, Irreps], matrix: np.ndarray) -> Values:
    """What is predicted for a structure, after a rotation of the world by `matrix` `[3, 3]`."""
    found = {}
    for name, value in values.items():
        if name == "stress":
            found[name] = matrix @ value @ matrix.T
        else:
            found[name] = _turn(value, irreps[name], matrix)
    return found


def _turn(value: np.ndarray, irreps: Irreps, matrix: np.ndarray) -> np.ndarray:
    if _invariant(irreps):
        return value
    rows = value.reshape(-1, irreps.dim)
    parts = []
    for part, own in zip(irreps, irreps.slices(), strict=True):
        pseudo = part.ir.p != (-1) ** part.ir.l
        with jax.enable_x64(True):
            block = np.asarray(_wigner_d(matrix, part.ir.l, pseudo=pseudo)[-1])
        blocks = rows[:, own].reshape(-1, part.mul, part.ir.dim) @ block.T
        parts.append(blocks.reshape(len(rows), -1))
    return np.concatenate(parts, -1).reshape(value.shape)


def _invariant(irreps: Irreps) -> bool:
    return all(part.ir.l == 0 and part.ir.p == 1 for part in irreps)


def _invariants(context: Context) -> list[str]:
    return [name for name, irreps in context.irreps.items() if _invariant(irreps)] + ["energy"]


def _covariants(context: Context) -> list[str]:
    names = [name for name, irreps in context.irreps.items() if not _invariant(irreps)]
    return names + ["stress"] * bool(context.has_energy and context.periodic)


def _turning_error(context: Context, names: Sequence[str], *, improper: bool) -> tuple[float, str]:
    """The largest difference between turning the structure and turning the prediction."""
    matrices = rotations(context, improper=improper)
    structures = list(context.examples.values())
    before = [turned(s, matrix, context.vector_inputs) for matrix in matrices for s in structures]
    after = [
        turn_values(values, context.irreps, matrix)
        for matrix in matrices
        for values in context.reference
    ]
    return difference(context.predict(before), after, names)


@CHECKS.register("rotation")
def rotation(context: Context) -> Measurement | None:
    """Energies and other invariants under random rotations."""
    return _invariance(context, improper=False)


@CHECKS.register("inversion")
def inversion(context: Context) -> Measurement | None:
    """Energies and other invariants under random improper rotations."""
    return _invariance(context, improper=True)


def _invariance(context: Context, *, improper: bool) -> Measurement | None:
    names = _invariants(context)
    if not any(name in values for values in context.reference for name in names):
        return None
    value, where = _turning_error(context, names, improper=improper)
    name, what = ("inversion", "improper ") if improper else ("rotation", "")
    meaning = {
        "rotation": "a scalar depends on the orientation of the structure: some layer reads "
        "components of vectors or tensors as if they were scalars",
        "inversion": "a scalar tells a structure from its mirror image: a pseudo-scalar, such as a "
        "triple product or an odd path, reaches a '0e' output",
    }[name]
    return context.judge(
        name,
        "A1",
        value,
        (1e-12, 1e-5),
        detail=f"{ROTATIONS} random {what}rotations, {len(context.examples)} structures; {where}",
        meaning=meaning,
    )


@CHECKS.register("equivariance")
def equivariance(context: Context) -> Measurement | None:
    """Forces, stress, vectors and tensors under proper and improper rotations."""
    names = _covariants(context)
    if not names:
        return None
    errors = [_turning_error(context, names, improper=improper) for improper in (False, True)]
    value, where = max(errors)
    return context.judge(
        "equivariance",
        "A2",
        value,
        (1e-11, 5e-5),
        detail=f"{2 * ROTATIONS} rotations, half of them improper; {where}",
        meaning="vectors or tensors do not turn with the structure: look for a nonlinearity on "
        "components, a bias on l > 0, or an irrep of the wrong parity",
    )


@CHECKS.register("translation")
def translation(context: Context) -> Measurement:
    """All outputs when the positions that the network reads are moved."""
    shift = context.rng().uniform(2, 4, 3)
    edit = lambda graph: _moved(graph, graph.nodes["positions"] + shift)
    names, limits = _when_moved(context, (1e-9, 1e-5))
    value, where = _edited(context, edit, names)
    return context.judge(
        "translation",
        "A5",
        value,
        limits,
        detail=f"moved by {np.linalg.norm(shift):.2g} Å; {where}",
        meaning="an output depends on where the structure is: the network reads positions instead "
        "of differences of positions",
    )


@CHECKS.register("offset")
def offset(context: Context) -> Measurement:
    """All outputs for structures far from the origin."""
    away = FAR * np.array([1.0, -0.7, 0.4])
    moved = [s.replace(positions=s.positions + away) for s in context.examples.values()]
    names, limits = _when_moved(context, (1e-9, 1e-5))
    value, where = difference(context.predict(moved), context.reference, names)
    return context.judge(
        "offset",
        "A5",
        value,
        limits,
        detail=f"structures 1e4 Å from the origin; {where}",
        meaning="digits are lost far from the origin: positions become float32 before they are "
        "centred (graphs.sample centres them in float64)",
    )


@CHECKS.register("permutation")
def permutation(context: Context) -> Measurement:
    """All outputs when the atoms are listed in another order."""
    rng = context.rng()
    orders = [rng.permutation(len(s)) for s in context.examples.values()]
    mixed = [_reordered(s, o) for s, o in zip(context.examples.values(), orders, strict=True)]
    want = [
        {name: v[order] if is_per_node(name) else v for name, v in values.items()}
        for values, order in zip(context.reference, orders, strict=True)
    ]
    value, where = difference(context.predict(mixed), want)
    return context.judge(
        "permutation",
        "A4",
        value,
        (1e-12, 1e-5),
        detail=f"atoms in another order; {where}",
        meaning="an output depends on the order of the atoms: the index of a node or of its "
        "species' first occurrence enters somewhere",
    )


@CHECKS.register("edge order")
def edge_order(context: Context) -> Measurement:
    """All outputs when the edges of each receiver come in another order."""
    rng = context.rng()

    def edit(graph: Graph) -> Graph:
        order = np.lexsort((rng.random(len(graph.receivers)), graph.receivers))
        return graph._replace(
            senders=graph.senders[order],
            receivers=graph.receivers[order],
            edges={name: value[order] for name, value in graph.edges.items()},
        )

    value, where = _edited(context, edit)
    return context.judge(
        "edge order",
        "A4",
        value,
        (1e-12, 1e-5),
        detail=f"the edges of each atom in another order; {where}",
        meaning="an output depends on the order of an atom's edges: the aggregation of messages is "
        "not a symmetric function",
    )


@CHECKS.register("layouts")
def layouts(context: Context) -> Measurement | None:
    """All outputs in the list layout and in the table layout of `graphs.messages`."""
    if context.nearest is not None or not context.double:
        return None
    structures = list(context.generated.values())
    degrees = [np.bincount(context.sample(s).graph.receivers, minlength=1) for s in structures]
    slots = max(int(counts.max()) for counts in degrees) + 1
    # The examples share one batch, so that one more program is enough.
    n_node = sum(len(s) for s in structures) + 1
    samples = [context.sample(s, slots=slots) for s in structures]
    found = context.evaluate(samples, Budget(n_node, n_node * slots, len(samples) + 1))
    value, where = difference(found, context.reference[: len(found)])
    return context.judge(
        "layouts",
        "A4",
        value,
        (1e-12, 1e-5),
        detail=f"a table of {slots} slots per atom against the list of edges; {where}",
        meaning="the two layouts of the same graph give different results: the network gathers or "
        "sums along edges without graphs.messages, or counts the empty slots",
    )


@CHECKS.register("images")
def images(context: Context) -> Measurement | None:
    """All outputs when atoms are given as other periodic images."""
    if not context.periodic:
        return None
    rng = context.rng()
    samples, hosts, want = [], [], []
    for (_, s), values in zip(context.examples.items(), context.reference, strict=True):
        if not any(s.pbc):
            continue
        moves = rng.integers(-2, 3, (len(s), 3)) * np.array(s.pbc)
        assert s.cell is not None
        hosts.append(context.sample(s.replace(positions=s.positions + moves @ s.cell)))
        samples.append(_imaged(context.sample(s), moves))
        want += [values]
    names, limits = _when_moved(context, (1e-11, 1e-5))
    value, where = difference(context.evaluate([*samples, *hosts]), [*want, *want], names)
    return context.judge(
        "images",
        "A6",
        value,
        limits,
        detail=f"atoms moved by up to two lattice vectors; {where}",
        meaning="an output depends on which periodic image of an atom is given: some vector "
        "between atoms is computed without the edge's shift, or from the positions alone",
    )


@CHECKS.register("supercell")
def supercells(context: Context) -> Measurement | None:
    """Energy per atom, and all values per atom, of a crystal repeated twice along each axis."""
    small = {n: s for n, s in context.generated.items() if any(s.pbc)}
    if not small:
        return None
    moved, limits = _when_moved(context, (1e-11, 1e-5))
    names = [n for n in context.irreps if is_per_node(n) and n in moved] + ["energy"]
    want, got = [], context.predict([supercell(s) for s in small.values()])
    keys = list(context.examples)
    for (name, s), found in zip(small.items(), got, strict=True):
        values = context.reference[keys.index(name)]
        copies = 2 ** sum(s.pbc)
        tile = lambda v, copies=copies: np.tile(v, (copies, *[1] * (v.ndim - 1)))
        want.append({n: tile(v) if is_per_node(n) else v for n, v in values.items()})
        if "energy" in found:
            found["energy"] = found["energy"] / copies
    if not any(name in values for values in want for name in names):
        return None
    value, where = difference(got, want, names)
    return context.judge(
        "supercell",
        "A6",
        value,
        limits,
        detail=f"2 x 2 x 2 crystal and 2 x 2 slab; {where}",
        meaning="a crystal and its supercell differ per atom: an output is pooled over the cell "
        "before it reaches the atoms, or neighbours across the boundary are missing",
    )


@CHECKS.register("repeat")
def repeat(context: Context) -> Measurement:
    """The same call twice: how many numbers differ in any bit."""
    samples = [context.sample(s) for s in context.examples.values()]
    first, second = context.evaluate(samples), context.evaluate(samples)
    differ = sum(
        int((a[name].view(np.int64) != b[name].view(np.int64)).sum())
        for a, b in zip(first, second, strict=True)
        for name in a
    )
    return context.judge(
        "repeat",
        "A7",
        differ,
        (0, 0),
        detail="numbers that differ between two equal calls",
        meaning="the same program on the same input gives other bits: random numbers without a "
        "fixed key, or sums whose order the device chooses",
        unit="numbers",
    )


@CHECKS.register("padding")
def padding(context: Context) -> Measurement:
    """All outputs when the batch is padded to another size."""
    found = [p.values for p in context.probe(list(context.generated.values()))]
    want = [{n: v for n, v in w.items() if n != "stress"} for w in context.reference[: len(found)]]
    value, where = difference(found, want)
    return context.judge(
        "padding",
        "A8",
        value,
        (1e-13, 2e-5),
        detail=f"{tuple(context.budget)} against {tuple(context.probe_budget)} nodes, edges and "
        f"graphs; {where}",
        meaning="an output depends on how much padding a batch has: a sum, mean or normalisation "
        "runs over all nodes or edges without node_mask",
    )


@CHECKS.register("padded rows")
def padded_rows(context: Context) -> Measurement:
    """The largest number in rows of padding."""
    group = [context.sample(next(iter(context.examples.values())))]
    found = context.run(group, context.budget)
    used = int(group[0].graph.n_node[0])
    rest = [v[used:] if is_per_node(name) else v[1:] for name, v in found.items()]
    return context.judge(
        "padded rows",
        "A8",
        max(float(np.abs(v).max()) for v in rest),
        (0, 0),
        detail="largest value in rows of padding nodes and graphs",
        meaning="rows of padding are not zero: values or gradients of padding nodes are not masked",
        unit="",
    )


@CHECKS.register("batch")
def batch(context: Context) -> Measurement:
    """All outputs of each structure alone and in the company of the others."""
    alone = [context.predict([s])[0] for s in context.examples.values()]
    value, where = difference(context.reference, alone)
    return context.judge(
        "batch",
        "A9",
        value,
        (1e-12, 1e-5),
        detail=f"{len(alone)} structures together against each alone; {where}",
        meaning="a prediction depends on the other structures of its batch: a mean or a "
        "normalisation runs over all nodes instead of each graph's own",
    )


@CHECKS.register("cross gradient")
def cross_gradient(context: Context) -> Measurement | None:
    """The gradient of one structure's output with respect to another's positions."""
    structures = list(context.generated.values())
    # A structure without cell twice, where there is no crystal to go with the molecule.
    structures = structures if len(structures) > 1 else structures * 2
    worst = 0.0
    for own in range(len(structures)):
        weights = np.eye(len(structures))[own]
        probes = context.probe(structures, weights=weights)
        others = [np.abs(p.gradient).max() for k, p in enumerate(probes) if k != own]
        worst = max([worst, *map(float, others)], key=lambda v: v if np.isfinite(v) else np.inf)
    return context.judge(
        "cross gradient",
        "A9",
        worst,
        (0, 0),
        detail="largest derivative of one structure's output by another structure's positions",
        meaning="structures of one batch see each other: an operation mixes rows of different "
        "graphs",
        unit="eV/Å" if context.has_energy else "1/Å",
    )


def _edited(
    context: Context, edit: Callable[[Graph], Graph], names: Sequence[str] | None = None
) -> tuple[float, str]:
    """What changes when every graph is edited, the structure being the same."""
    samples = [context.sample(s) for s in context.examples.values()]
    found = context.evaluate([Sample(edit(s.graph), s.labels) for s in samples])
    return difference(found, context.reference, names)


def _when_moved(
    context: Context, limits: tuple[float, float]
) -> tuple[list[str], tuple[float, float]]:
    """What to compare between positions that differ in rounding, and up to which limits.

    In float32 the limits are those of invariants, where there are any: vectors and tensors have
    the limit of equivariance.
    """
    invariant, rest = _invariants(context), _covariants(context)
    if context.double:
        return invariant + rest, limits
    if any(name in values for values in context.reference for name in invariant):
        return invariant, limits
    return rest, (limits[0], 5e-5)


def _moved(graph: Graph, positions: np.ndarray) -> Graph:
    return graph._replace(nodes={**graph.nodes, "positions": positions})


def _imaged(one: Sample, moves: np.ndarray) -> Sample:
    """Other images of the atoms, on the graph itself: shifts make up for the moves."""
    graph = one.graph
    shifts = graph.edges["shifts"] - moves[graph.receivers] + moves[graph.senders]
    graph = _moved(graph, graph.nodes["positions"] + moves @ graph.globals["cell"][0])
    return Sample(graph._replace(edges={**graph.edges, "shifts": shifts}), one.labels)


def _reordered(structure: Structure, order: np.ndarray) -> Structure:
    return Structure(
        structure.positions[order],
        structure.species[order],
        cell=structure.cell,
        pbc=structure.pbc,
        inputs={name: value[order] for name, value in structure.inputs.items()},
    )
