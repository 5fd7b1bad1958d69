"""Graph attention in the frames of edges.

    a_ij = softmax over j of  w · s(norm(f_ij))        out_i = sum over j of a_ij D_ij^T v_ij

f are invariants of the message's first SO(2) layer, v the rows of its second, both of several
heads; s is a smooth leaky ReLU. The layer norm of f is the attention re-normalisation.

References:
    Liao, Wood, Das, Smidt, "EquiformerV2: Improved equivariant transformer for scaling to
    higher-degree representations", ICLR 2024, https://arxiv.org/abs/2306.12059.
"""

from math import sqrt

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax import so3
from geojax.graphs import Graph, to_receivers
from geojax.nn.attention import edge_softmax
from geojax.nn.norm import LayerNorm
from geojax.nn.so2 import from_edge_frame
from geojax.nn.so2_convolution import SO2Message
from geojax.nn.spherical_inputs import EdgeInputs, EdgeInvariants

__all__ = ["SO2Attention", "smooth_leaky_relu"]


def smooth_leaky_relu(x: Float[Array, "*n"], slope: float = 0.2) -> Float[Array, "*n"]:
    """(1+a)/2 x + (1-a)/2 x tanh(x/2): like x for large x, like a x for very negative ones."""
    # 2 sigmoid(x) - 1 = tanh(x / 2)
    return (1 + slope) / 2 * x + (1 - slope) / 2 * x * jnp.tanh(x / 2)


class SO2Attention(nn.Module):
    """Attention of each node over the messages that arrive, several heads side by side.

    The softmax has the envelope of the edges as factor (`edge_softmax`), which the published one
    has not: its weights jump where a neighbour comes or goes. Dropout of the weights is left out.
    """

    heads: int
    lmax: int
    m_max: int | None
    hidden: int  # channels inside a message
    alpha_channels: int  # of the invariants that make a head's logit
    value_channels: int  # of each head
    edge_channels: int  # of embeddings of both ends, and of the hidden layers of radial functions
    activation: str = "gate"  # in ROW_ACTIVATIONS
    grid_degree: int | None = None
    parity: so3.Parity = "all"

    @nn.compact
    def __call__(
        self, x: Float[Array, "node m channel"], edges: EdgeInputs, graph: Graph
    ) -> Float[Array, "node m value"]:
        """The heads' values side by side, heads * value_channels; mix them by a linear layer."""
        invariants = EdgeInvariants(self.edge_channels, name="invariants")(edges, graph)
        rows, scalars = SO2Message(
            self.heads * self.value_channels,
            self.hidden,
            self.lmax,
            self.m_max,
            (self.edge_channels,) * 2,
            self.heads * self.alpha_channels,
            self.activation,
            self.grid_degree,
            self.parity,
            name="message",
        )(x, invariants, edges, graph)
        weights = edge_softmax(self._logits(scalars), graph, edges.envelope)
        values = rows.reshape(*rows.shape[:-1], self.heads, self.value_channels)
        rows = (values * weights[:, None, :, None]).reshape(rows.shape)
        return to_receivers(from_edge_frame(edges.frames, rows, m_max=self.m_max), graph)

    def _logits(self, scalars: Array) -> Float[Array, "edge head"]:
        f = scalars.reshape(-1, self.heads, self.alpha_channels)
        f = smooth_leaky_relu(LayerNorm(name="alpha_norm")(f))
        shape = (self.heads, self.alpha_channels)
        alpha = self.param("alpha", nn.initializers.normal(1.0), shape).astype(f.dtype)
        return jnp.einsum("eha,ha->eh", f, alpha / sqrt(self.alpha_channels))
