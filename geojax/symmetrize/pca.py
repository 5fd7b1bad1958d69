"""Frames along the principal axes of a structure, with all signs of them or one at a time.

With the eigenvectors V of sum_i (x_i - c)(x_i - c)ᵀ around the mean c, the frames are V diag(s)
with all signs s: 8 for E(3), and for SE(3) the 4 of them with determinant 1.

They jump where two eigenvalues become equal, and do not exist where two are: then the axes are
wherever rounding puts them. So it is for every symmetric top, methane and benzene among them, and
symmetry is lost there. `WeightedFrames` have no such gaps.

References:
    Puny et al., "Frame averaging for invariant and equivariant network design", ICLR 2022,
    https://arxiv.org/abs/2110.03336.
    Duval et al., "FAENet: frame averaging equivariant GNN for materials modeling", ICML 2023,
    https://arxiv.org/abs/2305.05577 (one frame at a time).
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.arrays import safe_divide
from geojax.graphs import Graph, centered, graph_mask, pool
from geojax.symmetrize.frames import (
    PROVIDERS,
    SIGNS,
    Frames,
    check_group,
    pick,
    unless_periodic,
)

__all__ = ["PCAFrames", "StochasticFrames", "eigen", "principal_axes", "signed_frames"]


def eigen(
    matrix: Float[Array, "*n d d"],
) -> tuple[Float[Array, "*n d"], Float[Array, "*n d d"]]:
    """Eigenvalues, ascending, and eigenvectors in the columns, of symmetric matrices.

    The derivative of an eigenvector along another is divided by the difference of their
    eigenvalues; where that is rounding (8 eps of the largest) it is taken as zero, not infinite.
    All higher derivatives are those of this rule.
    """
    return _eigen((matrix + matrix.mT) / 2)


@jax.custom_jvp
def _eigen(matrix: Array) -> tuple[Array, Array]:
    wide = matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))
    values, axes = jnp.linalg.eigh(wide, symmetrize_input=False)
    return values.astype(matrix.dtype), axes.astype(matrix.dtype)


@_eigen.defjvp
def _by_gaps(primals: tuple, tangents: tuple):
    (matrix,), (change,) = primals, tangents
    values, axes = _eigen(matrix)
    between = jnp.einsum("...ai,...ab,...bj->...ij", axes, change, axes, precision="highest")
    gap = values[..., None, :] - values[..., :, None]
    limit = 8 * float(jnp.finfo(matrix.dtype).eps) * jnp.max(jnp.abs(values), -1)
    apart = jnp.abs(gap) > limit[..., None, None]
    mixed = safe_divide(between, jnp.where(apart, gap, 0))
    turned = jnp.einsum("...ai,...ij->...aj", axes, mixed, precision="highest")
    return (values, axes), (jnp.diagonal(between, axis1=-2, axis2=-1), turned)


def principal_axes(
    scatter: Float[Array, "*n 3 3"], *, group: str, detach: bool = False
) -> Float[Array, "*n 3 3"]:
    """The eigenvectors in the columns, ascending; right-handed for SE(3).

    Args:
        scatter: sum_i w_i (x_i - c)(x_i - c)ᵀ.
        group: "E(3)" or "SE(3)".
        detach: as constants for derivatives.
    """
    check_group(group)
    axes = eigen(jax.lax.stop_gradient(scatter) if detach else scatter)[1]
    if group == "E(3)":
        return axes
    return jnp.stack([axes[..., 0], axes[..., 1], jnp.cross(axes[..., 0], axes[..., 1])], -1)


def signed_frames(axes: Float[Array, "*n 3 3"], *, group: str) -> Float[Array, "*n frame 3 3"]:
    """The axes with all signs that the group allows: 4 or 8 frames in place of one."""
    signs = jnp.asarray(SIGNS[group], axes.dtype)
    signs = signs.reshape(*[1] * (axes.ndim - 2), -1, 1, 3)
    return axes[..., None, :, :] * signs


def scatter_of(graph: Graph) -> Float[Array, "graph 3 3"]:
    """sum_i (x_i - c)(x_i - c)ᵀ of each graph [Å²]."""
    x = centered(graph)
    outer = (x[:, :, None] * x[:, None, :]).reshape(-1, 9)
    return pool(outer, graph).reshape(-1, 3, 3)


@PROVIDERS.register("pca")
@dataclass(frozen=True)
class PCAFrames:
    """Along the principal axes: 8 frames for E(3), 4 for SE(3), of equal weights."""

    group: str = "E(3)"  # or "SE(3)", which tells mirror images apart
    detach: bool = False  # frames as constants for derivatives, as published

    exact: ClassVar[bool] = True
    periodic: ClassVar[bool] = False

    @property
    def conservative(self) -> bool:
        """Whether derivatives go through the axes."""
        return not self.detach

    def __call__(self, graph: Graph) -> Frames:
        """`[graph, 4 or 8]`.

        Raises:
            ValueError: another group; a crystal.
        """
        axes = principal_axes(scatter_of(graph), group=self.group, detach=self.detach)
        matrices = signed_frames(axes, group=self.group)
        real = graph_mask(graph).astype(matrices.dtype)[:, None]
        weights = jnp.broadcast_to(real / matrices.shape[1], matrices.shape[:2])
        origins = pool(graph.nodes["positions"], graph, "mean")
        return unless_periodic(Frames(matrices, origins, weights), graph, "PCA")


@PROVIDERS.register("stochastic")
@dataclass(frozen=True)
class StochasticFrames:
    """One of the PCA frames where the structure has a draw, all of them where it has none.

    Networks are functions and draw nothing. Training data carry the draw as a node input, uniform
    in [0, 1) and the same for all nodes of a structure, which a transform of the data may renew;
    data without it, at inference, get the mean over all frames. With a draw, symmetry holds in the
    mean over draws only. In a training loop of one's own, `pick(PCAFrames()(graph), numbers)` does
    the same with numbers from a key.
    """

    group: str = "E(3)"
    detach: bool = False
    draw: str = "draw"  # the node input [node]

    exact: ClassVar[bool] = False
    periodic: ClassVar[bool] = False

    @property
    def conservative(self) -> bool:
        """Whether derivatives go through the axes."""
        return not self.detach

    def __call__(self, graph: Graph) -> Frames:
        """`[graph, 1]` with a draw, `[graph, 4 or 8]` without."""
        frames = PCAFrames(self.group, self.detach)(graph)
        if self.draw not in graph.nodes:
            return frames
        draws = graph.nodes[self.draw].reshape(-1)
        first = jnp.cumsum(graph.n_node) - graph.n_node
        return pick(frames, draws.at[first].get(mode="clip").astype(frames.weights.dtype))
