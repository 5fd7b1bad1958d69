"""What users call: the product of features row by row, and its sum over edges.

Here operands are checked, made alike and handed to the kernel of a name; see `product` for what
kernels compute.
"""

from typing import Any, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from geojax import so3
from geojax.products.edges import contract
from geojax.products.product import (
    PRODUCTS,
    Direction,
    Layout,
    Product,
    Spec,
    choose,
    kept_layout,
    weight_rows,
)

__all__ = ["convolution", "tensor_product"]


def tensor_product(
    x: Float[Array, "... m1 channel"],
    y: Float[Array, "... m2 #channel"] | Direction,
    weights: Float[Array, "... path channel"] | None = None,
    *,
    lmax: int,
    method: str = "auto",
    paths: Layout = "sum",
    parity: so3.Parity = "even",
) -> Float[Array, "... m3 channel"]:
    """The product of spherical features x and y up to degree lmax.

    Batch axes of the three operands broadcast against each other (also in number), so weights
    `[path, channel]` are shared by the whole batch.

    Args:
        x: features of all degrees up to some lmax_x.
        y: features with the channels of x, or with one channel that couples to all; or the
            `Direction` of edges, whose harmonics are then the features.
        weights: one factor per path (in the order of `so3.paths`) and channel; None means one. For
            methods of the family "gaunt" one per degree 0 ... lmax_x of x, then of y, then of the
            result, and channel.
        lmax: largest degree of the result.
        method: a name in `PRODUCTS`, or "auto": the one of the coupled family that was fastest on
            this backend for such degrees and channels.
        paths: "sum" adds the paths into each degree, m3 = (lmax+1)**2. "keep" leaves them apart: m3
            is the sum of 2*l3+1 over all paths, degree after degree, path after path within a
            degree; `split_kept` cuts that into blocks for a linear layer.
        parity: "even" couples natural with natural parity (or pseudo with pseudo) to natural
            parity, and natural with pseudo to pseudo; "odd" the other way round, as the cross
            product does; "all" both at once, which respects rotations but no reflections.

    Raises:
        KeyError: no product of this name.
        TypeError: an operand is not floating point, or not what its place asks for.
        ValueError: shapes that do not fit, with the shapes; degrees or parities that the method
            cannot couple.
    """
    chosen, spec, y = _resolve(x, y, weights, lmax, method, paths, parity)
    x, y, weights = _alike(x, y, weights)
    if not spec.paths():
        return jnp.zeros((*x.shape[:-2], spec.rows("out"), x.shape[-1]), x.dtype)
    if chosen.family == "gaunt" and weights is not None:
        of_x, of_y, of_out = _by_degree(weights, spec)
        assert not isinstance(y, Direction), "no gaunt product takes directions"
        return contract(chosen.kernel(y * of_y, None, spec, x.shape[-1]), x * of_x) * of_out
    return contract(chosen.kernel(y, weights, spec, x.shape[-1]), x)


def convolution(
    x: Float[Array, "node m1 channel"],
    y: Float[Array, "edge m2 #channel"] | Direction,
    weights: Float[Array, "edge path channel"] | None,
    senders: Int[Array, "edge"],
    receivers: Int[Array, "edge"],
    *,
    lmax: int,
    method: str = "auto",
    paths: Layout = "sum",
    parity: so3.Parity = "even",
) -> Float[Array, "node m3 channel"]:
    """The sum of `tensor_product(x[sender], y, weights)` over the edges that end at each node.

    Nothing is kept per edge but the operands, in no derivative; on a CPU large convolutions go
    through the edges in chunks.

    Args:
        x: features of nodes.
        y, weights, lmax, method, paths, parity: as in `tensor_product`, one row per edge.
        senders: the node of x that each edge reads.
        receivers: the node that it ends at, in ascending order.

    Raises:
        KeyError, TypeError, ValueError: as `tensor_product`.
    """
    chosen, spec, y = _resolve(x, y, weights, lmax, method, paths, parity)
    nodes, channels = x.shape[0], x.shape[-1]
    if not spec.paths():
        return jnp.zeros((nodes, spec.rows("out"), channels), x.dtype)
    if chosen.family == "gaunt" and weights is not None:  # they are factors of x at each edge
        sent = x.at[senders].get(mode="promise_in_bounds")
        options = {"lmax": lmax, "method": method, "paths": paths, "parity": parity}
        messages = tensor_product(sent, y, weights, **options)
        return jax.ops.segment_sum(messages, receivers, nodes, indices_are_sorted=True)
    x, y, weights = _one_dtype(x, y, weights)
    bound = chosen.kernel(y, weights, spec, channels)
    return contract(bound, x, {"x": senders, "out": receivers}, nodes)


def _resolve(
    x: Any, y: Any, weights: Any, lmax: int, method: str, paths: Layout, parity: so3.Parity
) -> tuple[Product, Spec, Any]:
    """The checked product that is taken, its spec, and y as it asks for it."""
    _check(x, y, weights, lmax, paths)
    directions = isinstance(y, Direction)
    lmax_y = y.lmax if directions else so3.degree(y)
    spec = Spec(so3.degree(x), lmax_y, lmax, parity, paths)
    name = choose(spec, x.shape[-1], directions) if method == "auto" else method
    chosen = PRODUCTS[name]
    _check_method(name, chosen, spec)
    if chosen.direction and not directions:
        raise TypeError(
            f"the product {name!r} turns features to a direction, so y is a Direction(vectors, "
            "lmax); got features; use a product without directions for two sets of features"
        )
    _check_weights(weights, spec, name, x.shape[-1])
    return chosen, spec, y.harmonics() if directions and not chosen.direction else y


def _check(x: Any, y: Any, weights: Any, lmax: int, paths: str) -> None:
    if isinstance(x, Direction):
        raise TypeError(
            "only the second factor of a product may be a Direction; got one as the first; swap "
            "the factors, or pass x.harmonics()"
        )
    for name, array in (("x", x), ("y", y.unit if isinstance(y, Direction) else y)):
        if not jnp.issubdtype(jnp.result_type(array), jnp.floating):
            raise TypeError(
                f"products are of floating-point arrays; got {name} of {jnp.result_type(array)}"
            )
    if paths not in get_args(Layout):
        raise ValueError(f"paths is one of {get_args(Layout)}; got {paths!r}")
    if lmax < 0:
        raise ValueError(f"the largest degree is 0 or more; got lmax={lmax}")
    if isinstance(y, Direction):
        if y.unit.shape[-1:] != (3,):
            raise ValueError(f"a direction is of vectors [..., 3]; got shape {y.unit.shape}")
    elif y.ndim < 2 or y.shape[-1] not in (1, x.shape[-1]):
        raise ValueError(
            "the second factor has the channels of the first, or one channel; got shapes "
            f"{tuple(x.shape)} and {tuple(y.shape)}; mix the channels with a linear layer first"
        )


def _check_method(name: str, chosen: Product, spec: Spec) -> None:
    if spec.parity not in chosen.parities and spec.parity in get_args(so3.Parity):
        raise ValueError(
            f"the product {name!r} is symmetric in its factors and couples only paths with "
            f"l1+l2+l3 even: it has no cross product; got parity={spec.parity!r}; use "
            "'vector-signal' or a product of the coupled family"
        )
    if chosen.lmax is not None and max(spec[:3]) > chosen.lmax:
        raise ValueError(
            f"the product {name!r} knows degrees up to {chosen.lmax}; got {spec.lmax_x} x "
            f"{spec.lmax_y} -> {spec.lmax}; use 'cg' or 'auto'"
        )


def _check_weights(weights: Any, spec: Spec, name: str, channels: int) -> None:
    if weights is None:
        return
    count = weight_rows(name, spec)
    if weights.ndim < 2 or weights.shape[-2:] != (count, channels):
        coupled = PRODUCTS[name].family == "coupled"
        per = "path" if coupled else "degree of x, of y and of the result"
        raise ValueError(
            f"weights have one row per {per} and the channels of x, [..., {count}, {channels}] for "
            f"degrees {spec.lmax_x} x {spec.lmax_y} -> {spec.lmax} and parity {spec.parity!r}; "
            f"got shape {tuple(weights.shape)}; so3.paths lists the paths"
        )


def _by_degree(weights: Array, spec: Spec) -> tuple[Array, Array, Array]:
    """The weights of a gaunt product as factors of the rows of x, y and the result."""
    ends = (spec.lmax_x + 1, spec.lmax_x + spec.lmax_y + 2)
    of_x, of_y, of_out = jnp.split(weights, ends, axis=-2)
    expand = so3.expand_by_degree
    if spec.layout == "sum":
        return expand(of_x), expand(of_y), expand(of_out)
    counts = kept_layout(*spec[:3], parity=spec.parity)
    rows = [
        jnp.repeat(of_out[..., l : l + 1, :], n * (2 * l + 1), -2) for l, n in enumerate(counts)
    ]
    return expand(of_x), expand(of_y), jnp.concatenate(rows, -2)


def _alike(x: Any, y: Any, weights: Any) -> tuple[Array, Any, Array | None]:
    """The operands with one dtype and equal batch axes."""
    x, y, weights = _one_dtype(x, y, weights)
    direction = isinstance(y, Direction)
    own = {"x": (x, 2), "y": (y.unit, 1) if direction else (y, 2)}
    if weights is not None:
        own["weights"] = (weights, 2)
    shapes = {name: array.shape[: array.ndim - n] for name, (array, n) in own.items()}
    try:
        batch = jnp.broadcast_shapes(*shapes.values())
    except ValueError:
        raise ValueError(f"batch axes of a product broadcast; got {shapes}") from None
    full = {
        name: jnp.broadcast_to(array, (*batch, *array.shape[array.ndim - n :]))
        for name, (array, n) in own.items()
    }
    return full["x"], Direction(full["y"], y.lmax) if direction else full["y"], full.get("weights")


def _one_dtype(x: Any, y: Any, weights: Any) -> tuple[Array, Any, Array | None]:
    second = y.unit if isinstance(y, Direction) else y
    dtype = jnp.result_type(*(a for a in (x, second, weights) if a is not None))
    cast = lambda a: jnp.asarray(a, dtype)
    y = Direction(cast(y.unit), y.lmax) if isinstance(y, Direction) else cast(y)
    return cast(x), y, None if weights is None else cast(weights)
