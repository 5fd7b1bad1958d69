"""Frames for the parts of a cloud that move each for itself.

Points belong to parts with shares w_nk, whose sum over k is one. Each part has its own weighted
principal axes, in which a function looks at the points, weighted by their shares, and

    f_n = sum_k w_nk mean_s rho(g_ks) phi_n(g_ks⁻¹ X, w_k)

over the signs s of the axes. With shares of 0 and 1, and a function that leaves out points without
a share, parts may turn and move independently. Equivariance for finer parts than the true ones
implies that for the true ones. One part is frame averaging (`PCAFrames`).

A part of one point has axes along x, y and z, and one on a line some axes across it: what is found
in them is no better defined than those are. (The published code draws random axes there.)

References:
    Atzmon, Huang, Williams, Litany, "Approximately piecewise E(3) equivariant point networks",
    ICLR 2024, https://arxiv.org/abs/2402.08529 (APEN).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide
from geojax.symmetrize.average import turn_irreps
from geojax.symmetrize.frames import Frames
from geojax.symmetrize.pca import principal_axes, signed_frames

__all__ = ["part_frames", "symmetrize_parts"]


def part_frames(
    positions: Float[Array, "point 3"],
    shares: Float[Array, "point part"],
    mask: Bool[Array, "point"] | None = None,
    *,
    group: str = "SE(3)",
    detach: bool = True,
) -> Frames:
    """Weighted principal axes of every part, with parts in the place of graphs.

    Args:
        positions: of the points.
        shares: of every point in every part, not negative.
        mask: which points are real.
        group: "SE(3)": 4 frames for each part; or "E(3)": 8.
        detach: axes as constants for derivatives, as published; else derivatives are exact.

    Raises:
        ValueError: another group.
    """
    positions, shares = _real(positions, shares, mask)
    total = jnp.broadcast_to(jnp.sum(shares, 0)[:, None], (shares.shape[1], 3))
    origins = safe_divide(jnp.einsum("nk,nx->kx", shares, positions, precision="highest"), total)
    x = positions[:, None] - origins[None]
    scatter = jnp.einsum("nk,nka,nkb->kab", shares, x, x, precision="highest")
    matrices = signed_frames(principal_axes(scatter, group=group, detach=detach), group=group)
    weights = jnp.full(matrices.shape[:2], 1 / matrices.shape[1], matrices.dtype)
    return Frames(matrices, origins, weights)


def symmetrize_parts(
    function: Callable[[Array, Array], Float[Array, "point d"]],
    positions: Float[Array, "point 3"],
    shares: Float[Array, "point part"],
    irreps: str,
    mask: Bool[Array, "point"] | None = None,
    *,
    group: str = "SE(3)",
    detach: bool = True,
) -> Float[Array, "point d"]:
    """What a function finds in the frames of each part, turned back and weighted by the shares.

    Args:
        function: `(coordinates [point, 3], shares [point]) -> [point, d]`, of one frame of a part;
            to keep parts apart, points without a share must not matter to it.
        positions: of the points.
        shares: of every point in every part.
        irreps: of the d columns.
        mask: which points are real; the rows of others are zero.
        group: "SE(3)" or "E(3)".
        detach: axes as constants for derivatives.

    Raises:
        ValueError: another group, or outputs of another width.
    """
    frames = part_frames(positions, shares, mask, group=group, detach=detach)
    positions, shares = _real(positions, shares, mask)

    def of_part(matrices: Array, origin: Array, weights: Array, share: Array) -> Array:
        x = positions - origin[None]

        def in_frame(matrix: Array, weight: Array) -> Array:
            found = function(jnp.einsum("nx,xy->ny", x, matrix, precision="highest"), share)
            at_point = jnp.broadcast_to(matrix, (x.shape[0], 3, 3))
            return turn_irreps(found, at_point, irreps) * weight

        return jnp.sum(jax.vmap(in_frame)(matrices, weights), 0) * share[:, None]

    return jnp.sum(jax.vmap(of_part)(*frames, shares.T), 0)


def _real(positions: Array, shares: Array, mask: Array | None) -> tuple[Array, Array]:
    if mask is None:
        return positions, shares
    real = mask[:, None]
    return jnp.where(real, positions, 0), jnp.where(real, shares, 0)
