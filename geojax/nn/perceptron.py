"""Affine layers with SiLU between them: the small network inside many published ones."""

from collections.abc import Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from geojax.nn.dense import Affine

__all__ = ["Perceptron"]

# Its derivative comes from its argument alone. Otherwise the sigmoid is kept as well, which is two
# numbers per edge and channel: energies and forces of TensorNet on 270 atoms take a fifth longer.
silu = jax.checkpoint(nn.silu)


class Perceptron(nn.Module):
    """Affine layers of these widths with SiLU between them."""

    widths: Sequence[int]
    end: bool = False  # SiLU after the last one too

    @nn.compact
    def __call__(self, x: Float[Array, "*n channel"]) -> Float[Array, "*n width"]:
        """Of the last axis."""
        for i, width in enumerate(self.widths):
            x = Affine(width, name=f"affine_{i}")(x)
            x = silu(x) if self.end or i < len(self.widths) - 1 else x
        return x
