"""Nonlinearities of equivariant features, and which of them are legal.

A function applied entry by entry commutes with rotations only where they do nothing: on scalars. On
pseudo-scalars it must be odd (they stay 0o) or even (they become 0e). For l > 0 a nonlinearity acts
on something invariant (the norm, the scalar of a gate) or on the values of the signal.

References:
    Pacini, Dong, Lepri, Santin, "A characterization theorem for equivariant networks with
    point-wise activations", 2024, https://arxiv.org/abs/2401.09235.
"""

import jax.numpy as jnp
from e3nn_jax import Irrep
from jaxtyping import Array, Float

from geojax import so3
from geojax.nn.activation import activate, parity_of
from geojax.nn.linear import Blocks

__all__ = ["norm_activation", "scalar_activation", "sphere_activation"]


def scalar_activation(x: Blocks, name: str = "silu") -> dict[Irrep, Array]:
    """f of every entry of scalars: 0e stays 0e; 0o stays 0o if f is odd, becomes 0e if f is even.

    Raises:
        KeyError: no activation of this name.
        ValueError: there is a block of l > 0, or f has no parity and there are pseudo-scalars.
    """
    found: dict[Irrep, list[Array]] = {}
    for irrep, block in x.items():
        found.setdefault(_result(irrep, name), []).append(activate(block, name))
    return {irrep: jnp.concatenate(blocks, -1) for irrep, blocks in found.items()}


def _result(irrep: Irrep, name: str) -> Irrep:
    """The irrep that f of every entry has."""
    if irrep.l > 0:
        raise ValueError(
            f"a function of single entries commutes with rotations only on scalars; got {name!r} "
            f"on {irrep}; use a gate, norm_activation, sphere_activation or a tensor product"
        )
    if irrep.p == 1:
        return irrep
    if parity_of(name) == 0:
        raise ValueError(
            f"on pseudo-scalars (0o) a function is odd or even, or reflections change the result "
            f"by more than a sign; got {name!r}; use tanh (0o -> 0o) or abs (0o -> 0e)"
        )
    return Irrep(0, 1 if parity_of(name) == 1 else -1)


def norm_activation(x: Blocks, name: str = "sigmoid") -> dict[Irrep, Array]:
    """Every vector of an irrep times f of its mean square |x|^2 / (2l+1).

    The square, not the norm, so that all derivatives exist at zero. Scalars are treated alike.
    """
    square = lambda block: (block * block).mean(-2, keepdims=True)
    return {irrep: block * activate(square(block), name) for irrep, block in x.items()}


def sphere_activation(
    x: Float[Array, "*n m channel"],
    name: str = "silu",
    *,
    scalars: Float[Array, "*n channel"] | None = None,
    degree: int | None = None,
) -> Float[Array, "*n m channel"]:
    """f of the values of the signal on the sphere, projected back on the degrees of x.

    Only approximately equivariant: f of a signal has all degrees, and those that the quadrature
    does not resolve are aliased. The error falls fast with `degree`. The identity is exact.

    Args:
        x: features of natural parity.
        name: in `ACTIVATIONS`.
        scalars: if given, degree 0 of the result is f of these instead (separable activation).
        degree: of the quadrature; 4 lmax + 2 if None.

    References:
        Liao, Wood, Das, Smidt, "EquiformerV2", 2023, https://arxiv.org/abs/2306.12059.
    """
    lmax = so3.degree(x)
    grid = so3.sphere(4 * lmax + 2 if degree is None else degree)
    table = so3.harmonics_table(grid.points, lmax) / (lmax + 1)
    values = jnp.einsum("pm,...mc->...pc", jnp.asarray(table, x.dtype), x)
    back = jnp.asarray(table.T * grid.weights * (lmax + 1) ** 2, x.dtype)
    out = jnp.einsum("mp,...pc->...mc", back, activate(values, name))
    if scalars is None:
        return out
    return jnp.concatenate([activate(scalars, name)[..., None, :], out[..., 1:, :]], -2)
