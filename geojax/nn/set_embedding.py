"""Sums over a set that tell all sets of up to N vectors of R^D apart, of polynomial width: LP, LE.

    powers        sum_i (w_k · x_i)^p            p = 1 ... N, for each direction w_k
    exponentials  sum_i exp((u e_c + v a_j) · x_i / N)    1 <= u + v <= N

and the number of members. Directions are the axes e_c; anchors a_j, of which any D are independent
and so many that for every set one of them takes different members to different numbers; and
couplings of both, e_c cos θ_k - a_j sin θ_k, that tell which coordinate goes with which number of
the anchor. For pairs of numbers (s, t) that is enough: the sums of s^u t^v with u + v <= N fix a
multiset of N pairs (Weyl).

    anchors    K1 = N (N - 1) (D - 1) / 2 + 1      of N (N - 1) / 2 pairs each spoils at most D - 1
    couplings  K2 = N (N - 1) + 1 of each axis and anchor, as published; N - 1 are enough, since a
               sum of powers p <= N is a polynomial of degree p in tan θ

So there are at most N^5 D² numbers. What is injective need not be well conditioned: members within
[-1, 1] and float64 are for small sets (N <= 6 or so); in float32 high powers are lost.

A function of a set is any function of these numbers, and an equivariant one is a function of them
and of the member itself.

References:
    Wang, Yang, Li, Wang, Li, "Polynomial width is sufficient for set representation with
    high-dimensional features", ICLR 2024, https://arxiv.org/abs/2307.04001.
    Weyl, "The classical groups", 1939 (polarised sums of powers).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

__all__ = ["embed_exponentials", "embed_powers", "exponential_weights", "power_weights"]


def _anchors(size: int, dimension: int) -> Float[np.ndarray, "anchor d"]:
    """Rows 1, t, t² ... at distinct t, of which any D are independent; of 1-norm one."""
    count = size * (size - 1) * (dimension - 1) // 2 + 1
    t = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    return _unit_sums(np.vander(t, dimension, increasing=True))


def _unit_sums(rows: np.ndarray) -> np.ndarray:
    return rows / np.abs(rows).sum(-1, keepdims=True)


def _check(size: int, dimension: int) -> None:
    if size < 1 or dimension < 1:
        raise ValueError(
            f"sets have one member or more, of one number or more; got {size} and {dimension}"
        )


def power_weights(
    size: int, dimension: int, *, couplings: int | None = None
) -> Float[np.ndarray, "direction d"]:
    """The directions of `embed_powers`, float64, |w · x| <= max |x|.

    Args:
        size: N, of the largest set.
        dimension: D, of its members.
        couplings: K2; as published by default, N - 1 at least. In one dimension there are none.

    Raises:
        ValueError: a size or dimension below one, or too few couplings.
    """
    _check(size, dimension)
    count = size * (size - 1) + 1 if couplings is None else couplings
    if count < size - 1:
        raise ValueError(f"sets of {size} need {size - 1} couplings or more; got {count}")
    axes = np.eye(dimension)
    if dimension == 1:
        return axes
    anchors = _anchors(size, dimension)
    # Thirds of a step away from the axis and from the anchor, which are there already
    angles = np.pi * (np.arange(count) + 1 / 3) / max(count, 1)
    along, across = np.cos(angles)[:, None], np.sin(angles)[:, None]
    mixed = [along * axis - across * anchor for axis in axes for anchor in anchors]
    return _unit_sums(np.concatenate([axes, anchors, *mixed]))


def exponential_weights(size: int, dimension: int) -> Float[np.ndarray, "direction d"]:
    """The exponents of `embed_exponentials`, float64, |w · x| <= max |x|.

    Args:
        size: N, of the largest set.
        dimension: D, of its members.

    Raises:
        ValueError: a size or dimension below one.
    """
    _check(size, dimension)
    axes, steps = np.eye(dimension), np.arange(1, size + 1)
    rows = [u * axis for axis in axes for u in steps]
    if dimension > 1:
        anchors = _anchors(size, dimension)
        rows += [v * anchor for anchor in anchors for v in steps]
        pairs = [(u, v) for u in steps for v in steps if u + v <= size]
        rows += [u * e + v * a for e in axes for a in anchors for u, v in pairs]
    return np.stack(rows) / size


def embed_powers(
    x: Float[Array, "*n member d"],
    mask: Bool[Array, "*n member"],
    weights: Float[np.ndarray, "direction _"],
    size: int,
) -> Float[Array, "*n _"]:
    """The number of members, then sum_i (w_k · x_i)^p for each direction and p = 1 ... size.

    Args:
        x: members within [-1, 1].
        mask: which members there are, `size` at most.
        weights: of `power_weights(size, d)`.

    Raises:
        ValueError: members of another dimension than the weights.
    """
    along = _along(x, weights)
    powers, each = [], jnp.ones_like(along)
    for _ in range(size):
        each = each * along
        powers.append(each)
    return _summed(jnp.stack(powers, -1).reshape(*along.shape[:-1], -1), mask)


def embed_exponentials(
    x: Float[Array, "*n member d"],
    mask: Bool[Array, "*n member"],
    weights: Float[np.ndarray, "direction _"],
) -> Float[Array, "*n _"]:
    """The number of members, then sum_i exp(w_k · x_i) for each row of weights.

    Args:
        x: members within [-1, 1].
        mask: which members there are, as many as the weights are made for at most.
        weights: of `exponential_weights`.

    Raises:
        ValueError: members of another dimension than the weights.
    """
    return _summed(jnp.exp(_along(x, weights)), mask)


def _along(x: Array, weights: np.ndarray) -> Array:
    if x.shape[-1] != weights.shape[-1]:
        raise ValueError(
            f"members and weights have one dimension; got {x.shape[-1]} and {weights.shape[-1]}"
        )
    return jnp.einsum("...d,kd->...k", x, jnp.asarray(weights, x.dtype), precision="highest")


def _summed(terms: Array, mask: Array) -> Array:
    total = jnp.sum(jnp.where(mask[..., None], terms, 0), -2)
    count = jnp.sum(mask, -1, keepdims=True).astype(terms.dtype)
    return jnp.concatenate([count, total], -1)
