"""Nonlinearities scaled to keep the second moment: E[f(x)²] = 1 for x ~ N(0, 1).

With weights of variance 1/fan-in, every layer then sees inputs of order one at the start.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.registry import Registry

__all__ = ["ACTIVATIONS", "Activation", "activate", "parity_of", "second_moment"]


class Activation(NamedTuple):
    """A nonlinearity, on the device and in numpy (float64, for its constant)."""

    call: Callable[[Array], Array]
    numpy: Callable[[Any], Any]


erf = np.vectorize(math.erf, otypes=[float])

ACTIVATIONS: Registry[Activation] = Registry("activation")
ACTIVATIONS.register("silu")(Activation(jax.nn.silu, lambda x: x / (1 + np.exp(-x))))
ACTIVATIONS.register("tanh")(Activation(jnp.tanh, np.tanh))
ACTIVATIONS.register("identity")(Activation(lambda x: x, lambda x: x))
ACTIVATIONS.register("relu")(Activation(jax.nn.relu, lambda x: np.maximum(x, 0)))
ACTIVATIONS.register("gelu")(
    Activation(partial(jax.nn.gelu, approximate=False), lambda x: x * (1 + erf(x / 2**0.5)) / 2)
)
ACTIVATIONS.register("sigmoid")(Activation(jax.nn.sigmoid, lambda x: 1 / (1 + np.exp(-x))))
ACTIVATIONS.register("abs")(Activation(jnp.abs, np.abs))


@cache
def second_moment(name: str) -> float:
    """E[f(x)²] for x ~ N(0, 1), by Gauss-Hermite quadrature (right to 1e-12 for SiLU, tanh)."""
    x, weight = np.polynomial.hermite_e.hermegauss(240)
    return float(weight @ ACTIVATIONS[name].numpy(x) ** 2 / weight.sum())


@cache
def parity_of(name: str) -> int:
    """1 if f(-x) = f(x), -1 if f(-x) = -f(x), 0 if neither; by its values."""
    x = np.linspace(0.1, 5, 50)
    f = ACTIVATIONS[name].numpy
    for parity in (1, -1):
        if np.allclose(f(-x), parity * f(x), rtol=1e-12, atol=1e-12):
            return parity
    return 0


def activate(x: Float[Array, "..."], name: str = "silu") -> Float[Array, "..."]:
    """f(x) / sqrt(E[f²]).

    Raises:
        KeyError: no activation of this name.
    """
    return ACTIVATIONS[name].call(x) * second_moment(name) ** -0.5
