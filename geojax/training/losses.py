"""What is minimised: a sum of terms, each an error of one property with its weight.

Every error is a pair of a sum and a count, so that partial labels, padding and several devices
average right: the mean is formed once, over everything that is known in the whole batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import Batch, Properties, graph_of_nodes, leaf
from geojax.registry import Registry, did_you_mean

__all__ = ["LOSSES", "Term", "term_sums", "terms_from_table", "weighted_loss"]

Schedule = float | int | tuple[tuple[float | int, float | int], ...]
LOSSES: Registry[Callable[..., Array]] = Registry("loss")


@dataclass(frozen=True)
class Term:
    """One term of the loss.

    Attributes:
        property: as in `graphs.leaves`: "energy", "forces", "targets.mu", …
        weight: a number, or (epoch, weight) pairs, linear in between and constant outside.
        kind: a name in `LOSSES`.
        per_atom: the error of a structure is divided by its number of atoms (an energy, usually).
        delta: where "huber" turns from square to linear, in the property's unit.
    """

    property: str
    weight: Schedule = 1.0
    kind: str = "mse"
    per_atom: bool = False
    delta: float = 0.01

    def __post_init__(self):
        LOSSES[self.kind]
        leaf(Properties(), self.property)


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


def _components(x: Float[Array, "row *d"]) -> Float[Array, "row"]:
    return x.reshape(len(x), -1).mean(-1)


def terms_from_table(table: Mapping[str, Any]) -> tuple[Term, ...]:
    """Terms from a TOML table: property -> weight, or property -> {weight, kind, …}.

    `energy` is per atom unless the table says otherwise.

    Raises:
        KeyError: an unknown property, kind or key.
        ValueError: no term.
    """
    if not table:
        raise ValueError("a loss has at least one term; got none; add loss.energy = 1.0, say")
    terms = []
    for name, value in table.items():
        options = dict(value) if isinstance(value, Mapping) else {"weight": value}
        known = [f.name for f in fields(Term) if f.name != "property"]
        for key in options:
            if key not in known:
                raise KeyError(f"loss.{name} has no {key!r}; {did_you_mean(key, known)}")
        if isinstance(options.get("weight"), list):
            options["weight"] = tuple(tuple(pair) for pair in options["weight"])
        options.setdefault("per_atom", name == "energy")
        terms.append(Term(name, **options))
    return tuple(terms)


def weight_at(weight: Schedule, epoch: Float[Array, ""]) -> Float[Array, ""]:
    """The weight at a (fractional) epoch."""
    if isinstance(weight, tuple):
        epochs, weights = (jnp.asarray(column, epoch.dtype) for column in zip(*weight, strict=True))
        return jnp.interp(epoch, epochs, weights)
    return jnp.asarray(weight, epoch.dtype)


def term_sums(
    predicted: Properties, batch: Batch, terms: Sequence[Term]
) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
    """For each term the sum of its errors over what is known, and how many are known."""
    sums = {}
    for term in terms:
        value, label = leaf(predicted, term.property), leaf(batch.labels, term.property)
        mask = leaf(batch.masks, term.property)
        if term.per_atom:
            atoms = _atoms(batch, mask.shape[0]).astype(value.dtype)
            atoms = atoms.reshape(-1, *[1] * (value.ndim - 1))
            value, label = value / atoms, label / atoms
        error = LOSSES[term.kind](value, label, term)
        sums[term.property] = jnp.where(mask, error, 0).sum(), mask.sum().astype(error.dtype)
    return sums


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
        value, count = sums[term.property]
        count = jax.lax.stop_gradient(counts[term.property] if counts else count)
        total += weight_at(term.weight, epoch) * value / jnp.maximum(count, 1)
    return total
