"""What a node computes alone between rounds of messages: nonlinear maps of spherical features.

Either scalars gate the other degrees, which is exactly equivariant, or the features are taken as
signals on the sphere, and a network acts on their values at each point of a grid. What it makes has
all degrees; those that the grid does not resolve are aliased, so that it is equivariant only up to
an error that falls fast with the degree of the quadrature.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax import so3
from geojax.nn.activation import activate
from geojax.nn.dense import MLP, Dense
from geojax.nn.linear import Linear
from geojax.nn.so2_activation import gate_rows
from geojax.registry import Registry

__all__ = [
    "FEED_FORWARDS",
    "FeedForward",
    "GateFeedForward",
    "GridFeedForward",
    "SphereMLP",
    "on_sphere",
]


class FeedForward(NamedTuple):
    """A kind of feed-forward network.

    Attributes:
        make: (hidden channels, channels of the result, degree of the quadrature, name) -> module.
        exact: whether it commutes with rotations exactly.
    """

    make: Callable[[int, int, int | None, str], nn.Module]
    exact: bool


FEED_FORWARDS: Registry[FeedForward] = Registry("feed-forward network")


def on_sphere(
    x: Float[Array, "*n m channel"],
    function: Callable[[Array], Array],
    degree: int | None = None,
) -> Float[Array, "*n m width"]:
    """A function of the values of the signals at each point, projected back on the degrees of x.

    Args:
        x: features of natural parity, taken as the mean-square-one signal of their channel.
        function: of `[..., point, channel]`, over channels, the same at each point.
        degree: of the quadrature; 4 lmax + 2 if None.
    """
    lmax = so3.degree(x)
    grid = so3.sphere(4 * lmax + 2 if degree is None else degree)
    table = so3.harmonics_table(grid.points, lmax) / (lmax + 1)
    values = function(jnp.einsum("pm,...mc->...pc", jnp.asarray(table, x.dtype), x))
    back = jnp.asarray(table.T * grid.weights * (lmax + 1) ** 2, x.dtype)
    return jnp.einsum("mp,...pc->...mc", back, values)


class SphereMLP(nn.Module):
    """Dense layers on the values of the signals, with SiLU between them."""

    widths: tuple[int, ...]
    bias: bool = False
    degree: int | None = None  # of the quadrature; 4 lmax + 2 if None

    @nn.compact
    def __call__(self, x: Float[Array, "*n m channel"]) -> Float[Array, "*n m width"]:
        """Of spherical features of natural parity."""
        return on_sphere(x, MLP(self.widths, self.bias, name="mlp"), self.degree)


class GateFeedForward(nn.Module):
    """Linear, gate, linear: scalars pass SiLU, degrees l > 0 are scaled by sigmoids of scalars."""

    hidden: int
    channels: int  # of the result
    gate: str = "identity"  # of the gates before their sigmoid; in ACTIVATIONS

    @nn.compact
    def __call__(self, x: Float[Array, "*n m channel"]) -> Float[Array, "*n m channels"]:
        """Of spherical features; exactly equivariant."""
        lmax = so3.degree(x)
        gates = Dense(lmax * self.hidden, bias=True, name="gates")(x[..., 0, :])
        hidden = Linear(self.hidden, bias=True, name="linear_0")(x)
        hidden = gate_rows(hidden, activate(gates, self.gate), lmax)
        return Linear(self.channels, bias=True, name="linear_1")(hidden)


class GridFeedForward(nn.Module):
    """Linear, three dense layers on the values on the sphere, linear; scalars have their own layer.

    References:
        Liao, Wood, Das, Smidt, "EquiformerV2", 2023, https://arxiv.org/abs/2306.12059.
    """

    hidden: int
    channels: int  # of the result
    degree: int | None = None  # of the quadrature; 4 lmax + 2 if None

    @nn.compact
    def __call__(self, x: Float[Array, "*n m channel"]) -> Float[Array, "*n m channels"]:
        """Of spherical features; equivariant up to the aliasing of the grid."""
        scalars = activate(Dense(self.hidden, bias=True, name="scalars")(x[..., :1, :]))
        hidden = Linear(self.hidden, bias=True, name="linear_0")(x)
        hidden = SphereMLP((self.hidden,) * 3, degree=self.degree, name="grid")(hidden)
        hidden = jnp.concatenate([scalars, hidden[..., 1:, :]], -2)
        return Linear(self.channels, bias=True, name="linear_1")(hidden)


FEED_FORWARDS.register("gate")(
    FeedForward(
        lambda hidden, channels, degree, name: GateFeedForward(hidden, channels, name=name),
        exact=True,
    )
)
FEED_FORWARDS.register("spectral")(
    FeedForward(
        lambda hidden, channels, degree, name: GateFeedForward(hidden, channels, "silu", name=name),
        exact=True,
    )
)
FEED_FORWARDS.register("grid")(
    FeedForward(
        lambda hidden, channels, degree, name: GridFeedForward(hidden, channels, degree, name=name),
        exact=False,
    )
)
FEED_FORWARDS.register("sphere")(
    FeedForward(
        lambda hidden, channels, degree, name: SphereMLP(
            (hidden, hidden, channels), False, degree, name=name
        ),
        exact=False,
    )
)
