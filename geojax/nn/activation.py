"""Nonlinearities scaled to keep the second moment: E[f(x)²] = 1 for x ~ N(0, 1).

With weights of variance 1/fan-in, every layer then sees inputs of order one at the start.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.registry import Registry

__all__ = ["ACTIVATIONS", "Activation", "activate", "second_moment"]


class Activation(NamedTuple):
    """A nonlinearity, on the device and in numpy (float64, for its constant)."""

    call: Callable[[Array], Array]
    numpy: Callable[[Any], Any]


ACTIVATIONS: Registry[Activation] = Registry("activation")
ACTIVATIONS.register("silu")(Activation(jax.nn.silu, lambda x: x / (1 + np.exp(-x))))
ACTIVATIONS.register("tanh")(Activation(jnp.tanh, np.tanh))
ACTIVATIONS.register("identity")(Activation(lambda x: x, lambda x: x))


@cache
def second_moment(name: str) -> float:
    """E[f(x)²] for x ~ N(0, 1), by Gauss-Hermite quadrature (right to 1e-12 for SiLU, tanh)."""
    x, weight = np.polynomial.hermite_e.hermegauss(240)
    return float(weight @ ACTIVATIONS[name].numpy(x) ** 2 / weight.sum())


def activate(x: Float[Array, "..."], name: str = "silu") -> Float[Array, "..."]:
    """f(x) / sqrt(E[f²]).

    Raises:
        KeyError: no activation of this name.
    """
    return ACTIVATIONS[name].call(x) * second_moment(name) ** -0.5
