"""Nonlinearities of rows in the frames of edges (the layout of `nn.so2`).

The gate multiplies all rows of a degree by one scalar and is exact. The activation on the sphere
mixes degrees and orders. A turn about the edge commutes with the values on the sphere and with the
cut at m_max alike, so its only error is aliasing: orders that the steps around the edge do not
resolve. It falls fast with the degree of the quadrature and grows with the size of the features.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.nn.activation import activate
from geojax.nn.nonlinearity import sphere_activation
from geojax.registry import Registry

__all__ = ["ROW_ACTIVATIONS", "RowActivation", "gate_rows", "sphere_rows"]


class RowActivation(NamedTuple):
    """A nonlinearity of rows in frames, and how many scalars it reads.

    Attributes:
        count: (lmax, channels) -> number of scalars.
        call: (rows, scalars, lmax, m_max, degree of the quadrature) -> rows.
        exact: whether it commutes with rotations exactly.
    """

    count: Callable[[int, int], int]
    call: Callable[..., Array]
    exact: bool


ROW_ACTIVATIONS: Registry[RowActivation] = Registry("activation of rows in edge frames")


def gate_rows(
    x: Float[Array, "*n row channel"],
    gates: Float[Array, "*n gate"],
    lmax: int,
    m_max: int | None = None,
    degree: int | None = None,
) -> Float[Array, "*n row channel"]:
    """SiLU of degree 0; degree l > 0 times the sigmoid of its own gate in each channel.

    Args:
        x: rows up to order m_max.
        gates: for each degree 1 ... lmax and channel, channels of a degree side by side.
        lmax: of x.
        m_max: largest order; None: no limit.
        degree: not used.
    """
    del degree
    gates = activate(gates.reshape(*gates.shape[:-1], lmax, x.shape[-1]), "sigmoid")
    spread = []
    for l in range(1, lmax + 1):
        shape = (*x.shape[:-2], 2 * _top(l, m_max) + 1, x.shape[-1])
        spread.append(jnp.broadcast_to(gates[..., l - 1 : l, :], shape))
    factors = jnp.concatenate(spread, -2) if spread else gates
    return jnp.concatenate([activate(x[..., :1, :]), x[..., 1:, :] * factors], -2)


def sphere_rows(
    x: Float[Array, "*n row channel"],
    scalars: Float[Array, "*n channel"] | None,
    lmax: int,
    m_max: int | None = None,
    degree: int | None = None,
) -> Float[Array, "*n row channel"]:
    """SiLU of the values of the signals on the sphere; degree 0 is SiLU of `scalars` if given.

    Args:
        x: rows up to order m_max; higher orders are zero before, and are cut after.
        scalars: in the place of degree 0 (separable activation).
        lmax: of x.
        m_max: largest order; None: no limit.
        degree: of the quadrature; 4 lmax + 2 if None.

    References:
        Liao, Wood, Das, Smidt, "EquiformerV2", 2023, https://arxiv.org/abs/2306.12059.
    """
    parts, kept, start = [], [], 0
    for l in range(lmax + 1):
        k = _top(l, m_max)
        zeros = jnp.zeros((*x.shape[:-2], l - k, x.shape[-1]), x.dtype)
        parts += [zeros, x[..., start : start + 2 * k + 1, :], zeros]
        kept.append(slice(l * l + l - k, l * l + l + k + 1))
        start += 2 * k + 1
    full = sphere_activation(jnp.concatenate(parts, -2), scalars=scalars, degree=degree)
    return jnp.concatenate([full[..., rows, :] for rows in kept], -2)


def _top(l: int, m_max: int | None) -> int:
    """The largest order of degree l."""
    return l if m_max is None else min(l, m_max)


ROW_ACTIVATIONS.register("gate")(
    RowActivation(lambda lmax, channels: lmax * channels, gate_rows, exact=True)
)
ROW_ACTIVATIONS.register("sphere")(
    RowActivation(lambda lmax, channels: channels, sphere_rows, exact=False)
)
