"""Losses of descriptors: points that are the same place in two clouds get the same numbers.

The label of a descriptor is where its point belongs, `[node, 3]`, in a frame that all parts of a
structure share (see `graphs.parts`): two points of different parts at the same place, up to
`radius`, are a positive pair, and those farther apart than `far` a negative one. So the same labels
serve pairs of scans and pieces of a broken shape.

    circle         a margin for each pair that knows how hard it is
    info-nce       the right partner among all points of the other parts
    directions     of vectors: R_i f_i and R_j f_j agree at one place, R of each part by the labels
    agreement      what one point predicts is what the point at its place is; without negative pairs

Where the places of a scan's points are those to which the scene flow takes them, "agreement" is the
flow loss of self-supervised LiDAR networks.

References:
    Sun et al., "Circle loss", CVPR 2020, https://arxiv.org/abs/2002.10857; with the weights of
    Huang et al., "Predator", CVPR 2021, https://arxiv.org/abs/2011.13005.
    van den Oord, Li, Vinyals, "Representation learning with contrastive predictive coding", 2018,
    https://arxiv.org/abs/1807.03748.
    Yao et al., "PARE-Net", ECCV 2024, https://arxiv.org/abs/2407.10142 (directions: its rotation
    loss).
    Chen, He, "Exploring simple Siamese representation learning", CVPR 2021,
    https://arxiv.org/abs/2011.10566 (agreement; a copy of the network by moving averages is left
    out as there), between the points that scene flow joins as in Hegde et al., "Equivariant
    spatio-temporal self-supervision for LiDAR object detection", ECCV 2024.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide, safe_norm, unit
from geojax.graphs import Batch, by_graph, graph_of_nodes, split_parts
from geojax.graphs.parts import PART
from geojax.points import fit_pose

__all__ = ["Pairs", "agreement", "circle", "hinge", "in_common_frame", "info_nce", "pairs_of"]

POSITIVE_MARGIN, NEGATIVE_MARGIN, SCALE = 0.1, 1.4, 24.0  # of unit descriptors; published
TEMPERATURE = 0.1
MOST_PARTS = 32


class Pairs(NamedTuple):
    """All pairs of points of each graph; only those of two parts are positive or negative.

    Attributes:
        distance: between unit descriptors, 0 to 2.
        near: the same place.
        far: another place.
        weight: of each pair that is near: one at the same place, zero at `radius`.
    """

    distance: Float[Array, "graph member member2"]
    near: Bool[Array, "graph member member2"]
    far: Bool[Array, "graph member member2"]
    weight: Float[Array, "graph member member2"]


def pairs_of(
    descriptors: Float[Array, "node d"],
    places: Float[Array, "node 3"],
    mask: Bool[Array, "node"],
    batch: Batch,
    *,
    radius: float,
    far: float,
) -> Pairs:
    """Every pair within each graph of a batch.

    Args:
        descriptors: of any length.
        places: labels.
        mask: which are known.
        batch: whose nodes have the input `part`.
        radius, far: in the unit of the positions.

    Raises:
        KeyError: the structures have no parts.
    """
    if PART not in batch.graph.nodes:
        raise KeyError(
            "descriptors are compared between the parts of a structure, told by the node input "
            f"{PART!r}; there are {sorted(batch.graph.nodes)}"
        )
    rows = lambda x: by_graph(x, batch.graph)[0]
    f, x = rows(unit(descriptors)), rows(places)
    part, known = rows(batch.graph.nodes[PART]), rows(mask)
    apart = known[:, :, None] & known[:, None, :] & (part[:, :, None] != part[:, None, :])
    gap = jax.lax.stop_gradient(safe_norm(x[:, :, None] - x[:, None]))
    similarity = jnp.einsum("gic,gjc->gij", f, f, precision="highest")
    square = jnp.maximum(2 - 2 * similarity, 0)
    positive = square > 0
    distance = jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)
    return Pairs(
        distance,
        apart & (gap < radius),
        apart & (gap > far),
        jnp.clip(1 - gap / radius, 0, 1),
    )


def circle(pairs: Pairs) -> tuple[Float[Array, "graph"], Bool[Array, "graph"]]:
    """The circle loss, the mean over points that have a partner and others to be told from.

        L_i = softplus(LSE_j+ (g l_ij b_ij (d_ij - 0.1)) + LSE_j- (g c_ij (1.4 - d_ij))) / g

    with b = max(d - 0.1, 0), c = max(1.4 - d, 0) as constants, l the square root of the weight of a
    positive pair, g = 24.

    Returns:
        The loss of each graph, and which have such points.
    """
    d = pairs.distance
    constant = jax.lax.stop_gradient(d)
    attract = jnp.sqrt(pairs.weight) * jnp.maximum(constant - POSITIVE_MARGIN, 0)
    repel = jnp.maximum(NEGATIVE_MARGIN - constant, 0)
    total = _sum_of_exponentials(SCALE * attract * (d - POSITIVE_MARGIN), pairs.near)
    total += _sum_of_exponentials(SCALE * repel * (NEGATIVE_MARGIN - d), pairs.far)
    counts = pairs.near.any(-1) & pairs.far.any(-1)
    return _mean(jax.nn.softplus(jnp.where(counts, total, 0)) / SCALE, counts)


def info_nce(pairs: Pairs) -> tuple[Float[Array, "graph"], Bool[Array, "graph"]]:
    """-log of the share of exp(similarity / 0.1) at the nearest place, among it and all far ones.

    Returns:
        The loss of each graph, and which have points with partners.
    """
    logits = (1 - pairs.distance**2 / 2) / TEMPERATURE
    weight = jnp.where(pairs.near, pairs.weight, -1)
    best = jnp.argmax(weight, -1)[..., None]
    right = jnp.take_along_axis(logits, best, -1)[..., 0]
    there = pairs.far | (jnp.arange(logits.shape[-1])[None, None] == best)
    counts = pairs.near.any(-1) & pairs.far.any(-1)
    total = _sum_of_exponentials(logits, there)
    return _mean(jnp.where(counts, total - right, 0), counts)


def hinge(pairs: Pairs) -> tuple[Float[Array, "graph"], Bool[Array, "graph"]]:
    """max(d - 0.1, 0) of positive pairs and max(1.4 - d, 0) of negative ones, means added.

    Returns:
        The loss of each graph, and which have a positive pair.
    """
    mean = lambda x, there: _mean(x.reshape(len(x), -1), there.reshape(len(x), -1))
    near, known = mean(jnp.maximum(pairs.distance - POSITIVE_MARGIN, 0), pairs.near)
    away, _ = mean(jnp.maximum(NEGATIVE_MARGIN - pairs.distance, 0), pairs.far)
    return near + away, known


def agreement(
    values: Float[Array, "node both"],
    places: Float[Array, "node 3"],
    mask: Bool[Array, "node"],
    batch: Batch,
    *,
    radius: float,
    far: float,
) -> tuple[Float[Array, "graph"], Bool[Array, "graph"]]:
    """1 - cos(q_i, z_j), j the nearest place of another part, the mean over points that have one.

    Args:
        values: a prediction q and a projection z of one length, side by side. No gradient goes
            through z_j; without q, a perceptron of z, all points would soon be alike.
        places, mask, batch, radius, far: as of `pairs_of`.

    Returns:
        The loss of each graph, and which have points with partners.

    Raises:
        ValueError: an odd number of components.
    """
    if values.shape[1] % 2:
        raise ValueError(
            "agreement takes a prediction and a projection of one length side by side; got "
            f"{values.shape[1]} components"
        )
    predicted, projected = jnp.split(values, 2, 1)
    pairs = pairs_of(projected, places, mask, batch, radius=radius, far=far)
    rows = lambda x: by_graph(unit(x), batch.graph)[0]
    fixed = jax.lax.stop_gradient(rows(projected))
    cosine = jnp.einsum("gic,gjc->gij", rows(predicted), fixed, precision="highest")
    best = jnp.argmax(jnp.where(pairs.near, pairs.weight, -1), -1)[..., None]
    error = 1 - jnp.take_along_axis(cosine, best, -1)[..., 0]
    return _mean(error, pairs.near.any(-1))


def in_common_frame(
    vectors: Float[Array, "node d"],
    places: Float[Array, "node 3"],
    mask: Bool[Array, "node"],
    batch: Batch,
) -> Float[Array, "node d"]:
    """Vectors of points, turned as their part turns to its place.

    The rotation of a part is the one that takes its points best to their labels.

    Args:
        vectors: channels of "1o", side by side. NaN in parts beyond the 32nd.
    """
    parts = split_parts(batch.graph, MOST_PARTS)
    positions, real = by_graph(batch.graph.nodes["positions"], parts)
    known = real & by_graph(mask, parts)[0]
    poses = fit_pose(positions, by_graph(places, parts)[0], mask=known)
    turns = jax.lax.stop_gradient(poses.rotation)[graph_of_nodes(parts)]
    turns = jnp.where((batch.graph.nodes[PART] < MOST_PARTS)[:, None, None], turns, jnp.nan)
    columns = vectors.reshape(len(vectors), -1, 3)
    return jnp.einsum("nxy,ncy->ncx", turns, columns, precision="highest").reshape(vectors.shape)


def _sum_of_exponentials(x: Array, there: Array) -> Array:
    """log sum_j exp(x_ij) over what is there; a large negative number where nothing is."""
    low = jnp.asarray(-1e9, x.dtype)
    return jax.nn.logsumexp(jnp.where(there, x, low), -1)


def _mean(x: Array, counts: Array) -> tuple[Array, Array]:
    number = jnp.sum(counts, -1).astype(x.dtype)
    return safe_divide(jnp.sum(jnp.where(counts, x, 0), -1), number), number > 0
