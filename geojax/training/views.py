"""Losses without labels: what two views of one structure have in common, and others have not.

A prediction is one embedding for each of two views, side by side (the network `views`), and its
label the rotation R that turns the second view against the first. With z and z' of one structure,
u = z / |z|, and N structures in the batch,

    contrastive   -log of the share of exp(u_i . u'_i / T) among all other embeddings, T = 0.5
    vicreg        25 |z - z'|^2 / d + 25 (V + V') / 2 + C + C'
    care          contrastive + 0.03 mean_ij 2 (u_i . u_j - u'_i . u'_j)^2, over pairs with one R
    sie           10 |s - s'|^2 / d + 4.5 |D(R) e - e'|^2 / d + 10 (V + V') / 2 + C + C', z = (s, e)

where V is the mean of max(0, 1 - std) over components, and C the sum of the squared covariances of
different components, divided by d. In "sie" s are the scalars of the embedding's irreps and e the
rest, which the views' rotation acts on exactly; the published map of e is learned from R.

An embedding that does not change with rotations has nothing to lose by "contrastive" or "vicreg";
one that is equivariant makes the equivariant term of "sie" zero, and "care" too.

References:
    Chen, Kornblith, Norouzi, Hinton, "A simple framework for contrastive learning of visual
    representations", ICML 2020, https://arxiv.org/abs/2002.05709 (contrastive: its NT-Xent).
    Bardes, Ponce, LeCun, "VICReg", ICLR 2022, https://arxiv.org/abs/2105.04906.
    Gupta, Robinson, Lim, Villar, Jegelka, "Structuring representation geometry with rotationally
    equivariant contrastive learning", ICLR 2024, https://arxiv.org/abs/2306.13924 (care).
    Garrido, Najman, LeCun, "Self-supervised learning of split invariant equivariant
    representations", ICML 2023, https://arxiv.org/abs/2302.10283 (sie).
"""

import jax
import jax.numpy as jnp
from e3nn_jax import Irreps
from jaxtyping import Array, Bool, Float

from geojax.arrays import unit
from geojax.symmetrize.average import turn_irreps

__all__ = ["care", "contrastive", "sie", "two_views", "vicreg"]

TEMPERATURE = 0.5
VARIANCE_EPSILON = 1e-4
SAME = 1e-6  # rotations as near as this are one
VICREG, SIE, CARE = (25.0, 25.0, 1.0), (10.0, 4.5, 10.0, 1.0), 0.03

Views = tuple[Float[Array, "graph d"], Float[Array, "graph d"]]
Errors = Float[Array, "graph"]


def two_views(value: Float[Array, "graph both"]) -> Views:
    """The embeddings of the first and of the second views.

    Raises:
        ValueError: an odd number of components.
    """
    if value.ndim != 2 or value.shape[1] % 2:
        raise ValueError(
            "a prediction for two views is two embeddings of one length side by side; got shape "
            f"{value.shape}; take the network 'views'"
        )
    first, second = jnp.split(value, 2, 1)
    return first, second


def contrastive(views: Views, known: Bool[Array, "graph"]) -> Errors:
    """NT-Xent of each structure, the mean of both its views."""
    u = unit(jnp.concatenate(views))
    real = jnp.concatenate([known, known])
    n = len(known)
    logits = _gram(u, u) / TEMPERATURE
    others = real[None] & ~jnp.eye(2 * n, dtype=bool)
    total = jax.nn.logsumexp(jnp.where(others, logits, jnp.finfo(u.dtype).min), 1)
    right = jnp.sum(unit(views[0]) * unit(views[1]), 1) / TEMPERATURE
    return (total[:n] + total[n:]) / 2 - right


def vicreg(views: Views, known: Bool[Array, "graph"]) -> Errors:
    """The distance of the views of each structure; variances and covariances of the batch."""
    first, second = views
    near, spread, apart = VICREG
    distance = jnp.mean(jnp.square(first - second), 1)
    return near * distance + _of_batch(views, known, spread, apart)


def care(views: Views, rotations: Float[Array, "graph 3 3"], known: Bool[Array, "graph"]) -> Errors:
    """Contrastive, and angles between structures that stay when all are turned alike.

    Rotations that are drawn from a short list (`rotation` with `choices`) are shared by enough
    structures of a batch.
    """
    apart = jnp.max(jnp.abs(rotations[:, None] - rotations[None]), (2, 3))
    pairs = (apart < SAME) & known[:, None] & known[None] & ~jnp.eye(len(known), dtype=bool)
    first, second = (unit(view) for view in views)
    change = 2 * jnp.square(_gram(first, first) - _gram(second, second))
    number = jnp.maximum(jnp.sum(pairs, 1), 1).astype(change.dtype)
    kept = jnp.sum(jnp.where(pairs, change, 0), 1) / number
    return contrastive(views, known) + CARE * kept


def sie(
    views: Views, rotations: Float[Array, "graph 3 3"], known: Bool[Array, "graph"], irreps: str
) -> Errors:
    """Scalars that agree, and the rest that agrees once it is turned.

    Args:
        irreps: of one embedding.

    Raises:
        ValueError: the embedding has not these irreps, or none that turn, or no scalars.
    """
    first, second = views
    of = Irreps(irreps)
    still = [mul.ir.l == 0 for mul in of]
    if of.dim != first.shape[1] or all(still) or not any(still):
        raise ValueError(
            "sie compares scalars and what turns, by the irreps of one embedding; got "
            f"irreps={irreps!r} for {first.shape[1]} components; give loss the irreps of `views`"
        )
    turned = turn_irreps(first, rotations, irreps)
    scalar = jnp.concatenate([jnp.full(m.dim, s) for m, s in zip(of, still, strict=True)])
    square = jnp.square(turned - second)
    agree, turn, spread, apart = SIE
    mean = lambda which: jnp.sum(jnp.where(which[None], square, 0), 1) / jnp.sum(which)
    error = agree * mean(scalar) + turn * mean(~scalar)
    return error + _of_batch(views, known, spread, apart)


def _of_batch(views: Views, known: Bool[Array, "graph"], spread: float, apart: float) -> Array:
    """The terms of variances and covariances, of both views."""
    total = jnp.zeros((), views[0].dtype)
    number = jnp.maximum(jnp.sum(known), 2).astype(views[0].dtype)
    for view in views:
        rows = jnp.where(known[:, None], view, 0)
        mean = jnp.sum(rows, 0) / number
        rows = jnp.where(known[:, None], view - mean[None], 0)
        covariance = jnp.einsum("na,nb->ab", rows, rows, precision="highest") / (number - 1)
        variance = jnp.diagonal(covariance)
        hinge = jnp.mean(jax.nn.relu(1 - jnp.sqrt(variance + VARIANCE_EPSILON)))
        outside = jnp.sum(jnp.square(covariance)) - jnp.sum(jnp.square(variance))
        total += spread / 2 * hinge + apart * outside / len(variance)
    return total


def _gram(a: Float[Array, "row d"], b: Float[Array, "column d"]) -> Float[Array, "row column"]:
    return jnp.einsum("id,jd->ij", a, b, precision="highest")
