"""From features to a network's output, irrep by irrep."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irrep, Irreps, IrrepsArray
from jaxtyping import Array, Float

from geojax import so3
from geojax.nn.linear import Blocks, LinearBlocks
from geojax.nn.message import irrep

__all__ = ["Readout", "as_blocks", "counts", "in_order"]


def as_blocks(x: Float[Array, "*n m channel"], *, pseudo: bool = False) -> dict[Irrep, Array]:
    """Spherical features (of pseudo-tensors, if `pseudo`) as one block for each irrep."""
    return {irrep(l, pseudo): x[..., m, :] for l, m in enumerate(so3.slices(so3.degree(x)))}


def counts(irreps_out: str) -> dict[Irrep, int]:
    """How many channels of each irrep an output has."""
    irreps = Irreps(irreps_out)
    return {i: irreps.count(i) for i in {item.ir: None for item in irreps}}


def in_order(x: Blocks, irreps_out: str) -> IrrepsArray:
    """Blocks with the channels `counts(irreps_out)`, in the order of `irreps_out`."""
    columns, used = [], dict.fromkeys(x, 0)
    for multiplicity, i in Irreps(irreps_out):
        block = x[i][..., used[i] : used[i] + multiplicity]
        used[i] += multiplicity
        columns.append(jnp.swapaxes(block, -1, -2).reshape(*block.shape[:-2], -1))
    return IrrepsArray(irreps_out, jnp.concatenate(columns, -1))


class Readout(nn.Module):
    """One linear map of each irrep of the output."""

    irreps_out: str

    @nn.compact
    def __call__(self, x: Mapping[Irrep, Float[Array, "node _ _"]]) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: an irrep of the output is not among those of x.
        """
        widths = counts(self.irreps_out)
        if missing := [str(i) for i in widths if i not in x]:
            raise ValueError(
                f"an output is a linear map of features of the same irrep, here "
                f"{', '.join(map(str, x))}; got irreps_out={self.irreps_out!r} with "
                f"{', '.join(missing)}; ask for less, or raise the degrees of the network"
            )
        return in_order(LinearBlocks(widths, name="linear")(x), self.irreps_out)
