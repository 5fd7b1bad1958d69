"""What a product would do: the method that is taken, its cost, and what other methods cannot do."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geojax import so3
from geojax.products.couple import tensor_product
from geojax.products.product import (
    PRODUCTS,
    Direction,
    Family,
    Layout,
    Spec,
    choose,
    weight_rows,
)

__all__ = ["Cost", "Explanation", "explain"]


class Cost(NamedTuple):
    """Of one method, for the value and its gradient in all operands.

    Attributes:
        method: the name.
        flops: operations, as XLA counts them; NaN for machine code that it does not see.
        bytes: read and written, likewise.
        temporary: bytes of memory that neither operands nor results need.
        compile: seconds.
        time: median seconds of a run.
    """

    method: str
    family: Family
    flops: float
    bytes: float
    temporary: int
    compile: float
    time: float


class Explanation(NamedTuple):
    """What `explain` found.

    Attributes:
        method: what `tensor_product` takes.
        costs: of that method, and of the others if they were asked for; the fastest first.
        lost: paths that a product of two signals cannot represent (l1 + l2 + l3 odd).
        refused: methods that cannot compute this product, with the reason.
    """

    method: str
    backend: str
    costs: tuple[Cost, ...]
    lost: tuple[so3.Path, ...]
    refused: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.method} is taken on {self.backend}; value and gradient cost:"]
        lines.append(f"{'method':15}{'ms':>9}{'MFLOP':>9}{'MB moved':>10}{'MB extra':>10}")
        for cost in self.costs:
            lines.append(
                f"{cost.method:15}{cost.time * 1e3:9.3g}{cost.flops / 1e6:9.4g}"
                f"{cost.bytes / 1e6:10.4g}{cost.temporary / 1e6:10.4g}"
            )
        if self.lost:
            listed = ", ".join("{}x{}->{}".format(*path) for path in self.lost)
            lines.append(f"gaunt products lack the antisymmetric couplings {listed}")
        lines += [f"{name} cannot: {reason}" for name, reason in self.refused.items()]
        return "\n".join(lines)


def explain(
    lmax_x: int,
    lmax_y: int,
    lmax: int,
    *,
    batch: int = 1024,
    channels: int = 32,
    channels_y: int = 1,
    weighted: bool = True,
    directions: bool = False,
    method: str = "auto",
    paths: Layout = "sum",
    parity: so3.Parity = "even",
    others: bool = False,
    repeat: int = 10,
) -> Explanation:
    """Compile and run a product, on this machine, with random operands of these sizes.

    Args:
        lmax_x, lmax_y, lmax: the degrees of x, of y and of the result.
        batch: rows, for example edges.
        channels: of x.
        channels_y: of y, 1 or those of x.
        weighted: with a weight per row, path and channel.
        directions: y is a `Direction`.
        method, paths, parity: as in `tensor_product`.
        others: all methods, not only the one that is taken.
        repeat: runs for the median.
    """
    spec = Spec(lmax_x, lmax_y, lmax, parity, paths)
    taken = choose(spec, channels, directions) if method == "auto" else method
    refused, costs = {}, []
    for name in PRODUCTS if others else [taken]:
        try:
            operands = _operands(name, spec, batch, channels, channels_y, weighted, directions)
            costs.append(_cost(name, spec, operands, repeat))
        except (TypeError, ValueError) as error:
            if name == taken:
                raise
            refused[name] = str(error).split(";")[0]
    everything = so3.paths(lmax_x, lmax_y, lmax, parity="all")
    lost = tuple(path for path in everything if sum(path) % 2) if parity != "even" else ()
    costs.sort(key=lambda cost: cost.time)
    return Explanation(taken, jax.default_backend(), tuple(costs), lost, refused)


def _operands(
    name: str,
    spec: Spec,
    batch: int,
    channels: int,
    channels_y: int,
    weighted: bool,
    directions: bool,
) -> list[Any]:
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=(batch, *shape)), jnp.float32)
    y = normal(3) if directions else normal((spec.lmax_y + 1) ** 2, channels_y)
    operands = [normal((spec.lmax_x + 1) ** 2, channels), y]
    if weighted:
        operands.append(normal(weight_rows(name, spec), channels))
    return operands


def _cost(name: str, spec: Spec, operands: list[Any], repeat: int) -> Cost:
    def energy(x, y, *weights):
        second = Direction(y, spec.lmax_y) if y.ndim == 2 else y
        options = {"lmax": spec.lmax, "method": name, "paths": spec.layout, "parity": spec.parity}
        return (tensor_product(x, second, *weights, **options) ** 2).sum()

    numbers = tuple(range(len(operands)))
    start = time.perf_counter()
    program = jax.jit(jax.value_and_grad(energy, numbers)).lower(*operands).compile()
    compiled = time.perf_counter() - start
    runs = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        jax.block_until_ready(program(*operands))
        runs.append(time.perf_counter() - start)
    counted: Any = program.cost_analysis() or {}
    memory = program.memory_analysis()
    if PRODUCTS[name].platform == jax.default_backend():
        counted = {}
    return Cost(
        name,
        PRODUCTS[name].family,
        float(counted.get("flops", np.nan)),
        float(counted.get("bytes accessed", np.nan)),
        0 if memory is None else int(memory.temp_size_in_bytes),
        compiled,
        float(np.median(runs[1:])),
    )
