"""Equivariant linear layers: every irrep mixes its own channels, nothing else.

`Blocks` hold features of several irreps with different numbers of channels: a dictionary from irrep
to `[..., 2l+1, channel]`. Weights have unit variance and are divided by sqrt(fan-in) in use, where
fan-in counts all terms of the sum ("element" normalisation of e3nn).
"""

from collections.abc import Mapping
from math import sqrt

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep
from jaxtyping import Array, Float

from geojax.so3 import degree, slices

__all__ = ["Blocks", "Linear", "LinearBlocks", "SpeciesLinear"]

# Axes are m and channel; they are nameless because they differ from irrep to irrep.
Blocks = Mapping[Irrep, Float[Array, "... _ _"]]

# Above this many species a node takes its own matrix, below it all matrices are applied at once.
FEW_SPECIES = 8

_unit_normal = nn.initializers.normal(1.0)


class Linear(nn.Module):
    """Mixes channels within each degree of spherical features `[..., (lmax+1)**2, channel]`."""

    channels: int
    bias: bool = False  # on l = 0 only; others have no invariant vector to add

    @nn.compact
    def __call__(self, x: Float[Array, "*n m channel"]) -> Float[Array, "*n m channels"]:
        """Own weights for every degree."""
        lmax, fan_in = degree(x), x.shape[-1]
        weights = self.param("kernel", _unit_normal, (lmax + 1, fan_in, self.channels))
        weights = weights.astype(x.dtype) / sqrt(fan_in)
        rows = [x[..., m, :] @ weights[l] for l, m in enumerate(slices(lmax))]
        if self.bias:
            shift = self.param("bias", nn.initializers.zeros, (self.channels,)).astype(x.dtype)
            rows[0] = rows[0] + shift.reshape(*[1] * (x.ndim - 1), -1)
        return jnp.concatenate(rows, -2)


class LinearBlocks(nn.Module):
    """Mixes the channels of each irrep; irreps without a width are dropped."""

    widths: Mapping[Irrep, int]

    @nn.compact
    def __call__(self, x: Blocks) -> dict[Irrep, Array]:
        """Own weights for every irrep."""
        return {
            irrep: block @ self._weights(irrep, block)
            for irrep, block in x.items()
            if irrep in self.widths
        }

    def _weights(self, irrep: Irrep, block: Array) -> Array:
        fan_in = block.shape[-1]
        weights = self.param(str(irrep), _unit_normal, (fan_in, self.widths[irrep]))
        return weights.astype(block.dtype) / sqrt(fan_in)


class SpeciesLinear(nn.Module):
    """Mixes the channels of each irrep with the matrix of the node's species.

    The same map as a fully connected tensor product with the one-hot species, so the fan-in is
    channels times species.
    """

    widths: Mapping[Irrep, int]

    @nn.compact
    def __call__(self, x: Blocks, species: Float[Array, "node species"]) -> dict[Irrep, Array]:
        """Of node features; `species` is one-hot, and rows of zeros give zeros."""
        out = {}
        for irrep, block in x.items():
            if irrep not in self.widths:
                continue
            shape = (species.shape[-1], block.shape[-1], self.widths[irrep])
            weights = self.param(str(irrep), _unit_normal, shape).astype(block.dtype)
            weights = weights / sqrt(shape[0] * shape[1])
            out[irrep] = _by_species(block, species, weights)
        return out


def _by_species(
    x: Float[Array, "node m channel"],
    species: Float[Array, "node species"],
    weights: Float[Array, "species channel width"],
) -> Float[Array, "node m width"]:
    kinds, fan_in, width = weights.shape
    if kinds > FEW_SPECIES:
        own = weights[jnp.argmax(species, -1)]
        return (x @ own) * species.sum(-1)[:, None, None]
    every = x @ jnp.moveaxis(weights, 0, 1).reshape(fan_in, kinds * width)
    every = every.reshape(*x.shape[:-1], kinds, width)
    return (every * species[:, None, :, None]).sum(-2)
