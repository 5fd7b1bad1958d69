"""The layers of Steerable Transformers: attention with steerable positions, and feed forward.

With features f_i of degrees l <= lmax, all of as many channels,

    q_i = W_Q f_i    k_j = W_K f_j    v_j = W_V f_j        one matrix for each degree
    P_ij^l = w^l(|x_ij|) Y^l(x_ij / |x_ij|),  P'_ij alike with its own w'
    a_ij = softmax over j of sum_lmc q_i (k_j + P_ij) / sqrt(d)
    f_i <- W_O sum_j a_ij (v_j + P'_ij)

over the edges that arrive at i. w^l is a number for each channel; the sums of a head run over the
channels of that head, d = sum_l (2l + 1) channels.

Repaired: the published features are complex and the softmax is one of |score|, which forgets its
sign; here they are real, and so is the score. Norms f / |f| of single channels jump where f passes
zero; here one smooth root mean square divides all degrees (`nn.norm.RMSNorm`), and norms in the
feed forward are smooth (`nn.norm_nonlinearity`). The published lists of radii are a function of the
radius, and edges end smoothly at a finite cutoff (`nn.attention`).

References:
    Kundu, Kondor, "Steerable Transformers for volumetric data", 2024,
    https://arxiv.org/abs/2405.15932. Vaswani et al., "Attention is all you need", NeurIPS 2017.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep
from jaxtyping import Array, Float

from geojax import so3
from geojax.graphs import Graph, from_senders, to_receivers
from geojax.nn.attention import edge_softmax
from geojax.nn.dense import Perceptron
from geojax.nn.linear import Blocks, Linear, LinearBlocks
from geojax.nn.message import irrep
from geojax.nn.norm import RMSNorm
from geojax.nn.norm_nonlinearity import BiasedNorm
from geojax.nn.readout import as_blocks
from geojax.nn.steerable_attention import agreement, by_channel
from geojax.nn.steerable_convolution import SteerableEdges
from geojax.products import tensor_product

__all__ = ["NormFeedForward", "PositionalAttention", "SelfCoupling", "SteerableNorm"]


class PositionalAttention(nn.Module):
    """Attention over neighbours whose positions are added to keys and values; see the module.

    Exactly equivariant under O(3), and under translations. A node without neighbours gets zero.
    """

    heads: int = 1
    hidden: int = 32  # of the radial network

    @nn.compact
    def __call__(
        self, x: Blocks, edges: SteerableEdges, graph: Graph
    ) -> dict[Irrep, Float[Array, "node _ _"]]:
        """Of node features of natural parity, as many channels of each degree.

        Raises:
            ValueError: channels that the heads cannot share, or different for the degrees.
        """
        widths = {i: block.shape[-1] for i, block in x.items()}
        channels = max(widths.values())
        if min(widths.values()) < channels or channels % self.heads:
            raise ValueError(
                "every degree has as many channels, and every head too; got "
                f"{' + '.join(f'{n}x{i}' for i, n in widths.items())} for heads={self.heads}; "
                "change channels or heads"
            )
        of_keys, of_values = self._positions(tuple(x), channels, edges)
        mixed = lambda name: LinearBlocks(widths, name=name)(x)
        keys, values = mixed("key"), mixed("value")
        keys = {i: from_senders(keys[i], graph) + of_keys[i] for i in x}
        logits = agreement(mixed("query"), keys, self.heads, graph)
        weights = by_channel(edge_softmax(logits, graph, edges.envelope), channels)[:, None]
        found = {
            i: to_receivers(weights * (from_senders(values[i], graph) + of_values[i]), graph)
            for i in x
        }
        return LinearBlocks(widths, name="mix")(found)

    def _positions(
        self, irreps: tuple[Irrep, ...], channels: int, edges: SteerableEdges
    ) -> tuple[Blocks, Blocks]:
        """P and P' at each edge. Those of degree 0 need not vanish at r = 0, all others do."""
        shape = (2, len(irreps), channels)
        width = 2 * len(irreps) * channels
        radial = Perceptron((self.hidden, self.hidden, width), name="radial")(edges.invariants)
        radial = radial.reshape(-1, *shape)
        rows = {i: edges.harmonics[:, i.l**2 : (i.l + 1) ** 2] for i in irreps}
        each = lambda k: {i: rows[i] * radial[:, k, n][:, None] for n, i in enumerate(irreps)}
        return each(0), each(1)


class NormFeedForward(nn.Module):
    """Linear, f GELU(|f| + b) / |f|, linear; with four times as many channels in between.

    |f| = sqrt(sum_m f_m² + 0.01) of each channel of each degree, b one number of each.
    """

    factor: int = 4

    @nn.compact
    def __call__(self, x: Blocks) -> dict[Irrep, Float[Array, "... _ _"]]:
        """As many channels of each irrep as before."""
        wide = {i: self.factor * block.shape[-1] for i, block in x.items()}
        h = LinearBlocks(wide, name="linear_0")(x)
        h = BiasedNorm("gelu", name="norm")(h)
        back = {i: block.shape[-1] for i, block in x.items()}
        return LinearBlocks(back, name="linear_1")(h)


class SteerableNorm(nn.Module):
    """`RMSNorm` of all degrees 0 ... lmax, which have as many channels."""

    @nn.compact
    def __call__(self, x: Blocks) -> dict[Irrep, Float[Array, "... _ _"]]:
        """Of natural parity."""
        return as_blocks(RMSNorm(name="rms")(_stacked(x)))


class SelfCoupling(nn.Module):
    """W (A f ⊗ B f): each channel times itself, all paths with weights of their own and summed.

    The Clebsch-Gordan nonlinearity of the published convolutions. Paths into a degree are divided
    by the root of their number.
    """

    chiral: bool = False  # odd paths too: SE(3) only
    product: str = "auto"  # a name in PRODUCTS

    @nn.compact
    def __call__(self, x: Blocks) -> dict[Irrep, Float[Array, "... _ _"]]:
        """Of natural parity, all degrees 0 ... lmax with as many channels."""
        stacked = _stacked(x)
        lmax, channels = so3.degree(stacked), stacked.shape[-1]
        parity: so3.Parity = "all" if self.chiral else "even"
        paths = so3.paths(lmax, lmax, lmax, parity=parity)
        into = [sum(path.l3 == other.l3 for other in paths) for path in paths]
        weights = self.param("weights", nn.initializers.normal(1.0), (len(paths), channels))
        weights = weights.astype(stacked.dtype) / jnp.sqrt(
            jnp.asarray(into, stacked.dtype).reshape(-1, 1)
        )
        one = Linear(channels, name="left")(stacked)
        two = Linear(channels, name="right")(stacked)
        both = tensor_product(one, two, weights, lmax=lmax, method=self.product, parity=parity)
        return as_blocks(Linear(channels, name="mix")(both))


def _stacked(x: Mapping[Irrep, Float[Array, "... _ _"]]) -> Float[Array, "... m channel"]:
    """The blocks of degrees 0 ... lmax as one array."""
    return jnp.concatenate([x[irrep(l)] for l in range(len(x))], -2)
