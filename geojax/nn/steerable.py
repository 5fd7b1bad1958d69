"""Steerable kernels: for every edge a full matrix of channels for each pair of degrees and path.

    W^{lk}(x) = sum_J phi_J^{lk}(|x|, a) sum_m Y_Jm(x / |x|) Q^{lk}_Jm,    |k - l| <= J <= k + l

with Q the Clebsch-Gordan tensors and phi_J^{lk} a matrix [c_in, c_out] that a small network makes
of the length and of other invariants a of the edge, one network for each pair (k, l). Only products
W f are needed, and W (with its (2l+1)(2k+1) entries per pair of channels) is never formed:

    couple          t_J^{lk} = Y_J ⊗ f^k, every path apart: the sparse products of `products`
    SteerableKernel (W f)^l = sum_k sum_J phi_J^{lk} t_J^{lk}, one matrix product per edge

Of an edge with P paths and R = sum over paths of 2l+1 rows this takes 64 P c_in c_out operations
for phi (a matrix product over all edges, of the 32 hidden units of the radial network) and
2 R c_in c_out to apply it. The matrices phi are the largest array, P c_in c_out numbers per edge;
they are made for one pair of degrees at a time, and made again in the backward pass. One can also
sum first (phi is linear in the hidden units h): the sum over edges of h ⊗ t at the nodes, then one
matrix product per node. That needs up to four times less memory, but is bound by memory traffic: 5
to 20 neighbours, 16 to 32 channels and lmax 1 to 2 took 1.3 to 2.3 times longer on a CPU.

References:
    Thomas, Smidt, Kearnes, Yang, Li, Kohlhoff, Riley, "Tensor field networks", 2018,
    https://arxiv.org/abs/1802.08219. Fuchs, Worrall, Fischer, Welling, "SE(3)-Transformers",
    NeurIPS 2020, https://arxiv.org/abs/2006.10503 (equation 8).
"""

from collections.abc import Collection, Iterator, Mapping
from math import sqrt

import flax.linen as nn
import jax
import jax.numpy as jnp
from e3nn_jax import Irrep
from jaxtyping import Array, Float

from geojax import so3
from geojax.nn.activation import ACTIVATIONS
from geojax.nn.dense import uniform
from geojax.nn.linear import Blocks
from geojax.nn.message import irrep
from geojax.nn.norm import LayerNorm
from geojax.products import kept_layout, split_kept, tensor_product

__all__ = ["Coupled", "SteerableKernel", "couple"]

# Of (irrep of f, irrep of the result): the paths of the pair, J ascending, `[edge, path, m, c]`.
Coupled = Mapping[tuple[Irrep, Irrep], Float[Array, "edge _ _ _"]]


def couple(
    x: Blocks,
    y: Float[Array, "edge m 1"],
    targets: Collection[Irrep],
    *,
    chiral: bool = False,
    method: str = "auto",
) -> dict[tuple[Irrep, Irrep], Float[Array, "edge _ _ _"]]:
    """Features of the senders times harmonics, all paths apart, sorted by the pair of degrees.

    Args:
        x: features at each edge, of natural parity; irreps may differ in channels.
        y: harmonics of the edge vectors, up to twice the largest degree for all paths.
        targets: irreps of the result, of natural parity.
        chiral: odd paths too, 2 min(k, l) + 1 for a pair instead of min(k, l) + 1: respects
            rotations but no reflections.
        method: a name in `PRODUCTS`, or "auto".
    """
    lmax_y, lmax = so3.degree(y), max(target.l for target in targets)
    parity: so3.Parity = "all" if chiral else "even"
    found: dict[tuple[Irrep, Irrep], list[Array]] = {}
    for degrees, rows in _bands(x):
        lmax_x = so3.degree(rows)
        kept = tensor_product(rows, y, lmax=lmax, method=method, paths="keep", parity=parity)
        layout = kept_layout(lmax_x, lmax_y, lmax, parity=parity)
        listed = so3.paths(lmax_x, lmax_y, lmax, parity=parity)
        for l, block in enumerate(split_kept(kept, layout)):
            sources = [path.l1 for path in listed if path.l3 == l]
            for k in degrees:
                first, count = sources.index(k) if k in sources else 0, sources.count(k)
                if count and irrep(l) in targets:
                    part = block[:, first : first + count]
                    found.setdefault((irrep(k), irrep(l)), []).append(part)
    return {pair: jnp.concatenate(parts, -1) for pair, parts in found.items()}


def _bands(x: Blocks) -> Iterator[tuple[list[int], Float[Array, "edge m channel"]]]:
    """Channels that are in the same degrees, and their rows with zeros for the degrees without."""
    like, start = next(iter(x.values())), 0
    for stop in sorted({block.shape[-1] for block in x.values()}):
        degrees = sorted(i.l for i, block in x.items() if block.shape[-1] >= stop)
        zeros = lambda l, n=stop - start: jnp.zeros((like.shape[0], 2 * l + 1, n), like.dtype)
        rows = [
            x[irrep(l)][..., start:stop] if l in degrees else zeros(l)
            for l in range(degrees[-1] + 1)
        ]
        yield degrees, jnp.concatenate(rows, -2)
        start = stop


class Profile(nn.Module):
    """Twice: a matrix, layer norm, nonlinearity. phi is a linear function of the result."""

    width: int
    activation: str

    @nn.compact
    def __call__(self, a: Float[Array, "edge d"]) -> Float[Array, "edge width"]:
        for i in range(2):
            kernel = self.param(
                f"kernel_{i}", nn.initializers.he_uniform(), (a.shape[-1], self.width)
            )
            bound = 1 / sqrt(a.shape[-1])
            bias = self.param(f"bias_{i}", uniform(bound), (self.width,))
            a = a @ kernel.astype(a.dtype) + bias.astype(a.dtype)[None, :]
            a = ACTIVATIONS[self.activation].call(LayerNorm(name=f"norm_{i}")(a))
        return a


class SteerableKernel(nn.Module):
    """W f at each edge, from the coupled paths Y ⊗ f and invariants of the edge.

    Each path has unit variance if f has, phi begins with unit variance, and the sum over source
    channels and paths is divided by the root of their number.
    """

    widths: Mapping[Irrep, int]  # channels of the result
    hidden: int = 32  # of the radial networks
    activation: str = "relu"  # of the radial networks, a name in ACTIVATIONS

    @nn.compact
    def __call__(
        self, coupled: Coupled, invariants: Float[Array, "edge d"]
    ) -> dict[Irrep, Float[Array, "edge _ _"]]:
        """Of the irreps in `widths`.

        Args:
            coupled: from `couple`.
            invariants: what the radial networks read: the length of the edge, and others.
        """
        by_degree = lambda pair: (pair[1].l, pair[0].l)
        pairs = sorted((pair for pair in coupled if pair[1] in self.widths), key=by_degree)
        profiles = nn.vmap(
            Profile,
            in_axes=None,  # pyright: ignore[reportArgumentType]
            out_axes=0,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            axis_size=len(pairs),
        )
        h = profiles(self.hidden, self.activation, name="radial")(invariants)
        terms: dict[Irrep, list[Array]] = {}
        fan_in = dict.fromkeys(self.widths, 0)
        for i, (source, target) in enumerate(pairs):
            t = coupled[source, target]
            shape = (t.shape[1], t.shape[3], self.widths[target])
            name = f"{source}_{target}"
            kernel = self.param(
                f"kernel_{name}", uniform(sqrt(6 / self.hidden)), (self.hidden, *shape)
            )
            bias = self.param(f"bias_{name}", uniform(1 / sqrt(self.hidden)), shape)
            terms.setdefault(target, []).append(
                _apply(h[i], kernel.astype(t.dtype), bias.astype(t.dtype), t)
            )
            fan_in[target] += shape[0] * shape[1]
        return {i: sum(parts[1:], parts[0]) / sqrt(fan_in[i]) for i, parts in terms.items()}


@jax.checkpoint  # phi is quickly made again, and too large to be kept
def _apply(
    h: Float[Array, "edge hidden"],
    kernel: Float[Array, "hidden path channel width"],
    bias: Float[Array, "path channel width"],
    t: Float[Array, "edge path m channel"],
) -> Float[Array, "edge m width"]:
    hidden, paths, channels, width = kernel.shape
    columns = paths * channels
    phi = h @ kernel.reshape(hidden, -1) + bias.reshape(1, -1)
    t = jnp.moveaxis(t, 1, 2).reshape(t.shape[0], t.shape[2], columns)
    return jnp.einsum("emq,eqw->emw", t, phi.reshape(h.shape[0], columns, width))
