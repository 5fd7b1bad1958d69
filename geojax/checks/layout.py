"""Checks of how structures are laid out: order of edges, images, padding, company in a batch.

Each is a function `(context) -> Measurement | None` in `CHECKS`; limits are those of the acceptance
list (figures A4, A6 to A9, A13), in float64 and float32.
"""

from typing import Any

import numpy as np

from geojax.checks.context import CHECKS, Context, Measurement, difference, largest
from geojax.checks.examples import supercell
from geojax.checks.symmetry import when_moved
from geojax.graphs import Budget, Sample, is_per_node

__all__ = []


@CHECKS.register("edge order")
def edge_order(context: Context) -> Measurement:
    """All outputs when the edges of each receiver come in another order."""
    rng = context.rng()

    def mixed(one: Sample) -> Sample:
        graph: Any = one.graph
        order = np.lexsort((rng.random(len(graph.receivers)), graph.receivers))
        edges = {name: value[order] for name, value in graph.edges.items()}
        ends = {"senders": graph.senders[order], "receivers": graph.receivers[order]}
        return one._replace(graph=graph._replace(edges=edges, **ends))

    found = context.programs.evaluate([mixed(context.sample(s)) for s in context.examples.values()])
    value, where = difference(found, list(context.reference.values()))
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
    slots = max(_most_neighbors(context.sample(s)) for s in structures) + 1
    samples = [context.sample(s, slots=slots) for s in structures]
    n_node = sum(len(s) for s in structures) + 1
    budget = Budget(n_node, n_node * slots, len(samples) + 1)
    found = context.programs.evaluate(samples, budget)
    value, where = difference(found, [context.reference[name] for name in context.generated])
    return context.judge(
        "layouts",
        "A4",
        value,
        (1e-12, 1e-5),
        detail=f"a table of {slots} slots per atom against the list of edges; {where}",
        meaning="the two layouts of the same graph give different results: the network gathers or "
        "sums along edges without graphs.messages, or counts the empty slots",
    )


def _most_neighbors(one: Sample) -> int:
    graph: Any = one.graph
    return int(np.bincount(graph.receivers, minlength=1).max())


@CHECKS.register("images")
def images(context: Context) -> Measurement | None:
    """All outputs when atoms are given as other periodic images.

    Of the structure, where `graphs.sample` wraps them back, and of the graph that is read.
    """
    periodic = {name: s for name, s in context.examples.items() if any(s.pbc)}
    if not periodic:
        return None
    rng = context.rng()
    samples = []
    for s in periodic.values():
        assert s.cell is not None
        moves = rng.integers(-2, 3, (len(s), 3)) * np.array(s.pbc)
        samples += [
            context.sample(s.replace(positions=s.positions + moves @ s.cell)),
            _imaged(context.sample(s), moves),
        ]
    want = [context.reference[name] for name in periodic for _ in range(2)]
    names, limits = when_moved(context, (1e-11, 1e-5))
    value, where = difference(context.programs.evaluate(samples), want, names)
    return context.judge(
        "images",
        "A6",
        value,
        limits,
        detail=f"atoms moved by up to two lattice vectors; {where}",
        meaning="an output depends on which periodic image of an atom is given: some vector "
        "between atoms is computed without the edge's shift, or from the positions alone",
    )


def _imaged(one: Sample, moves: np.ndarray) -> Sample:
    """Other images of the atoms; the shifts of their edges make up for the moves."""
    graph: Any = one.graph
    shifts = graph.edges["shifts"] - moves[graph.receivers] + moves[graph.senders]
    positions = graph.nodes["positions"] + moves @ graph.globals["cell"][0]
    nodes, edges = {**graph.nodes, "positions": positions}, {**graph.edges, "shifts": shifts}
    return one._replace(graph=graph._replace(nodes=nodes, edges=edges))


@CHECKS.register("supercell")
def supercells(context: Context) -> Measurement | None:
    """Energy per atom, and all values per atom, of a crystal repeated twice along each axis."""
    small = {name: s for name, s in context.generated.items() if any(s.pbc)}
    moved, limits = when_moved(context, (1e-11, 1e-5))
    names = [name for name in moved if is_per_node(name) or name == "energy"]
    if not small or not names:
        return None
    got, want = context.predict([supercell(s) for s in small.values()]), []
    for (name, s), found in zip(small.items(), got, strict=True):
        copies = 2 ** sum(s.pbc)
        values = dict(context.reference[name])
        for key, value in values.items():
            if is_per_node(key):
                values[key] = np.tile(value, (copies, *[1] * (value.ndim - 1)))
            elif key == "energy":
                found[key] = np.asarray(found[key] / copies)
        want.append(values)
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
    """The same call twice: how many numbers differ."""
    samples = [context.sample(s) for s in context.examples.values()]
    first, second = (context.programs.evaluate(samples) for _ in range(2))
    differ = sum(
        int((a[name].view(np.int64) != b[name].view(np.int64)).sum())
        for a, b in zip(first, second, strict=True)
        for name in a
    )
    return context.judge(
        "repeat",
        "A7",
        float(differ),
        (0.0, 0.0),
        detail="numbers that differ in any bit between two equal calls",
        meaning="the same program on the same input gives other bits: random numbers without a "
        "fixed key, or sums whose order the device chooses",
        unit="numbers",
    )


@CHECKS.register("padding")
def padding(context: Context) -> Measurement:
    """All outputs but the stress when the batch is padded to another size."""
    names = list(context.generated)
    probes = context.probe(list(context.generated.values()))
    found = [p.values for p in probes]
    want = [{n: v for n, v in context.reference[k].items() if n != "stress"} for k in names]
    value, where = difference(found, want)
    sizes = (tuple(b) for b in (context.programs.budget, context.programs.small))
    return context.judge(
        "padding",
        "A8",
        value,
        (1e-13, 2e-5),
        detail=f"nodes, edges, graphs: {' against '.join(map(str, sizes))}; {where}",
        meaning="an output depends on how much padding a batch has: a sum, mean or normalisation "
        "runs over all nodes or edges without node_mask",
    )


@CHECKS.register("padded rows")
def padded_rows(context: Context) -> Measurement:
    """The largest number in rows of padding."""
    one = context.sample(next(iter(context.examples.values())))
    found = context.programs.run([one], context.programs.budget)
    used = len(next(iter(context.examples.values())))
    in_rows = lambda name: is_per_node(name) or name == "hessian"
    return context.judge(
        "padded rows",
        "A8",
        largest(v[used:] if in_rows(name) else v[1:] for name, v in found.items()),
        (0.0, 0.0),
        detail="largest value in rows of padding nodes and graphs",
        meaning="rows of padding are not zero: values or gradients of padding nodes are not masked",
        unit="any",
    )


@CHECKS.register("batch")
def batch(context: Context) -> Measurement:
    """All outputs of each structure alone and in the company of the others."""
    alone = [context.predict([s])[0] for s in context.examples.values()]
    # Once more with itself: a single example has company, too.
    together = context.predict([*context.examples.values()] * 2)
    value, where = difference(together, alone * 2)
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
def cross_gradient(context: Context) -> Measurement:
    """The gradient of one structure's output with respect to another's positions."""
    structures = list(context.generated.values())
    structures = structures if len(structures) > 1 else structures * 2
    strangers = []
    for own in range(len(structures)):
        weights = [float(k == own) for k in range(len(structures))]
        probes = context.probe(structures, weights=weights)
        strangers += [p.gradient for k, p in enumerate(probes) if k != own]
    return context.judge(
        "cross gradient",
        "A9",
        largest(strangers),
        (0.0, 0.0),
        detail="largest derivative of one structure's output by another structure's positions",
        meaning="structures of one batch see each other: an operation mixes rows of different "
        "graphs",
        unit="eV/Å" if context.has_energy else "1/Å",
    )


@CHECKS.register("skin")
def skin(context: Context) -> Measurement | None:
    """All outputs when the graph holds edges beyond the cutoff, as in molecular dynamics."""
    if not context.local:
        return None
    structures = list(context.generated.values())
    found = context.predict(structures, reach=1.15 * context.cutoff)
    value, where = difference(found, [context.reference[name] for name in context.generated])
    return context.judge(
        "skin",
        "A13",
        value,
        (1e-12, 2e-5),
        detail=f"edges up to 1.15 cutoffs; {where}",
        meaning="edges beyond the cutoff change the output: neighbours are counted, or the "
        "envelope is not zero past the cutoff",
    )
