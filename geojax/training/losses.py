"""What is minimised: a sum of terms, each an error of one property with its weight.

Every error is a pair of a sum and a count, so that partial labels, padding and several devices
average right: the mean is formed once, over everything that is known in the whole batch.

The rows of Hessians are masked entry by entry, and each 3 x 3 block counts as a row. Some losses
look at the standard deviation of an ensemble too (`of_deviations`). Some look at whole structures
(`of_structures`): "eigenpairs" at Hessians, those of `training.descriptors` at all pairs of points,
those of `training.assignment` at two clouds, those of `training.views` at two views of each.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from geojax import so3
from geojax.arrays import safe_norm
from geojax.deviations import std_name
from geojax.graphs import Batch, Properties, graph_hessians, graph_of_nodes, leaf
from geojax.metrics import as_predicted, entries
from geojax.training import assignment, descriptors, views
from geojax.training.terms import LOSSES, Term, sum_name, weight_at

__all__ = ["LOSSES", "term_sums", "weighted_loss"]

T = TypeVar("T", bound=Callable)
FAR = 1e3  # [eV/Å²], above the low eigenvalues of any Hessian; float32 keeps four digits beside it


@LOSSES.register("mse")
def mse(prediction: Array, label: Array, term: Term) -> Float[Array, "row"]:
    """The mean square over the components of each row."""
    del term
    return _components(jnp.square(prediction - label))


@LOSSES.register("mae")
def mae(prediction: Array, label: Array, term: Term) -> Float[Array, "row"]:
    """The mean absolute value over the components of each row."""
    del term
    return _components(jnp.abs(prediction - label))


@LOSSES.register("huber")
def huber(prediction: Array, label: Array, term: Term) -> Float[Array, "row"]:
    """Square below `delta`, linear above, the mean over the components of each row."""
    return _components(optax.losses.huber_loss(prediction, label, delta=term.delta))


@LOSSES.register("norm")
def norm(prediction: Array, label: Array, term: Term) -> Float[Array, "row"]:
    """The length of the error vector of each row: rotation-invariant, unlike the absolute value."""
    del term
    return safe_norm((prediction - label).reshape(len(label), -1))


@LOSSES.register("cross-entropy")
def cross_entropy(prediction: Array, label: Array, term: Term) -> Float[Array, "row"]:
    """-log softmax(prediction)[label]; the prediction is one logit per class."""
    del term
    return optax.losses.softmax_cross_entropy_with_integer_labels(prediction, label)


@LOSSES.register("geodesic")
def geodesic(
    prediction: Float[Array, "row 3 3"], label: Float[Array, "row 3 3"], term: Term
) -> Float[Array, "row"]:
    """The angle between two rotations [rad]; its derivative is of length one, and zero at zero."""
    del term
    return so3.geodesic_angle(prediction, label)


def of_deviations(loss: T) -> T:
    """Mark a loss `(prediction, label, deviation, term) -> error`, one for each row."""
    loss.of_deviations = True
    return loss


@LOSSES.register("nll")
@of_deviations
def nll(prediction: Array, label: Array, std: Array, term: Term) -> Float[Array, "row"]:
    """-log of the normal density of the label, per component: log σ + ((y - μ) / σ)² / 2.

    Without the constant log(2π) / 2, and with σ in units of the floor.

    References:
        Kellner, Ceriotti, Mach. Learn.: Sci. Technol. 5, 035006 (2024).
    """
    square = jnp.square(std) + term.floor**2
    return (
        _components(jnp.log(square / term.floor**2) + jnp.square(prediction - label) / square) / 2
    )


@LOSSES.register("crps")
@of_deviations
def crps(prediction: Array, label: Array, std: Array, term: Term) -> Float[Array, "row"]:
    """∫ (F(t) - [t ≥ y])² dt of the normal distribution F, per component, in the property's unit.

    σ (z (2Φ(z) - 1) + 2φ(z) - 1/√π) with z = (y - μ) / σ: as the absolute error far away from the
    label, and less ruled by outliers than the likelihood.

    References:
        Gneiting, Raftery, J. Am. Stat. Assoc. 102, 359 (2007).
    """
    sigma = jnp.sqrt(jnp.square(std) + term.floor**2)
    z = (label - prediction) / sigma
    density = jnp.exp(-jnp.square(z) / 2) / math.sqrt(2 * math.pi)
    inside = jax.lax.erf(z / math.sqrt(2))
    return _components(sigma * (z * inside + 2 * density - 1 / math.sqrt(math.pi)))


def of_structures(loss: T) -> T:
    """Mark a loss `(value, label, mask, batch, term) -> (errors, known)`, one for each graph."""
    loss.of_structures = True
    return loss


@LOSSES.register("eigenpairs")
@of_structures
def eigenpairs(
    value: Float[Array, "node place 3 3"],
    label: Float[Array, "node slot 3 3"],
    mask: Bool[Array, "node slot"],
    batch: Batch,
    term: Term,
) -> tuple[Float[Array, "graph"], Bool[Array, "graph"]]:
    """The mean of |V^T H V - L| over the lowest eigenpairs L, V of the labelled Hessian.

    V^T H V is the predicted Hessian in the space of those modes, so that both the curvature along
    each mode and the couplings between them count. Eight pairs are six that are zero or nearly (of
    translation and rotation) and the two lowest vibrations. Nothing is differentiated through the
    eigenvectors: they are the label's.

    References:
        Burger et al., "Shoot from the HIP: Hessian interatomic potentials without derivatives",
        2025, https://arxiv.org/abs/2509.21624.
    """
    prediction, wanted, known = _matrices(value, label, mask, batch)
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(wanted))
    values, vectors = values[:, : term.pairs], vectors[..., : term.pairs]
    inside = jnp.einsum("gam,gab,gbn->gmn", vectors, prediction, vectors)
    diagonal = jnp.eye(values.shape[1], dtype=values.dtype)[None] * values[:, None, :]
    real = (values < FAR / 2).astype(values.dtype)
    real = real[:, :, None] * real[:, None, :]
    error = jnp.abs(inside - diagonal) * real
    return error.sum((1, 2)) / jnp.maximum(real.sum((1, 2)), 1), known


@LOSSES.register("circle")
@of_structures
def circle(value: Array, label: Array, mask: Array, batch: Batch, term: Term) -> tuple:
    """The circle loss of descriptors (`descriptors.circle`); the label is where points belong."""
    return descriptors.circle(_pairs(value, label, mask, batch, term))


@LOSSES.register("info-nce")
@of_structures
def info_nce(value: Array, label: Array, mask: Array, batch: Batch, term: Term) -> tuple:
    """InfoNCE of descriptors (`descriptors.info_nce`); the label is where points belong."""
    return descriptors.info_nce(_pairs(value, label, mask, batch, term))


@LOSSES.register("directions")
@of_structures
def directions(value: Array, label: Array, mask: Array, batch: Batch, term: Term) -> tuple:
    """A hinge on vectors of points, turned as their part is (`descriptors.hinge`)."""
    turned = descriptors.in_common_frame(value, label, mask, batch)
    return descriptors.hinge(_pairs(turned, label, mask, batch, term))


@LOSSES.register("agreement")
@of_structures
def agreement(value: Array, label: Array, mask: Array, batch: Batch, term: Term) -> tuple:
    """Cosines of descriptors, without negatives (`descriptors.agreement`); where points belong."""
    return descriptors.agreement(value, label, mask, batch, radius=term.radius, far=_far(term))


@LOSSES.register("sinkhorn")
@of_structures
def sinkhorn(value: Array, label: Array, mask: Array, batch: Batch, term: Term) -> tuple:
    """-log likelihood of the assignment of points (`assignment.sinkhorn`); where points belong."""
    radius, far = term.radius, _far(term)
    return assignment.sinkhorn(
        value, label, mask, batch, radius=radius, far=far, dustbin=term.dustbin
    )


@LOSSES.register("ume")
@of_structures
def ume(value: Array, label: Array, mask: Array, batch: Batch, term: Term) -> tuple:
    """Moments of balls, contrasted (`assignment.ume`); the label is where points belong."""
    radius, far = term.radius, _far(term)
    ball = 6 * radius if term.ball is None else term.ball
    return assignment.ume(value, label, mask, batch, radius=radius, far=far, ball=ball)


@LOSSES.register("contrastive")
@of_structures
def contrastive(value: Array, label: Array, mask: Array, batch: Batch, term: Term) -> tuple:
    """NT-Xent of two views (`views.contrastive`)."""
    del label, batch, term
    return views.contrastive(views.two_views(value), mask), mask


@LOSSES.register("vicreg")
@of_structures
def vicreg(value: Array, label: Array, mask: Array, batch: Batch, term: Term) -> tuple:
    """Distance, variances and covariances of two views (`views.vicreg`)."""
    del label, batch, term
    return views.vicreg(views.two_views(value), mask), mask


@LOSSES.register("care")
@of_structures
def care(value: Array, label: Array, mask: Array, batch: Batch, term: Term) -> tuple:
    """Contrast and kept angles of two views (`views.care`); the label: the turn of the second."""
    del batch, term
    return views.care(views.two_views(value), label, mask), mask


@LOSSES.register("sie")
@of_structures
def sie(value: Array, label: Array, mask: Array, batch: Batch, term: Term) -> tuple:
    """A part that agrees, a part that turns (`views.sie`); the label: the turn of the second."""
    del batch
    return views.sie(views.two_views(value), label, mask, term.irreps), mask


def _pairs(value: Array, label: Array, mask: Array, batch: Batch, term: Term) -> Any:
    return descriptors.pairs_of(value, label, mask, batch, radius=term.radius, far=_far(term))


def _far(term: Term) -> float:
    return 2 * term.radius if term.far is None else term.far


def _components(x: Float[Array, "row *d"]) -> Float[Array, "row"]:
    return x.reshape(len(x), -1).mean(-1)


def term_sums(
    predicted: Properties, batch: Batch, terms: Sequence[Term]
) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
    """For each term the sum of its errors over what is known, and how many are known."""
    sums = {}
    for term in terms:
        value, label, mask = (
            leaf(p, term.property) for p in (predicted, batch.labels, batch.masks)
        )
        label = as_predicted(label, value)
        atoms = 1
        if term.per_atom:
            atoms = _atoms(batch, mask.shape[0]).astype(value.dtype)
            atoms = atoms.reshape(-1, *[1] * (value.ndim - 1))
            value, label = value / atoms, label / atoms
        loss = LOSSES[term.kind]
        if getattr(loss, "of_structures", False):
            error, mask = loss(value, label, mask, batch, term)
        elif getattr(loss, "of_deviations", False):
            std = leaf(predicted, std_name(term.property))
            _check_shapes(value, label, term)
            error = loss(value, label, std / atoms, term)
        else:
            if mask.ndim > 1:
                value, label, mask = entries(value, label, mask)
            _check_shapes(value, label, term)
            error = loss(value, label, term)
        sums[sum_name(term)] = jnp.where(mask, error, 0).sum(), mask.sum().astype(error.dtype)
    return sums


def _check_shapes(value: Array, label: Array, term: Term) -> None:
    """Refuse a label of other numbers than the prediction.

    Raises:
        ValueError: names both shapes.
    """
    wanted = value.shape[:-1] if term.kind == "cross-entropy" else value.shape
    if label.shape != wanted:
        raise ValueError(
            f"a label has the shape of what is predicted; {term.property} of each row has shape "
            f"{list(label.shape[1:])}, and the loss {term.kind!r} of the model's output takes "
            f"{list(wanted[1:])}; give the output the irreps of its label, or another loss"
        )


def _matrices(
    value: Array, label: Array, mask: Array, batch: Batch
) -> tuple[Array, Array, Bool[Array, "graph"]]:
    """The Hessians of each graph, `FAR` on the diagonal where nothing is, and which are known."""
    slots = mask.shape[1]
    wanted, real = graph_hessians(label, batch.graph)
    found, _ = graph_hessians(value[:, :slots], batch.graph)
    away = jnp.repeat(jnp.where(real, 0, FAR).astype(label.dtype), 3, axis=1)
    padding = jnp.eye(3 * slots, dtype=label.dtype)[None] * away[:, None, :]
    known = jax.ops.segment_max(
        mask.any(1).astype(jnp.int32), graph_of_nodes(batch.graph), len(batch.graph.n_node)
    )
    return found + padding, wanted + padding, real.any(1) & (known > 0)


def _atoms(batch: Batch, rows: int) -> Array:
    n_node = jnp.maximum(batch.graph.n_node, 1)
    return n_node if rows == len(n_node) else n_node[graph_of_nodes(batch.graph)]


def weighted_loss(
    sums: Mapping[str, tuple[Array, Array]],
    terms: Sequence[Term],
    epoch: Float[Array, ""],
    counts: Mapping[str, Array] | None = None,
) -> Float[Array, ""]:
    """The sum over terms of weight times mean error.

    Args:
        counts: what to divide by, where it is not the own count (all devices' counts).
    """
    total = jnp.zeros((), epoch.dtype)
    for term in terms:
        value, count = sums[sum_name(term)]
        count = jax.lax.stop_gradient(counts[sum_name(term)] if counts else count)
        total += weight_at(term.weight, epoch) * value / jnp.maximum(count, 1)
    return total
