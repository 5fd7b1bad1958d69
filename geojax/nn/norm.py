"""Normalisations over the channels of a node: of scalars, and two of spherical features.

All divide by sqrt(mean square + 1e-5). Rotations do not change a mean square over the rows of one
degree; a mean may be subtracted, and a shift added, on degree 0 only.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax import so3

__all__ = ["LayerNorm", "RMSNorm", "SeparableNorm"]

EPSILON = 1e-5


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + 1e-5) * gain + shift, over the last axis."""

    @nn.compact
    def __call__(self, x: Float[Array, "*n channel"]) -> Float[Array, "*n channel"]:
        """Of scalars; in their dtype."""
        x = x - jnp.mean(x, -1, keepdims=True)
        x = x * _inverse_root(jnp.mean(x * x, -1, keepdims=True))
        gain = self.param("gain", nn.initializers.ones, x.shape[-1:]).astype(x.dtype)
        shift = self.param("shift", nn.initializers.zeros, x.shape[-1:]).astype(x.dtype)
        shape = (*[1] * (x.ndim - 1), -1)
        return x * gain.reshape(shape) + shift.reshape(shape)


class SeparableNorm(nn.Module):
    """Layer norm of the scalars; all degrees l > 0 divided by one root mean square.

    With the mean over degrees of the mean square within each,

        x_lmc <- gain_lc x_lmc / sqrt(mean_l>0 mean_mc x_lmc² + 1e-5)

    References:
        Liao, Wood, Das, Smidt, "EquiformerV2", 2023, https://arxiv.org/abs/2306.12059 (separable
        layer normalisation).
    """

    @nn.compact
    def __call__(self, x: Float[Array, "*n m channel"]) -> Float[Array, "*n m channel"]:
        """Of spherical features."""
        lmax = so3.degree(x)
        groups = [range(1), range(1, lmax + 1)] if lmax else [range(1)]
        return _scaled_and_shifted(self, _normalised(x, groups))


class RMSNorm(nn.Module):
    """All degrees divided by one root mean square, after the mean of the scalars is subtracted.

        x_lmc <- gain_lc x_lmc / sqrt(mean_l mean_mc x_lmc² + 1e-5)

    and a shift is added to the scalars.

    References:
        Fu, Wood, Barroso-Luque, Levine, Gao, Dzamba, Zitnick, "Learning smooth and expressive
        interatomic potentials for physical property prediction", 2025,
        https://arxiv.org/abs/2502.12147 (eSEN).
    """

    @nn.compact
    def __call__(self, x: Float[Array, "*n m channel"]) -> Float[Array, "*n m channel"]:
        """Of spherical features."""
        return _scaled_and_shifted(self, _normalised(x, [range(so3.degree(x) + 1)]))


def _inverse_root(square: Array) -> Array:
    return jax.lax.rsqrt(square + EPSILON)


def _normalised(x: Array, groups: Sequence[range]) -> Array:
    """Scalars less their mean; then each group of degrees divided by its root mean square."""
    first = np.eye(x.shape[-2], 1)  # the row of degree 0
    mean = jnp.mean(x[..., :1, :], -1, keepdims=True)
    x = x - mean * _rows(first, x)
    squares = jnp.mean(x * x, -1, keepdims=True)
    scales = []
    for group in groups:
        rows = slice(group.start**2, group.stop**2)
        # Every degree counts alike, however many rows it has.
        weights = 1 / (2 * so3.degrees(group.stop - 1)[rows, None] + 1) / len(group)
        square = jnp.sum(squares[..., rows, :] * _rows(weights, x), -2, keepdims=True)
        shape = (*x.shape[:-2], rows.stop - rows.start, 1)
        scales.append(jnp.broadcast_to(_inverse_root(square), shape))
    return x * (jnp.concatenate(scales, -2) if len(scales) > 1 else scales[0])


def _rows(values: Float[np.ndarray, "m 1"], x: Array) -> Array:
    """One constant for each row, of the rank of x."""
    return jnp.asarray(values.reshape(*[1] * (x.ndim - 2), -1, 1), x.dtype)


def _scaled_and_shifted(module: nn.Module, x: Array) -> Array:
    """Times a parameter of each degree and channel; plus one of each channel on degree 0."""
    shape = (so3.degree(x) + 1, x.shape[-1])
    gain = module.param("gain", nn.initializers.ones, shape).astype(x.dtype)
    shift = module.param("shift", nn.initializers.zeros, shape[1:]).astype(x.dtype)
    gain = so3.expand_by_degree(gain)
    shift = jnp.pad(shift[None, :], ((0, x.shape[-2] - 1), (0, 0)))
    like_x = lambda a: a.reshape(*[1] * (x.ndim - 2), *a.shape)
    return x * like_x(gain) + like_x(shift)
