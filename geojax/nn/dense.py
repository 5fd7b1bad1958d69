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

__all__ = ["MLP", "Affine", "Dense", "Perceptron"]

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


class Affine(nn.Module):
    """x W + b, both drawn from U(±1/sqrt(fan-in)): how PyTorch's linear layers start."""

    width: int
    bias: bool = True
    gain: float | None = None  # Xavier uniform with this gain, in place of the default start

    @nn.compact
    def __call__(self, *parts: Part) -> Float[Array, "*n width"]:
        """Of the parts side by side, without concatenating them.

        A part is an array, or an array and a linear map of rows (a gather) that follows the matrix:
        on nodes, before the gather, the product costs less.
        """
        pairs = [part if isinstance(part, tuple) else (part, _same) for part in parts]
        fan_in = sum(x.shape[-1] for x, _ in pairs)
        bound = 1 / sqrt(fan_in)
        start = bound if self.gain is None else self.gain * sqrt(6 / (fan_in + self.width))
        kernel = self.param("kernel", _uniform(start), (fan_in, self.width))
        terms, row = [], 0
        for x, move in pairs:
            terms.append(move(x @ kernel[row : row + x.shape[-1]].astype(x.dtype)))
            row += x.shape[-1]
        if self.bias:
            shift = self.param("bias", _uniform(bound), (self.width,)).astype(terms[0].dtype)
            terms.append(shift.reshape(*[1] * (terms[0].ndim - 1), -1))
        return sum(terms[1:], terms[0])


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


def _uniform(bound: float) -> Callable[..., Array]:
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def _same(x: Array) -> Array:
    return x
