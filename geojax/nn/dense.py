"""Layers on plain channels: one matrix, and several with nonlinearities between them.

The weights of `Dense` are stored with unit variance and divided by sqrt(fan-in) when they are used,
so that one learning rate suits layers of every width ("element" normalisation of e3nn). Those of
`Affine` are used as they are stored: the layer that most published networks are made of.
"""

from collections.abc import Callable, Sequence
from math import sqrt

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.nn.activation import activate

__all__ = ["MLP", "Affine", "Dense", "Perceptron", "sum_of_parts", "total_width", "uniform"]

Part = Array | tuple[Array, Callable[[Array], Array]]


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


def total_width(parts: Sequence[Part]) -> int:
    """The channels of parts that lie side by side."""
    return sum((part[0] if isinstance(part, tuple) else part).shape[-1] for part in parts)


def sum_of_parts(parts: Sequence[Part], times: Callable[[Array, slice], Array]) -> Array:
    """A matrix times parts that lie side by side, without concatenating them.

    Args:
        parts: each an array, or an array and a linear map of its rows (a gather) that follows the
            matrix: on nodes, before the gather, the product costs less.
        times: the product of a part with its rows of the matrix.
    """
    terms, row = [], 0
    for part in parts:
        x, move = part if isinstance(part, tuple) else (part, None)
        term = times(x, slice(row, row + x.shape[-1]))
        terms.append(term if move is None else move(term))
        row += x.shape[-1]
    return sum(terms[1:], terms[0])


def uniform(bound: float) -> nn.initializers.Initializer:
    """Draws from U(±bound)."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


class Affine(nn.Module):
    """x W + b, both drawn from U(±1/sqrt(fan-in)): how PyTorch's linear layers start."""

    width: int
    bias: bool = True
    gain: float | None = None  # Xavier uniform with this gain, in place of the default start

    @nn.compact
    def __call__(self, *parts: Part) -> Float[Array, "*n width"]:
        """Of the parts side by side; see `sum_of_parts`."""
        fan_in = total_width(parts)
        bound = 1 / sqrt(fan_in)
        start = bound if self.gain is None else self.gain * sqrt(6 / (fan_in + self.width))
        kernel = self.param("kernel", uniform(start), (fan_in, self.width))
        out = sum_of_parts(parts, lambda x, rows: x @ kernel[rows].astype(x.dtype))
        if self.bias:
            shift = self.param("bias", uniform(bound), (self.width,)).astype(out.dtype)
            out = out + shift.reshape(*[1] * (out.ndim - 1), -1)
        return out


# Its derivative comes from its argument alone. Otherwise the sigmoid is kept as well, which is two
# numbers per edge and channel: energies and forces of TensorNet on 270 atoms take a fifth longer.
silu = jax.checkpoint(nn.silu)


class Perceptron(nn.Module):
    """Affine layers with SiLU between them: the small network inside many published ones."""

    widths: Sequence[int]
    end: bool = False  # SiLU after the last one too

    @nn.compact
    def __call__(self, x: Float[Array, "*n channel"]) -> Float[Array, "*n width"]:
        """Of the last axis."""
        for i, width in enumerate(self.widths):
            x = Affine(width, name=f"affine_{i}")(x)
            x = silu(x) if self.end or i < len(self.widths) - 1 else x
        return x
