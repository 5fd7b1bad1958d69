"""What is taken, what it costs, what the others cannot do."""

import numpy as np
import pytest

from geojax.products import PRODUCTS, Spec, explain
from geojax.products.product import choose


def test_the_method_that_auto_takes_is_measured():
    found = explain(1, 1, 1, batch=16, channels=4, repeat=2)
    assert found.method == choose(Spec(1, 1, 1, "even", "sum"), 4, False)
    (cost,) = found.costs
    assert cost.method == found.method and cost.time > 0
    assert not found.lost and not found.refused
    assert f"{found.method} is taken on cpu" in str(found)


def test_operations_are_counted_where_xla_sees_them():
    (cost,) = explain(1, 1, 1, batch=16, channels=4, method="cg", repeat=1).costs
    assert cost.flops > 16 * 4 and cost.bytes > 16 * 4 * 4 * 4
    (cost,) = explain(1, 1, 1, batch=16, channels=4, method="cg-native", repeat=1).costs
    assert np.isnan(cost.flops) and np.isnan(cost.bytes)


@pytest.mark.slow
def test_others_are_compared_or_say_why_not():
    found = explain(1, 1, 1, batch=8, channels=2, parity="all", others=True, repeat=1)
    assert {cost.method for cost in found.costs} | set(found.refused) == set(PRODUCTS)
    assert set(found.refused) == {"escn", "gaunt-direct", "gaunt-fft", "gaunt-grid"}
    assert [cost.time for cost in found.costs] == sorted(cost.time for cost in found.costs)
    assert found.lost == ((1, 1, 1),)
    assert "lack the antisymmetric couplings 1x1->1" in str(found)


def test_a_method_that_cannot_raises():
    with pytest.raises(ValueError, match="no cross product"):
        explain(1, 1, 1, batch=2, channels=1, method="gaunt-grid", parity="odd")


def test_directions():
    found = explain(1, 2, 1, batch=4, channels=2, directions=True, method="escn", repeat=1)
    assert found.costs[0].method == "escn" and np.isfinite(found.costs[0].flops)
