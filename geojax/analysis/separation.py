"""Which structures a network can tell apart, whatever its parameters: pairs at random parameters.

A network with analytic nonlinearities separates a pair at almost all parameters or at none, so a
few random ones decide. Compared are invariants of the summed outputs: the scalars ("0e" and "0o")
and the lengths of other irreps.

    difference = max over draws |f(x) - f(y)| / max(|f(x)|, |f(y)|)

A network without the symmetry of rotations separates all pairs, turned copies too, which says
nothing of shapes.

References:
    Pacini, Dong, Lepri, Santin, "Separation power of equivariant neural networks", ICLR 2025.
    Bloom, "A counterexample to a theorem of S. Piccard", 1977 (structures of equal distances);
    Pozdnyakov, Ceriotti, "Incompleteness of graph neural networks for points clouds in three
    dimensions", 2022, https://arxiv.org/abs/2201.07136.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from e3nn_jax import IrrepsArray
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.datasets.tetris import PIECES
from geojax.graphs import Budget, Graph, Properties, Sample, Structure, pad, pool, sample
from geojax.model import Model
from geojax.networks import fit_to_data

__all__ = ["Pair", "Separation", "separation_report", "standard_pairs"]

Pair = tuple[Structure, Structure]

# Six points of a cubic grid each: alike for any number of rounds of messages of distances between
# all pairs, since each point hears the same; but not congruent, as triples of points show.
REFINEMENT = (
    ((0, 0, 0), (0, 0, 2), (0, 1, 1), (2, 1, 1), (2, 2, 0), (2, 2, 2)),
    ((0, 0, 0), (0, 0, 2), (1, 1, 0), (1, 1, 2), (2, 2, 0), (2, 2, 2)),
)
OCTAGON = ((0, 1, 3, 4), (0, 1, 2, 5))  # corners, of equal multisets of distances
CHIRAL = ((0, 0, 0), (1, 0, 0), (0, 1.5, 0), (0, 0, 2), (0.7, 0.4, -0.9))


class Separation(NamedTuple):
    """What was found of one pair.

    Attributes:
        name: of the pair.
        difference: see the module; of invariants, so 0 to 2.
        draws: the difference at each draw of the parameters.
        own: the difference at a model's own parameters; None for a network.
        separated: whether the difference is above the tolerance.
    """

    name: str
    difference: float
    draws: tuple[float, ...]
    own: float | None
    separated: bool


def standard_pairs(*, species: int = 0, extent: float = 2.0) -> dict[str, Pair]:
    """Pairs of structures that families of networks cannot tell apart.

    "mirror": five points of no symmetry and their mirror image; "screws": the two handed pieces of
    Tetris; both are alike for all that is invariant under O(3). "distances": four corners of an
    octagon, twice, with equal multisets of distances, alike for sums over pairs. "refinement": six
    points whose distances are alike for any number of rounds of messages; angles tell them apart.

    Args:
        species: of every node.
        extent: the largest distance in a pair [Å], so that a network with a longer cutoff sees all.
    """
    angles = np.pi / 4 * np.array(OCTAGON)
    flat = np.stack([np.cos(angles), np.sin(angles), 0 * angles], -1)
    chiral = np.array(CHIRAL, float)
    screws = (PIECES["left screw"], PIECES["right screw"])
    points = {
        "mirror": (chiral, chiral * [1, 1, -1]),
        "screws": screws,
        "distances": flat,
        "refinement": REFINEMENT,
    }
    return {name: _scaled_pair(x, y, species, extent) for name, (x, y) in points.items()}


def _scaled_pair(x: Any, y: Any, species: int, extent: float) -> Pair:
    both = [np.array(x, float), np.array(y, float)]
    largest = max(np.linalg.norm(a[:, None] - a[None], axis=-1).max() for a in both)
    x, y = (Structure(a * extent / largest, np.full(len(a), species)) for a in both)
    return x, y


def separation_report(
    subject: Any,
    pairs: Mapping[str, Pair] | None = None,
    *,
    draws: int = 8,
    spread: float = 0.1,
    tolerance: float = 1e-9,
    seed: int = 0,
) -> tuple[Separation, ...]:
    """Whether a network separates pairs of structures, in float64.

    Args:
        subject: a network, whose fields that wait for data are filled in from the pairs, or a
            `Model`.
        pairs: by name; `standard_pairs` of the subject's first element and an extent within its
            cutoff by default.
        draws: of the parameters, by the network's own rule.
        spread: the standard deviation of noise on all of them, because a last layer that starts at
            zero separates nothing.
        tolerance: differences above it count.
        seed: of the draws.

    Raises:
        ValueError: there are no pairs or no draws.
    """
    network = subject.network if isinstance(subject, Model) else subject
    pairs = _default_pairs(subject, network) if pairs is None else pairs
    if not pairs or draws < 1:
        raise ValueError(f"pairs and draws are one or more; got {len(pairs)} and {draws}")
    structures = [one for pair in pairs.values() for one in pair]
    with jax.enable_x64(True):
        network, graph = _together(network, structures)

        def at(params: Any) -> Array:
            return _differences(_invariants(network.apply(params, graph), graph)[:-1])

        def drawn(key: Array) -> Array:
            params, noise = network.init(key, graph), jax.random.fold_in(key, 1)
            flat, tree = jax.tree.flatten(params)
            keys = jax.random.split(noise, max(len(flat), 1))
            flat = [
                a + spread * jax.random.normal(k, a.shape, jnp.float64)
                for a, k in zip(flat, keys, strict=False)
            ]
            return at(jax.tree.unflatten(tree, flat))

        keys = jax.random.split(jax.random.key(seed), draws)
        found = np.asarray(jax.jit(lambda keys: jax.lax.map(drawn, keys))(keys))
        own = None
        if isinstance(subject, Model):
            params = jax.tree.map(lambda a: np.asarray(a, np.float64), subject.params)
            own = np.asarray(jax.jit(at)(params))
    return tuple(
        Separation(
            name,
            float(column.max()),
            tuple(float(d) for d in column),
            None if own is None else float(own[i]),
            bool(column.max() > tolerance),
        )
        for i, (name, column) in enumerate(zip(pairs, found.T, strict=True))
    )


def _default_pairs(subject: Any, network: Any) -> dict[str, Pair]:
    known = getattr(network, "elements", ())
    known = known or (subject.card.elements if isinstance(subject, Model) else ())
    cutoff = float(network.cutoff)
    extent = 0.9 * cutoff if 0 < cutoff < math.inf else 2.0
    return standard_pairs(species=min(known, default=0), extent=extent)


def _together(network: Any, structures: Sequence[Structure]) -> tuple[Any, Graph]:
    """One batch of all structures, and the network fitted to it."""
    whole = getattr(network, "reads_members", False)
    samples = [
        sample(
            s,
            network.cutoff,
            nearest=getattr(network, "nearest", None),
            members=max(map(len, structures)) if whole else None,
            labels=Properties(),
        )
        for s in structures
    ]
    nodes, edges = (sum(int(n[0]) for n in ns) for ns in zip(*map(_sizes, samples), strict=True))
    batch = pad(samples, Budget(nodes + 1, edges, len(samples) + 1), np.float64)
    return fit_to_data(network, samples), jax.tree.map(jnp.asarray, batch.graph)


def _sizes(one: Sample) -> tuple[np.ndarray, np.ndarray]:
    return one.graph.n_node, one.graph.n_edge


def _invariants(out: IrrepsArray, graph: Graph) -> Float[Array, "graph invariant"]:
    """Scalars and lengths of the sums over nodes."""
    total = pool(out.array, graph)
    found = []
    for (_, irrep), own in zip(out.irreps, out.irreps.slices(), strict=True):
        rows = total[:, own].reshape(len(total), -1, irrep.dim)
        found.append(rows[..., 0] if irrep.l == 0 else safe_norm(rows))
    return jnp.concatenate(found, -1)


def _differences(rows: Float[Array, "graph invariant"]) -> Float[Array, "pair"]:
    """Of each structure from the next one, two and two."""
    x, y = rows[0::2], rows[1::2]
    scale = jnp.maximum(safe_norm(x), safe_norm(y))
    return safe_norm(x - y) / jnp.where(scale > 0, scale, 1)
