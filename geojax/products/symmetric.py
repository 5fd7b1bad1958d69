"""Powers of features, x, x^2, ... x^n, back to features: MACE's symmetric contraction.

Channel by channel, with U an orthonormal basis of all equivariant maps from symmetric tensors to
each degree (`symmetric_basis`) and a weight for each of its paths,

    out_lm = sum over orders and paths of w_path sum_ij... U^(l, order)_{ij..., path, m} x_i x_j ...

The tensor x x x ... is never formed. If the components of x are independent and of unit variance,
paths of order one have unit variance, and those of higher orders a little more, because powers of
one component correlate. Sums over paths are plain sums.

The "gaunt" method takes powers of the signal f(n) = sum_lm x_lm Y_lm(n) on the sphere,

    out_lm = sum over orders of w_{l, order} (mean over n of f(n)^order Y_lm(n))

It needs about (order lmax)^2 points, compiles quickly at any degrees, and on a CPU is slower than
"cg" up to lmax 3 at least (3 to 6 times forward). And it has one weight for each order and
degree, where the cube of degrees 0 ... 3 has 8 paths to scalars and 12 to vectors:
the strengths of contents like (1, 1, 2) and (2, 2, 2) are fixed relative to each other (scaling
the degrees of x beforehand frees some of them), and couplings through pseudo-tensors, as in
((1 2) 2) 1 with (1 2) 2 odd, have no strength of their own. Every map that it has is also one of
"cg", with fixed weights.

References:
    Batatia, Kovács, Simm, Ortner, Csányi, "MACE: Higher order equivariant message passing neural
    networks for fast and accurate force fields", 2022, https://arxiv.org/abs/2206.07697 (eq. 10).
    Luo, Chen, Krishnapriyan, "Enabling efficient equivariant operations in the Fourier basis via
    Gaunt tensor products", 2024, https://arxiv.org/abs/2401.10216 (powers of signals).
"""

from typing import Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax import so3
from geojax.products import polynomial
from geojax.products.symmetric_form import Couplings, SignalPowers, WeightBlock

__all__ = ["Contraction", "symmetric_blocks", "symmetric_contraction"]

Contraction = Literal["cg", "gaunt"]


def symmetric_contraction(
    x: Float[Array, "... m channel"],
    weights: Float[Array, "... path channel"],
    *,
    lmax: int,
    correlation: int,
    method: Contraction = "cg",
) -> Float[Array, "... m3 channel"]:
    """The sum of all powers of x up to x^correlation, each path with its weight, up to degree lmax.

    Derivatives of any order, in both modes, are as fast as the value (see `polynomial`). Batch axes
    broadcast, so weights `[path, channel]` are shared by all nodes.

    Args:
        x: features of natural parity, of all degrees up to some lmax_x.
        weights: in the order of `symmetric_blocks`: by degree of the result, then by order.
        lmax: largest degree of the result, of natural parity too.
        correlation: the highest power.
        method: "cg" has every equivariant map; "gaunt" those that are powers of a signal.

    Raises:
        TypeError: an operand is not floating point.
        ValueError: shapes that do not fit, with the shapes; lmax, correlation or method that are
            not possible.
    """
    form = _form(so3.degree(x), lmax, correlation, method)
    for name, array in (("x", x), ("weights", weights)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"contractions are of floating-point arrays; got {name} of {array.dtype}"
            )
    own = (form.rows("w"), x.shape[-1])
    if weights.ndim < 2 or weights.shape[-2:] != own:
        raise ValueError(
            f"weights have one row per path and the channels of x, [..., {own[0]}, {own[1]}] for "
            f"degrees up to {form.lmax_x} to degrees up to {lmax}, correlation {correlation} and "
            f"method {method!r}; got shape {tuple(weights.shape)}; symmetric_blocks lists the rows"
        )
    try:
        batch = jnp.broadcast_shapes(x.shape[:-2], weights.shape[:-2])
    except ValueError:
        raise ValueError(
            "batch axes of a contraction broadcast; got shapes "
            f"{tuple(x.shape)} of x and {tuple(weights.shape)} of the weights"
        ) from None
    dtype = jnp.result_type(x, weights)
    w, x = (
        jnp.broadcast_to(a, (*batch, *a.shape[-2:])).reshape(-1, *a.shape[-2:]).astype(dtype)
        for a in (weights, x)
    )
    out = polynomial.apply(form, w, x)
    return out.reshape(*batch, *out.shape[1:])


def symmetric_blocks(
    lmax_x: int, lmax: int, correlation: int, *, method: Contraction = "cg"
) -> tuple[WeightBlock, ...]:
    """Which rows of the weights belong to which degree of the result and order of x.

    Within a block of "cg" the rows are the paths of `symmetric_basis(lmax_x, l, order)`; a block of
    "gaunt" has one row. The last block ends at the number of all weights.
    """
    return _form(lmax_x, lmax, correlation, method).blocks()


def _form(
    lmax_x: int, lmax: int, correlation: int, method: Contraction
) -> Couplings | SignalPowers:
    if method not in get_args(Contraction):
        raise ValueError(f"method is one of {get_args(Contraction)}; got {method!r}")
    if min(lmax_x, lmax) < 0 or correlation < 1:
        raise ValueError(
            "degrees are 0 or more and the highest power is 1 or more; got "
            f"lmax_x={lmax_x}, lmax={lmax}, correlation={correlation}"
        )
    return {"cg": Couplings, "gaunt": SignalPowers}[method](lmax_x, lmax, correlation)
