"""Nonlinearities that change the norms of features and keep their directions.

    f <- f / |f| s(|f|),    |f| = sqrt(sum_m f_m² + 0.01)

with s a learned function of the norms of all channels of one irrep. Scalars are treated alike:
their norm is their size, their direction the sign. The published form has no constant under the
root; it jumps where f passes zero. With it everything is smooth, and f = 0 stays zero.

References:
    Fuchs, Worrall, Fischer, Welling, "SE(3)-Transformers", NeurIPS 2020,
    https://arxiv.org/abs/2006.10503; and their code (GNormSE3, GNormBias).
"""

from math import sqrt

import flax.linen as nn
import jax
import jax.numpy as jnp
from e3nn_jax import Irrep
from jaxtyping import Array, Float

from geojax.nn.activation import ACTIVATIONS
from geojax.nn.linear import Blocks
from geojax.nn.norm import LayerNorm

__all__ = ["BiasedNorm", "NormNonlinearity"]

SMALLEST = 0.1  # norm


class NormNonlinearity(nn.Module):
    """s = activation(layer norm of the norms), and a linear layer of the channels if `linear`."""

    activation: str = "relu"  # in ACTIVATIONS
    linear: bool = False

    @nn.compact
    def __call__(self, x: Blocks) -> dict[Irrep, Float[Array, "... _ _"]]:
        """Irrep by irrep."""
        out = {}
        for i, block in x.items():
            norm = _norm(block)
            size = ACTIVATIONS[self.activation].call(LayerNorm(name=f"norm_{i}")(norm))
            if self.linear:
                size = self._mixed(i, size)
            out[i] = block * (size / norm)
        return out

    def _mixed(self, i: Irrep, size: Array) -> Array:
        width = size.shape[-1]
        kernel = self.param(f"kernel_{i}", nn.initializers.he_uniform(), (width, width))
        start = lambda key, shape: jax.random.uniform(key, shape, minval=-1, maxval=1) / sqrt(width)
        bias = self.param(f"bias_{i}", start, (width,)).astype(size.dtype)
        return size @ kernel.astype(size.dtype) + bias.reshape(*[1] * (size.ndim - 1), -1)


class BiasedNorm(nn.Module):
    """s = activation(norm + bias), with a bias for each channel drawn from N(0, 1)."""

    activation: str = "relu"  # in ACTIVATIONS

    @nn.compact
    def __call__(self, x: Blocks) -> dict[Irrep, Float[Array, "... _ _"]]:
        """Irrep by irrep."""
        out = {}
        for i, block in x.items():
            norm = _norm(block)
            bias = self.param(f"bias_{i}", nn.initializers.normal(1.0), block.shape[-1:])
            bias = bias.astype(block.dtype).reshape(*[1] * (block.ndim - 1), -1)
            out[i] = block * (ACTIVATIONS[self.activation].call(norm + bias) / norm)
        return out


def _norm(block: Float[Array, "... _ _"]) -> Float[Array, "... 1 _"]:
    return jnp.sqrt(jnp.sum(block * block, -2, keepdims=True) + SMALLEST**2)
