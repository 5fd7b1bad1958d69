"""Messages of networks that work in the frames of edges.

The features of both ends, side by side, are turned into the edge's frame, scaled by functions of
its invariants, and passed through SO(2) layers and a nonlinearity. At the receivers they are
turned back and summed.
"""

from math import sqrt

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax import so3
from geojax.graphs import Graph, from_receivers, from_senders, to_receivers
from geojax.nn.activation import activate
from geojax.nn.dense import Dense
from geojax.nn.so2 import SO2Linear, from_edge_frame, gain_count, to_edge_frame
from geojax.nn.so2_activation import ROW_ACTIVATIONS
from geojax.nn.spherical_inputs import EdgeInputs, RadialNetwork

__all__ = ["SO2Bottleneck", "SO2Convolution", "SO2Message", "both_ends", "sum_messages"]


def both_ends(
    x: Float[Array, "node m channel"], edges: EdgeInputs, graph: Graph, *, m_max: int | None = None
) -> Float[Array, "edge row channels"]:
    """The features of each edge's sender and receiver, side by side, as rows in its frame."""
    ends = jnp.concatenate([from_senders(x, graph), from_receivers(x, graph)], -1)
    return to_edge_frame(edges.frames, ends, m_max=m_max)


def sum_messages(
    rows: Float[Array, "edge row channel"],
    edges: EdgeInputs,
    graph: Graph,
    *,
    m_max: int | None = None,
) -> Float[Array, "node m channel"]:
    """The sum of the messages that arrive at each node, times the envelope, out of the frames."""
    rows = rows * edges.envelope[:, None, None]
    return to_receivers(from_edge_frame(edges.frames, rows, m_max=m_max), graph)


class SO2Convolution(nn.Module):
    """An SO(2) layer whose input is first scaled, degree by degree, order by order.

    The gains are a network of the edge's invariants.
    """

    channels: int  # of the result
    lmax: int  # of the input and of the result
    m_max: int | None = None
    scalars: int = 0  # invariants besides
    parity: so3.Parity = "all"  # as in `SO2Linear`
    radial: tuple[int, ...] = ()  # widths of the hidden layers

    @nn.compact
    def __call__(
        self, x: Float[Array, "edge row channel"], invariants: Float[Array, "edge d"]
    ) -> tuple[Float[Array, "edge row channels"], Float[Array, "edge scalars"]]:
        """Rows in the same frames, and the invariants."""
        count = gain_count(self.lmax, self.m_max)
        gains = RadialNetwork((*self.radial, count * x.shape[-1]), name="radial")(invariants)
        linear = SO2Linear(
            self.channels, self.lmax, self.m_max, self.scalars, self.parity, name="linear"
        )
        return linear(x, gains.reshape(-1, count, x.shape[-1]))


class SO2Message(nn.Module):
    """Rows of a message in the frame of its edge, from the features of both ends.

    References:
        Liao, Wood, Das, Smidt, "EquiformerV2", 2023, https://arxiv.org/abs/2306.12059.
    """

    channels: int  # of the message
    hidden: int  # between the two SO(2) layers
    lmax: int
    m_max: int | None
    radial: tuple[int, ...]  # widths of the hidden layers of the gains
    scalars: int = 0  # invariants besides, from the first layer
    activation: str = "gate"  # in ROW_ACTIVATIONS
    grid_degree: int | None = None
    parity: so3.Parity = "all"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "node m channel"],
        invariants: Float[Array, "edge d"],
        edges: EdgeInputs,
        graph: Graph,
    ) -> tuple[Float[Array, "edge row channels"], Float[Array, "edge scalars"]]:
        """The rows, and the invariants."""
        activation = ROW_ACTIVATIONS[self.activation]
        rows = both_ends(x, edges, graph, m_max=self.m_max)
        more = self.scalars + activation.count(self.lmax, self.hidden)
        rows, scalars = SO2Convolution(
            self.hidden, self.lmax, self.m_max, more, self.parity, self.radial, name="first"
        )(rows, invariants)
        kept, read = jnp.split(scalars, [self.scalars], -1)
        rows = activation.call(rows, read, self.lmax, self.m_max, self.grid_degree)
        second = SO2Linear(self.channels, self.lmax, self.m_max, 0, self.parity, name="second")
        return second(rows)[0], kept


class SO2Bottleneck(nn.Module):
    """SO(2) layers through few channels, which functions of the edge's invariants scale.

    With the rows of order m of all degrees and channels side by side, complex for m > 0,

        y_0 = U_0 (g_0(e) * V_0 x_0)        y_m = [U_r g_r(e) V_r + i U_i g_i(e) V_i] x_m

    where g = SiLU(linear(e)) has `hidden` entries of its own for each matrix.

    References:
        Passaro, Zitnick, "Reducing SO(3) convolutions to SO(2) for efficient equivariant GNNs",
        2023, https://arxiv.org/abs/2302.03655.
    """

    hidden: int
    lmax: int
    m_max: int
    chiral: bool = True  # False: without U_i, V_i, which change parity

    @nn.compact
    def __call__(
        self, x: Float[Array, "edge row channel"], invariants: Float[Array, "edge d"]
    ) -> Float[Array, "edge row channel"]:
        """Rows in the same frames, of as many channels."""
        channels = x.shape[-1]
        tops = [min(l, self.m_max) for l in range(self.lmax + 1)]
        places = [(l, m) for l, top in enumerate(tops) for m in range(-top, top + 1)]
        rows = dict(zip(places, jnp.split(x, len(places), -2), strict=True))
        out: dict[tuple[int, int], Array] = {}
        for m in range(min(self.lmax, self.m_max) + 1):
            degrees = range(m, self.lmax + 1)
            side_by_side = lambda m, of=degrees: jnp.concatenate([rows[l, m] for l in of], -1)
            pair = side_by_side(m)
            if m:
                pair = jnp.concatenate([pair, side_by_side(-m)], -2)
            found = self._order(pair, invariants, m, len(degrees) * channels)
            for i, l in enumerate(degrees):
                part = found[..., i * channels : (i + 1) * channels]
                out[l, m] = part[..., :1, :]
                if m:
                    out[l, -m] = part[..., 1:, :]
        return jnp.concatenate([out[place] for place in places], -2)

    def _order(self, pair: Array, invariants: Array, m: int, width: int) -> Array:
        """The row of order 0, or the rows +m and -m."""
        kinds = "ri" if m and self.chiral else "r"
        gains = Dense(len(kinds) * self.hidden, bias=True, name=f"gains_{m}")(invariants)
        gains = jnp.split(activate(gains)[:, None, :], len(kinds), -1)
        parts = []
        for kind, gain in zip(kinds, gains, strict=True):
            down = Dense(self.hidden, name=f"down_{m}{kind}")(pair)
            parts.append(Dense(width, name=f"up_{m}{kind}")(gain * down))
        if len(kinds) == 1:
            return parts[0]
        real, imaginary = parts
        turned = jnp.concatenate([-imaginary[..., 1:, :], imaginary[..., :1, :]], -2)
        return (real + turned) / sqrt(2)
