"""Symmetrization over matrix groups without a projection: samples that are driven onto the group.

A sampler gives matrices M with q(g X) = g q(X), but not in the group G. G is the set where certain
polynomials P have the values P(1), and P(g M) = P(M), so that |P(M) - P(1)| is a distance of the
orbit of M from G that does not depend on g. It is made a loss; where it is zero,

    f(X) = mean_k phi(M_k⁻¹ X)

is invariant. M⁻¹ is taken by the formula of the group, which is wrong off the group: report the
distance with every result.

References:
    Nguyen, Kim, Ta, Ahn, Hong, "Learning symmetrization for equivariance with orbit distance
    minimization", 2023, https://arxiv.org/abs/2311.07143, and the authors' code.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.registry import Registry

__all__ = [
    "MATRIX_GROUPS",
    "MatrixGroup",
    "bound_loss",
    "group_inverse",
    "invariants",
    "orbit_distance",
    "sample_mean",
    "sampled_matrix",
]


class MatrixGroup(NamedTuple):
    """Matrices M with Mᵀ Q M = Q, and with determinant 1 where `special`.

    Attributes:
        metric: the diagonal of Q.
        special: reflections are not in the group.
    """

    metric: tuple[float, ...]
    special: bool

    @property
    def dimension(self) -> int:
        """Of the space."""
        return len(self.metric)

    def level_set(self, matrix: Float[Array, "*n d d"]) -> Float[Array, "*n polynomial"]:
        """P(M): the products of the columns, each once (10 of the 16 of O(1,3)), the determinant.

        Raises:
            ValueError: these are no matrices of the group's dimension.
        """
        d = self.dimension
        if matrix.ndim < 2 or matrix.shape[-2:] != (d, d):
            raise ValueError(f"matrices have shape [..., {d}, {d}]; got {matrix.shape}")
        rows, columns = np.triu_indices(d)
        products = invariants(matrix, self)[..., rows, columns]
        if not self.special:
            return products
        det = _det2(matrix) if d == 2 else _det3(matrix)
        return jnp.concatenate([products, det[..., None]], -1)


MATRIX_GROUPS: Registry[MatrixGroup] = Registry("matrix group")
MATRIX_GROUPS.register("SO(2)")(MatrixGroup((1.0, 1.0), True))
MATRIX_GROUPS.register("SO(3)")(MatrixGroup((1.0, 1.0, 1.0), True))
MATRIX_GROUPS.register("O(1,3)")(MatrixGroup((1.0, -1.0, -1.0, -1.0), False))


def invariants(
    vectors: Float[Array, "*n d channel"], group: MatrixGroup
) -> Float[Array, "*n channel channel"]:
    """Vᵀ Q V, the products of all vectors with each other; unchanged by the group."""
    metric = jnp.asarray(group.metric, vectors.dtype)
    return jnp.einsum("...ai,a,...aj->...ij", vectors, metric, vectors, precision="highest")


def sampled_matrix(
    vectors: Float[Array, "*n d channel"], coefficients: Float[Array, "*n channel d"]
) -> Float[Array, "*n d d"]:
    """M = V A: equivariant if V is, and A depends on invariants (and on noise) alone.

    Args:
        vectors: of the structure, or random ones that the group leaves as they are distributed.
        coefficients: A, such as the outputs of a network of `invariants(vectors, group)`.
    """
    return jnp.einsum("...ac,...cb->...ab", vectors, coefficients, precision="highest")


def orbit_distance(
    matrix: Float[Array, "*n d d"], group: MatrixGroup, *, kind: str = "l1"
) -> Float[Array, "*n"]:
    """The mean of |P(M) - P(1)| ("l1") or of its square ("l2"); zero on the group alone.

    Raises:
        ValueError: another kind, or matrices of another dimension.
    """
    if kind not in ("l1", "l2"):
        raise ValueError(f"an orbit distance is 'l1' or 'l2'; got {kind!r}")
    found = group.level_set(matrix)
    identity = group.level_set(jnp.eye(group.dimension, dtype=matrix.dtype))
    off = found - jnp.broadcast_to(identity, found.shape)
    return jnp.mean(jnp.abs(off) if kind == "l1" else off * off, -1)


def bound_loss(matrix: Float[Array, "*n d d"], bound: float) -> Float[Array, "*n"]:
    """sum relu(|M_ij| - bound): keeps boosts small, whose entries have no bound."""
    return jnp.sum(jax.nn.relu(jnp.abs(matrix) - bound), (-2, -1))


def group_inverse(matrix: Float[Array, "*n d d"], group: MatrixGroup) -> Float[Array, "*n d d"]:
    """Q Mᵀ Q, the inverse of elements of the group; of other matrices it is none."""
    metric = jnp.asarray(group.metric, matrix.dtype)
    signs = (metric[:, None] * metric[None, :]).reshape(
        *[1] * (matrix.ndim - 2), *matrix.shape[-2:]
    )
    return matrix.mT * signs


def sample_mean(
    function: Callable[[Float[Array, "point d"]], Float[Array, "*out"]],
    points: Float[Array, "point d"],
    matrices: Float[Array, "sample d d"],
    group: MatrixGroup,
) -> Float[Array, "*out"]:
    """mean_k phi(M_k⁻¹ X) over samples M_k."""
    inverse = group_inverse(matrices, group)
    turned = jnp.einsum("kab,pb->kpa", inverse, points, precision="highest")
    return jnp.mean(jax.vmap(function)(turned), 0)


def _det2(matrix: Array) -> Array:
    return matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]


def _det3(matrix: Array) -> Array:
    return jnp.sum(matrix[..., 0] * jnp.cross(matrix[..., 1], matrix[..., 2]), -1)
