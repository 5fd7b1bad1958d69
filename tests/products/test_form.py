"""Rows and their assembly."""

import jax.numpy as jnp
import numpy as np

from geojax.products.form import assemble


def test_assemble_adds_what_meets_and_fills_the_gaps():
    ones = jnp.ones((2, 3, 1))
    out = assemble({1: [ones, ones], 6: [ones[:, :1]]}, 9)
    np.testing.assert_allclose(out[..., 0], [[0, 2, 2, 2, 0, 0, 1, 0, 0]] * 2)
