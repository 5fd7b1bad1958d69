"""Derivatives of a form are its other maps; rows and their assembly."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geojax.products import Spec
from geojax.products.form import assemble, derivative, rows_of


class Triple(NamedTuple):
    """F(a, b, c) = sum of a b c; counts how often each derivative is evaluated."""

    counts: tuple[str, ...] = ("a", "b", "c")

    @property
    def arguments(self):
        return self.counts

    def evaluate(self, target, given):
        CALLED.append(target)
        first, second = given.values()
        return first * second


CALLED: list[str] = []


def test_cotangents_are_the_other_maps(x64, key):
    b, c, g = jax.random.normal(key, (3, 4))
    value, pull = jax.vjp(derivative(Triple(), "a"), b, c)
    np.testing.assert_allclose(value, b * c)
    CALLED.clear()
    for found, expected in zip(pull(g), (g * c, g * b), strict=True):
        np.testing.assert_allclose(found, expected)
    assert sorted(set(CALLED)) == ["b", "c"]


def test_equal_forms_share_their_maps():
    assert derivative(Triple(), "a") is derivative(Triple(), "a")


def test_rows():
    spec = Spec(2, 1, 3, "even", "sum")
    assert [rows_of(spec, name) for name in ("x", "y", "out")] == [9, 4, 16]
    kept = spec._replace(layout="keep")
    assert rows_of(kept, "w") == len(spec.paths())
    assert rows_of(kept, "out") == sum(2 * path.l3 + 1 for path in spec.paths())


def test_assemble_adds_what_meets_and_fills_the_gaps():
    ones = jnp.ones((2, 3, 1))
    out = assemble({1: [ones, ones], 6: [ones[:, :1]]}, 9)
    np.testing.assert_allclose(out[..., 0], [[0, 2, 2, 2, 0, 0, 1, 0, 0]] * 2)
