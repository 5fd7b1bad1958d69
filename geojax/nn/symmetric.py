"""MACE's symmetric contraction as a layer: powers of node features, with weights by species."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax import so3
from geojax.nn.linear import FEW_SPECIES
from geojax.products.symmetric import Contraction, symmetric_blocks, symmetric_contraction

__all__ = ["SymmetricContraction"]


class SymmetricContraction(nn.Module):
    """The sum of x, x^2, ... up to a power, channel by channel (`products.symmetric_contraction`).

    Weights `[species, path, channel]` have unit variance and are divided, when they are used, by
    the number of paths of their order into their degree: what MACE's have at the start. With many
    paths the result is smaller than x: n paths into a degree have variance 1/n together.
    """

    lmax: int  # of the result
    correlation: int = 3  # the highest power
    method: Contraction = "cg"

    @nn.compact
    def __call__(
        self, x: Float[Array, "node m channel"], species: Float[Array, "node species"]
    ) -> Float[Array, "node m3 channel"]:
        """Of node features; `species` is one-hot, and rows of zeros give zeros."""
        blocks = symmetric_blocks(so3.degree(x), self.lmax, self.correlation, method=self.method)
        counts = [block.rows.stop - block.rows.start for block in blocks]
        shape = (species.shape[-1], sum(counts), x.shape[-1])
        weights = self.param("weights", nn.initializers.normal(1.0), shape).astype(x.dtype)
        scale = jnp.asarray(1 / np.repeat(counts, counts), x.dtype)[None, :, None]
        own = _of_species(weights * scale, species)
        return symmetric_contraction(
            x, own, lmax=self.lmax, correlation=self.correlation, method=self.method
        )


def _of_species(
    weights: Float[Array, "species path channel"], species: Float[Array, "node species"]
) -> Float[Array, "node path channel"]:
    """The weights of each node, zero where it has no species."""
    if species.shape[-1] > FEW_SPECIES:
        return weights[jnp.argmax(species, -1)] * species.sum(-1)[:, None, None]
    return jnp.einsum("ns,spc->npc", species, weights, precision="highest")
