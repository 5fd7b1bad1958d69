"""The plan of signals by parity, and transforms against their transposes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.products import Spec
from geojax.products.gaunt_fft import Torus
from geojax.products.pointwise import Coupling, Field, Table, plan_by_parity

VALUES = [Field(0, 0, 1, odd=False)]


def plan(spec, fields=VALUES):
    return plan_by_parity(spec, fields, lambda name, field, group: Table(np.ones((1, 99)), group))


def test_even_and_odd_degrees_couple_by_parity():
    found = plan(Spec(2, 1, 2, "even", "sum"))
    rows = lambda blocks: [block.rows for block in blocks]
    assert rows(found.x) == [(slice(0, 1), slice(4, 9)), (slice(1, 4),)]
    assert rows(found.y) == [(slice(0, 1),), (slice(1, 4),)]
    even, odd = 0, 1
    assert set(found.couplings) == {
        Coupling(even, even, even),
        Coupling(even, odd, odd),
        Coupling(odd, even, odd),
        Coupling(odd, odd, even),
    }


def test_odd_fields_couple_the_other_way():
    found = plan(Spec(1, 1, 1, "odd", "sum"), [Field(0, 0, 1, odd=True)])
    assert all((c.out + c.x + c.y) % 2 == 1 for c in found.couplings)


def test_kept_paths_are_coupled_one_by_one():
    spec = Spec(2, 2, 2, "even", "keep")
    found = plan(spec)
    assert [(c.x, c.y) for c in found.couplings] == [path[:2] for path in spec.paths()]
    assert [c.out for c in found.couplings] == list(range(len(spec.paths())))


@pytest.mark.parametrize("degrees", [(0, 2), (1,)])
@pytest.mark.parametrize("dual", [None, 4])
def test_down_is_the_transpose_of_up(x64, key, degrees, dual):
    """<points, up(rows)> = <down(points), rows>."""
    rows = jax.random.normal(key, (2, sum(2 * l + 1 for l in degrees), 3))
    for transform in (Torus(degrees, (8, 9), dual), Table(np.random.normal(size=(7, 16)), degrees)):
        points = transform.up(rows)
        other = jax.random.normal(jax.random.fold_in(key, 1), points.shape)
        inner = jnp.vdot(points, other), jnp.vdot(rows, transform.down(other))
        np.testing.assert_allclose(*inner, rtol=1e-12)
