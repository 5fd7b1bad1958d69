"""Layers on plain channels: one matrix, and several with nonlinearities between them.

Weights are stored with unit variance and divided by sqrt(fan-in) when they are used, so that one
learning rate suits layers of every width ("element" normalisation of e3nn).
"""

from collections.abc import Sequence
from math import sqrt

import flax.linen as nn
from jaxtyping import Array, Float

from geojax.nn.activation import activate

__all__ = ["MLP", "Dense"]


class Dense(nn.Module):
    """x W / sqrt(fan-in) + b, with W ~ N(0, 1) and b = 0 at the start."""

    width: int
    bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*n channel"]) -> Float[Array, "*n width"]:
        """Of the last axis; in the dtype of x."""
        fan_in = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(1.0), (fan_in, self.width))
        out = x @ (kernel.astype(x.dtype) / sqrt(fan_in))
        if self.bias:
            shift = self.param("bias", nn.initializers.zeros, (self.width,)).astype(x.dtype)
            out = out + shift.reshape(*[1] * (x.ndim - 1), -1)
        return out


class MLP(nn.Module):
    """Dense layers with normalised nonlinearities between them; the last one is linear.

    Without bias and with f(0) = 0 (all of `ACTIVATIONS`) zero goes to zero: a radial network whose
    input vanishes at the cutoff then vanishes there too, with as many derivatives.
    """

    widths: Sequence[int]
    bias: bool = False
    activation: str = "silu"

    @nn.compact
    def __call__(self, x: Float[Array, "*n channel"]) -> Float[Array, "*n width"]:
        """Of the last axis."""
        for i, width in enumerate(self.widths):
            if i:
                x = activate(x, self.activation)
            x = Dense(width, self.bias, name=f"dense_{i}")(x)
        return x
