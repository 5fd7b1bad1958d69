"""The convolution of equivariant networks: gather, couple with the edge's direction, sum.

    out_i = sum over j of x_j ⊗ Y(r_ij), path by path and channel by channel with weights R(|r_ij|)

Channels are mixed before (on the senders) and after (on the receivers, where paths meet), never on
edges: there are many more edges than nodes.
"""

import math
from collections.abc import Collection, Mapping
from itertools import groupby
from typing import NamedTuple

import jax.numpy as jnp
from e3nn_jax import Irrep
from jaxtyping import Array, Float

from geojax import so3
from geojax.graphs import Graph, degree, from_senders, to_receivers
from geojax.nn.linear import Blocks
from geojax.products import Direction, convolution, kept_layout, split_kept, tensor_product

__all__ = [
    "Part",
    "convolve",
    "convolve_blocks",
    "irrep",
    "neighbor_count",
    "plan",
    "sum_divisor",
    "weight_count",
]


def convolve(
    x: Float[Array, "node m1 channel"],
    y: Float[Array, "edge m2 1"] | Direction,
    weights: Float[Array, "edge path channel"],
    graph: Graph,
    *,
    lmax: int,
    parity: so3.Parity = "even",
    method: str = "auto",
) -> Float[Array, "node m3 channel"]:
    """The sum of messages at each node, all paths kept apart (`products.split_kept`).

    Args:
        x: features of the senders.
        y: harmonics of the edge vectors, from sender to receiver.
        weights: one per edge, path (in the order of `so3.paths`) and channel.
        lmax: largest degree of the result.
        parity: of the paths, as in `tensor_product`.
        method: a name in `PRODUCTS`, or "auto".
    """
    options = {"lmax": lmax, "method": method, "paths": "keep", "parity": parity}
    if "mask" in graph.edges or "reverse" in graph.edges:
        return to_receivers(tensor_product(from_senders(x, graph), y, weights, **options), graph)
    return convolution(x, y, weights, graph.senders, graph.receivers, **options)


class Part(NamedTuple):
    """One product of a convolution of blocks: channels that share their degrees and parity.

    Attributes:
        sources: the irrep of each degree, None for rows of zeros.
        start, stop: the channels.
        lmax: largest degree of the result.
        parity: of the paths.
        targets: for each path the irrep that it ends in, None if nobody wants it.
    """

    sources: tuple[Irrep | None, ...]
    start: int
    stop: int
    lmax: int
    parity: so3.Parity
    targets: tuple[Irrep | None, ...]

    @property
    def weights(self) -> tuple[int, int]:
        """Paths in use, channels."""
        return sum(t is not None for t in self.targets), self.stop - self.start


def irrep(l: int, pseudo: bool = False) -> Irrep:
    """Degree l with natural parity (-1)**l, or the other one."""
    return Irrep(l, (-1) ** (l + pseudo))


def plan(
    widths: Mapping[Irrep, int], lmax: int, wanted: Collection[Irrep], *, chiral: bool = False
) -> tuple[Part, ...]:
    """The products that lead from blocks with these channels to the wanted irreps.

    Natural and pseudo-tensors are two arrays. Where high degrees have fewer channels than low ones,
    an array is cut into bands of channels, each with its own largest degree, so that nothing is
    padded.

    Args:
        widths: the channels of each irrep of the senders.
        lmax: largest degree of the harmonics.
        wanted: irreps of the result.
        chiral: odd paths end in natural irreps too (rotations only, no reflections).
    """
    parts = []
    for pseudo in (False, True):
        counts = [widths.get(irrep(l, pseudo), 0) for l in range(max(i.l for i in widths) + 1)]
        start = 0
        for stop in sorted(set(counts) - {0}):
            sources = [irrep(l, pseudo) if n >= stop else None for l, n in enumerate(counts)]
            while sources[-1] is None:
                sources.pop()
            part = _part(tuple(sources), start, stop, lmax, wanted, pseudo, chiral)
            if part is not None:
                parts.append(part)
            start = stop
    return tuple(parts)


def _part(
    sources: tuple[Irrep | None, ...],
    start: int,
    stop: int,
    lmax: int,
    wanted: Collection[Irrep],
    pseudo: bool,
    chiral: bool,
) -> Part | None:
    def target(path: so3.Path) -> Irrep | None:
        odd = sum(path) % 2 == 1
        found = irrep(path.l3, False if chiral else pseudo != odd)
        return found if found in wanted and sources[path.l1] is not None else None

    top = max(i.l for i in wanted)
    live = [p for p in so3.paths(len(sources) - 1, lmax, top, parity="all") if target(p)]
    if not live:
        return None
    kinds = {sum(path) % 2 for path in live}
    parity: so3.Parity = "all" if len(kinds) == 2 else "odd" if 1 in kinds else "even"
    top = max(path.l3 for path in live)
    targets = tuple(map(target, so3.paths(len(sources) - 1, lmax, top, parity=parity)))
    return Part(sources, start, stop, top, parity, targets)


def weight_count(parts: Collection[Part]) -> int:
    """How many weights `convolve_blocks` reads per edge."""
    return sum(paths * channels for paths, channels in (part.weights for part in parts))


def convolve_blocks(
    x: Blocks,
    y: Float[Array, "edge m2 1"],
    weights: Float[Array, "edge weight"],
    graph: Graph,
    parts: Collection[Part],
    *,
    method: str = "auto",
) -> dict[Irrep, Float[Array, "node _ _"]]:
    """`convolve` of features of several irreps; the paths into an irrep lie side by side.

    Args:
        x: features of the senders, with the channels that `plan` was told.
        y: harmonics, up to the degree that `plan` was told.
        weights: `weight_count(parts)` per edge.
        parts: from `plan`.
    """
    found: dict[Irrep, list[Array]] = {}
    lmax_y, first = so3.degree(y), 0
    for part in parts:
        paths, channels = part.weights
        own = weights[:, first : first + paths * channels]
        first += paths * channels
        own = _spread(own.reshape(own.shape[0], paths, channels), part.targets)
        rows = _rows(x, part)
        kept = convolve(rows, y, own, graph, lmax=part.lmax, parity=part.parity, method=method)
        layout = kept_layout(len(part.sources) - 1, lmax_y, part.lmax, parity=part.parity)
        for target, block in _by_target(split_kept(kept, layout), part.targets):
            found.setdefault(target, []).append(block)
    return {target: jnp.concatenate(blocks, -1) for target, blocks in found.items()}


def _rows(x: Blocks, part: Part) -> Float[Array, "node m channel"]:
    """The channels of a part, degree after degree, zeros for those that are absent."""
    like = next(iter(x.values()))
    zeros = lambda l: jnp.zeros((like.shape[0], 2 * l + 1, part.stop - part.start), like.dtype)
    rows = [
        zeros(l) if source is None else x[source][..., part.start : part.stop]
        for l, source in enumerate(part.sources)
    ]
    return jnp.concatenate(rows, -2)


def _spread(
    weights: Float[Array, "edge path channel"], targets: tuple[Irrep | None, ...]
) -> Float[Array, "edge all channel"]:
    """Zero weights put in for the paths without a target."""
    if all(targets):
        return weights
    blocks, first = [], 0
    for empty, run in groupby(targets, lambda target: target is None):
        count = len(list(run))
        if empty:
            blocks.append(jnp.zeros((weights.shape[0], count, weights.shape[2]), weights.dtype))
        else:
            blocks.append(weights[:, first : first + count])
            first += count
    return jnp.concatenate(blocks, 1)


def _by_target(
    blocks: list[Float[Array, "node _ _ channel"]], targets: tuple[Irrep | None, ...]
) -> list[tuple[Irrep, Float[Array, "node _ _"]]]:
    """The paths of each degree, sorted out by the irrep they end in, side by side as channels."""
    found, first = [], 0
    for block in blocks:
        own = targets[first : first + block.shape[1]]
        first += block.shape[1]
        for target in dict.fromkeys(t for t in own if t):
            chosen = [block[:, i] for i, t in enumerate(own) if t and t == target]
            found.append((target, jnp.concatenate(chosen, -1)))
    return found


def neighbor_count(average_neighbors: float | None) -> float:
    """The mean number of neighbours, by which sums over them are normalised.

    Raises:
        ValueError: it is not known yet, or not a positive finite number.
    """
    if average_neighbors is None or not 0 < average_neighbors < math.inf:
        raise ValueError(
            "sums over neighbours are divided by a power of average_neighbors; got "
            f"{average_neighbors}; give the mean number of neighbours, or let fit_to_data count "
            "them"
        )
    return average_neighbors


def sum_divisor(
    graph: Graph, cutoff: float, average_neighbors: float | None
) -> Float[Array, "#node 1"]:
    """What turns sums over neighbours into means: how many there are.

    Under a finite cutoff it is their mean number, since the number of each node jumps.

    Raises:
        ValueError: the cutoff is finite and `average_neighbors` not known yet.
    """
    dtype = graph.nodes["positions"].dtype
    if math.isinf(cutoff):
        return jnp.maximum(degree(graph, dtype), 1)[:, None]
    return jnp.full((1, 1), neighbor_count(average_neighbors), dtype)
