"""Products of other libraries for `products-speed.py`, which runs this file in their environment.

Each library gets its operands in the layout it likes best, harmonics where it wants harmonics, and
returns what it returns: its own order of paths, its own layout.
"""

from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from typing import Any, NamedTuple

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
from product_cases import NODES, Case, Numbers, numbers, paths
from timed import Timed, serve


class Space(NamedTuple):
    """All degrees up to lmax, natural parity, as each library writes it."""

    case: Case

    @property
    def irreps(self) -> e3nn.Irreps:
        return e3nn.Irreps.spherical_harmonics(self.case.lmax)

    @property
    def wide(self) -> e3nn.Irreps:
        return e3nn.Irreps([(self.case.channels, ir) for _, ir in self.irreps])

    @property
    def keep(self) -> list[e3nn.Irrep]:
        return [ir for _, ir in self.irreps]

    def harmonics(self, vectors: Any) -> e3nn.IrrepsArray:
        return e3nn.spherical_harmonics(range(self.case.lmax + 1), _vectors(vectors), True)

    def channels_first(self, x: np.ndarray) -> np.ndarray:
        """Rows of e3nn's layout: degree, channel, m."""
        degrees = range(self.case.lmax + 1)
        parts = [x[:, l * l : (l + 1) ** 2].swapaxes(1, 2) for l in degrees]
        return np.concatenate([part.reshape(len(x), -1) for part in parts], 1)


def _vectors(vectors: Any) -> e3nn.IrrepsArray:
    return e3nn.IrrepsArray("1o", vectors)


def _flat(weights: np.ndarray) -> np.ndarray:
    return weights.reshape(len(weights), -1)


# Products with weights: of (x, vectors or harmonics, weights) of edges.


def e3nn_product(space: Space, turned: bool) -> Callable[..., Any]:
    """e3nn-jax on irreps with multiplicities; `turned` turns the edges to the pole (eSCN)."""

    def product(x, y, w):
        x = e3nn.IrrepsArray(space.wide, x)
        if turned:
            lmax = space.case.lmax
            out = e3nn.tensor_product_with_spherical_harmonics(x, _vectors(y), lmax)
            return (out.filter(keep=space.keep) * w).array
        y = e3nn.IrrepsArray(space.irreps, y)
        return (e3nn.tensor_product(x, y, filter_ir_out=space.keep) * w).array

    return product


def e3nn_last(space: Space) -> Callable[..., Any]:
    """e3nn-jax, mapped over channels, which are the last axis."""

    def one(x, y, w):
        x, y = e3nn.IrrepsArray(space.irreps, x), e3nn.IrrepsArray(space.irreps, y)
        return (e3nn.tensor_product(x, y, filter_ir_out=space.keep) * w).array

    return jax.vmap(one, (-1, None, -1), -1)


def e3j_product(space: Space) -> Callable[..., Any]:
    """e3j, mlip's backend, channels trailing."""
    from e3j.core.scalar_mixing import ScalarMixing  # pyright: ignore
    from e3j.core.tensor_product import TensorProduct  # pyright: ignore

    name = str(space.irreps)
    options: Any = {"layout": "TRAILING_CHANNELS", "normalization": "SQRT_DIM_OUT"}
    product = TensorProduct((name, name), name, **options)
    mix = ScalarMixing(product.target, layout=options["layout"])
    return lambda x, y, w: mix(w, product(x, y))


def cue_product(space: Space, flat: bool) -> Callable[..., Any]:
    """cuequivariance-jax; `flat` has a path for each coefficient, which its GPU kernel needs."""
    import cuequivariance as cue  # pyright: ignore
    import cuequivariance_jax as cuex  # pyright: ignore

    irreps = cue.Irreps("O3", str(space.irreps))
    wide = space.case.channels * irreps
    polynomial = cue.descriptors.channelwise_tensor_product(wide, irreps, irreps).polynomial
    if flat:
        polynomial = polynomial.flatten_coefficient_modes().squeeze_modes()
    method = "uniform_1d" if flat and jax.default_backend() == "gpu" else "naive"

    def product(x, y, w, senders=None, receivers=None):
        rows = y.shape[0] if receivers is None else NODES
        out = jax.ShapeDtypeStruct((rows, polynomial.outputs[0].size), x.dtype)
        indices = [None, senders, None, receivers]
        return cuex.segmented_polynomial(polynomial, [w, x, y], [out], indices, method=method)[0]

    return product


def e3j_convolution(space: Space) -> Callable[..., Any]:
    from e3j.core.convolution import Convolution  # pyright: ignore

    name = str(space.irreps)
    return Convolution((name, name), name, graph_ordering="NONE")


# Products without weights, of two arrays [batch, m].


def e3nn_plain(space: Space) -> Callable[..., Any]:
    def product(x, y):
        x, y = e3nn.IrrepsArray(space.irreps, x), e3nn.IrrepsArray(space.irreps, y)
        return e3nn.tensor_product(x, y, filter_ir_out=space.keep).array

    return product


def _grid(lmax: int) -> dict[str, Any]:
    """The smallest grid that integrates three degrees lmax exactly; FFTs want odd res_alpha."""
    return {
        "res_beta": (3 * lmax + 2) // 2,
        "res_alpha": 3 * lmax + 1 + lmax % 2,
        "quadrature": "gausslegendre",
    }


def e3nn_grid(space: Space, fft: bool) -> Callable[..., Any]:
    """Signals on a grid by e3nn-jax; `fft` is for the way back."""
    up = partial(e3nn.to_s2grid, p_val=1, p_arg=-1, fft=False, **_grid(space.case.lmax))

    def product(x, y):
        x, y = e3nn.IrrepsArray(space.irreps, x), e3nn.IrrepsArray(space.irreps, y)
        return e3nn.from_s2grid(up(x) * up(y), space.irreps, fft=fft).array

    return product


def freedom_grid(space: Space, fft: bool) -> Callable[..., Any]:
    """PriceofFreedom; it calls what `e3nn_grid` calls."""
    from freedom.tensor_products import functional  # pyright: ignore

    options = {"p_val1": 1, "p_val2": 1, "s2grid_fft": fft, "filter_ir_out": space.keep}

    def product(x, y):
        x, y = e3nn.IrrepsArray(space.irreps, x), e3nn.IrrepsArray(space.irreps, y)
        grid = _grid(space.case.lmax)
        return functional.gaunt_tensor_product_s2grid(x, y, **grid, **options).array

    return product


def mlip_gaunt(space: Space) -> Callable[..., Any]:
    from mlip.models.gaunt_tensor_product import GauntTensorProduct  # pyright: ignore

    product = GauntTensorProduct((space.irreps, space.irreps), space.irreps)

    def array(x, y):
        x, y = e3nn.IrrepsArray(space.irreps, x), e3nn.IrrepsArray(space.irreps, y)
        return product(x, y).array

    return array


CG, LAST, ESCN = "e3nn-jax", "e3nn-jax, channels last", "e3nn-jax, eSCN"
CUE, FLAT = "cuequivariance-jax", "cuequivariance-jax, flat"
GRID, FFT, MLIP = "e3nn-jax s2grid", "e3nn-jax s2grid, fft", "mlip Gaunt"
FREE, FREE_FFT = "PriceofFreedom s2grid", "PriceofFreedom s2grid_fft"
EDGES: dict[str, Callable[[Space], Callable[..., Any]]] = {
    CG: partial(e3nn_product, turned=False),
    LAST: e3nn_last,
    ESCN: partial(e3nn_product, turned=True),
    "e3j": e3j_product,
    CUE: partial(cue_product, flat=False),
    FLAT: partial(cue_product, flat=True),
}
SIGNALS: dict[str, Callable[[Space], Callable[..., Any]]] = {
    CG: e3nn_plain,
    GRID: partial(e3nn_grid, fft=False),
    FFT: partial(e3nn_grid, fft=True),
    MLIP: mlip_gaunt,
    FREE: partial(freedom_grid, fft=False),
    FREE_FFT: partial(freedom_grid, fft=True),
}


def methods(case: list[Any]) -> list[str]:
    """What is installed: PriceofFreedom is optional."""
    missing = (FREE, FREE_FFT) if _no_freedom() else ()
    return [name for name in (SIGNALS if case[0] == "B" else EDGES) if name not in missing]


def prepare(case: list[Any], name: str) -> Timed:
    space = Space(Case(*case))
    given = numbers(space.case)
    return {"A": _edges, "B": _signals, "C": _convolution}[space.case.table](space, name, given)


def _layout(space: Space, name: str, given: Numbers) -> tuple[Any, Any]:
    """x and weights as the library wants them."""
    if name in (LAST, "e3j"):
        return jnp.asarray(given.x), jnp.asarray(given.weights)
    if name in (CG, ESCN):
        return jnp.asarray(space.channels_first(given.x)), jnp.asarray(_flat(given.weights))
    return jnp.asarray(_flat(given.x)), jnp.asarray(_flat(given.weights))


def _edges(space: Space, name: str, given: Numbers) -> Timed:
    x, w = _layout(space, name, given)
    vectors = jnp.asarray(given.vectors)
    y = vectors if name == ESCN else space.harmonics(vectors).array
    return Timed(EDGES[name](space), (x, y, w), weights=2)


def _signals(space: Space, name: str, given: Numbers) -> Timed:
    degree = np.repeat(np.arange(space.case.lmax + 1), 2 * np.arange(space.case.lmax + 1) + 1)
    # mlip's harmonics have unit norm, ours and e3nn's unit components
    scale = np.sqrt(2 * degree + 1).astype(np.float32) if name == MLIP else np.float32(1)

    def norm(out: Any) -> float:
        rows = np.asarray(out) * scale
        if name == CG:  # paths are not summed: those into a degree stand one after the other
            into = [l3 for _, _, l3 in paths(space.case.lmax)]
            sizes = [into.count(l) * (2 * l + 1) for l in range(space.case.lmax + 1)]
            blocks = np.split(rows, np.cumsum(sizes)[:-1], 1)
            summed = [
                block.reshape(len(rows), -1, 2 * l + 1).sum(1) for l, block in enumerate(blocks)
            ]
            rows = np.concatenate(summed, 1)
        return float((rows**2).sum())

    operands = (jnp.asarray(given.x[..., 0] * scale), jnp.asarray(given.y[..., 0] * scale))
    return Timed(SIGNALS[name](space), operands, norm=norm)


def _convolution(space: Space, name: str, given: Numbers) -> Timed:
    x, w = _layout(space, name, given)
    product = e3j_convolution(space) if name == "e3j" else EDGES[name](space)

    def convolve(x, vectors, w, senders, receivers):
        y = vectors if name == ESCN else space.harmonics(vectors).array
        if name in ("e3j", FLAT):  # they gather and sum themselves
            return product(x, y, w, senders, receivers)
        messages = product(x[senders], y, w)
        return jax.ops.segment_sum(messages, receivers, NODES, indices_are_sorted=True)

    ends = (jnp.asarray(given.senders), jnp.asarray(given.receivers))
    return Timed(convolve, (x, jnp.asarray(given.vectors), w), ends, weights=2)


def about() -> dict[str, Any]:
    """Versions, and why the optional peer is missing."""
    names = ["jax", "e3nn-jax", "e3j", "mlip", "cuequivariance-jax"]
    facts = {name: version(name) for name in names}
    reason = _no_freedom()
    stand = f"its products call e3nn-jax's transforms as the rows {GRID!r} and {FFT!r} do"
    facts["PriceofFreedom"] = f"not measured ({reason}); {stand}" if reason else "a7dbecc"
    return {"versions": facts}


@cache
def _no_freedom() -> str:
    """Why PriceofFreedom cannot be used; empty if it can."""
    try:
        from freedom.tensor_products import functional  # noqa: F401 # pyright: ignore
    except ImportError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    serve(methods, prepare, about)
