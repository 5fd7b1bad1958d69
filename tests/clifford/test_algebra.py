"""Blades and their table: against anticommuting matrices, and the counts of the literature."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from geojax.clifford import Algebra, cayley, cl, part_of_grade, parts
from geojax.clifford.algebra import blade_product


def matrices(metric):
    """Matrices e_i with e_i e_j = -e_j e_i and e_i² = metric: Kronecker products of Pauli's."""
    x, y, z, one = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]], np.eye(2)])
    found = []
    for i, square in enumerate(metric):
        out = np.eye(1)
        for factor in [z] * (i // 2) + [[x, y][i % 2]] + [one] * ((len(metric) - 1) // 2 - i // 2):
            out = np.kron(out, factor)
        found.append(np.sqrt(complex(square)) * out)
    return found


@pytest.mark.parametrize("metric", [(1, 1, 1), (1, 1, 1, -1), (2, -0.5, 1, 1, -3)])
def test_the_table_is_that_of_matrices(metric):
    algebra, e = Algebra(metric), matrices(metric)
    product = lambda blade: np.linalg.multi_dot([np.eye(len(e[0])), np.eye(len(e[0])), *blade])
    blades = [product([e[i] for i in blade]) for blade in algebra.blades]
    table = {(t.left, t.right): (t.out, t.value) for t in cayley(algebra)}
    assert len(table) == 4**algebra.n
    for (left, right), (out, value) in table.items():
        np.testing.assert_allclose(blades[left] @ blades[right], value * blades[out], atol=1e-12)


def test_vectors_of_a_degenerate_metric_square_to_zero():
    algebra = cl(2, 0, 1)
    assert algebra.metric == (1, 1, 0)
    assert blade_product(algebra, (2,), (2,)) == ((), 0)
    assert blade_product(algebra, (0, 2), (1, 2)) == ((0, 1), 0)
    assert blade_product(algebra, (0,), (2,)) == ((0, 2), 1)
    # The exterior algebra: one term for each way to hand out n vectors to the two factors.
    assert len(cayley(cl(0, 0, 3))) == 3**3


def test_blades_come_grade_after_grade():
    algebra = cl(3)
    assert algebra.blades == ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
    for n in range(1, 6):
        algebra = cl(n)
        assert algebra.grades == tuple(sorted(algebra.grades))
        for k in range(n + 1):
            rows = range(*algebra.rows(k).indices(2**n))
            assert len(rows) == comb(n, k)
            assert [algebra.blades[i] for i in rows] == list(combinations(range(n), k))


def test_squares_are_of_the_reversed_blade():
    algebra = cl(2, 1)
    for blade, square in zip(algebra.blades, algebra.squares, strict=True):
        value = 1
        for i in blade:
            value *= algebra.metric[i]
        assert square == value


def test_parts_are_grades_or_quaternion_types():
    assert part_of_grade(cl(5)) == (0, 1, 2, 3, 4, 5)
    assert part_of_grade(cl(5), 4) == (0, 1, 2, 3, 0, 1)
    assert parts(cl(5)) == 6 and parts(cl(5), 4) == 4 and parts(cl(2), 4) == 3
    with pytest.raises(ValueError, match="modulo=0"):
        part_of_grade(cl(3), 0)


def test_an_algebra_has_a_vector():
    with pytest.raises(ValueError, match="one generating vector or more"):
        cl(0)
