"""The GPU kernel, interpreted, against the XLA form; and that it is lowered for GPUs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import Spec, convolution
from geojax.products.cg import Coefficients
from geojax.products.edges import OverEdges, derivative
from geojax.products.pallas import Pallas, run
from geojax.so3 import paths

EDGES, NODES, CHANNELS = 9, 4, 64


def operands(key, form):
    """Arrays of every argument (x and out at nodes), senders, receivers in ascending order."""
    keys = jax.random.split(key, 6)
    size = {"x": NODES, "out": NODES, "y": EDGES, "w": EDGES}
    arrays = {
        name: jax.random.normal(
            k, (size[name], form.spec.rows(name), 1 if name == "y" and form.thin else CHANNELS)
        )
        for k, name in zip(keys, form.arguments, strict=False)
    }
    senders, receivers = (jax.random.randint(k, (EDGES,), 0, NODES - 1) for k in keys[4:])
    return arrays, senders, jnp.sort(receivers)


@pytest.mark.parametrize("target", ["out", "x", "y", "w"])
@pytest.mark.parametrize(
    "lmax, thin, layout",
    [
        (1, True, "keep"),
        pytest.param(1, False, "sum", marks=pytest.mark.slow),
        pytest.param(2, True, "keep", marks=pytest.mark.slow),
    ],
)
def test_the_kernel_computes_every_derivative(key, target, lmax, thin, layout):
    """The last node has no edges."""
    form = Coefficients(Spec(lmax, lmax, lmax, "even", layout), True, thin)
    arrays, *places = operands(key, form)
    result = arrays.pop(target)
    over = OverEdges(form, ("x", "out"), NODES)
    expected = derivative(over, target)(*arrays.values(), *places)
    kernel = partial(run, form, ("x", "out"), target, result.shape, interpret=True)
    found = jax.jit(kernel)(*arrays.values(), *places)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_the_kernel_without_nodes(key):
    """A product of rows: nothing is gathered or summed."""
    form = Coefficients(Spec(1, 1, 1, "all", "keep"), False, True)
    x, y = jax.random.normal(key, (EDGES, 4, CHANNELS)), jax.random.normal(key, (EDGES, 4, 1))
    shape = (EDGES, form.spec.rows("out"), CHANNELS)
    found = run(form, (), "out", shape, x, y, interpret=True)
    expected = derivative(OverEdges(form), "out")(x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def lowered(channels, dtype="float32"):
    """The program of a gradient for GPUs."""
    shapes = [(NODES, 4, channels), (EDGES, 4, 1), (EDGES, len(paths(1, 1, 1)), channels)]
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    places = [jax.ShapeDtypeStruct((EDGES,), "int32")] * 2
    product = partial(convolution, lmax=1, method="cg-pallas")
    energy = lambda *a: (product(*a) ** 2).sum()
    traced = jax.jit(jax.grad(energy, (0, 1, 2))).trace(*arrays, *places)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def test_gpus_get_the_kernel_where_it_fits():
    """The product and its three cotangents; odd widths and other precisions stay with XLA."""
    assert lowered(64).count("triton") >= 4
    assert "triton" not in lowered(48)
    assert "triton" not in lowered(64, "bfloat16")


def test_forms_that_do_not_fit():
    """Too many rows for registers, too many terms to write out."""
    for lmax in (4, 5):
        form = Pallas(Spec(lmax, lmax, lmax, "even", "keep"), False, True)
        arrays = [jax.ShapeDtypeStruct((EDGES, (lmax + 1) ** 2, c), jnp.float32) for c in (64, 1)]
        assert form.native((), "out", "cuda", jnp.zeros((EDGES, 1, 64)), *arrays) is None
