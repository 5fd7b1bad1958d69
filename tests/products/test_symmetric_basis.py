"""The basis against e3nn-jax, against a count by characters, and by its own definition."""

from itertools import permutations, product

import e3nn_jax as e3nn
import numpy as np
import pytest

from geojax.products.symmetric_basis import monomials, symmetric_basis
from geojax.so3 import clebsch_gordan, paths

CASES = [(1, 1, 2), (2, 0, 3), (2, 2, 3), (3, 1, 2), (1, 1, 4)]
CASES += [pytest.param(3, l, 3, marks=pytest.mark.slow) for l in range(4)]
CASES += [pytest.param(2, l, 4, marks=pytest.mark.slow) for l in range(3)]


def matrix(basis):
    """`[tensor, path and m]`."""
    return basis.reshape(-1, basis.shape[-2] * basis.shape[-1])


@pytest.mark.parametrize("lmax, l, order", CASES)
def test_is_orthonormal_and_symmetric(lmax, l, order):
    basis = symmetric_basis(lmax, l, order)
    columns = matrix(basis)
    np.testing.assert_allclose(columns.T @ columns, np.eye(columns.shape[1]), atol=1e-14)
    for axes in permutations(range(order)):
        np.testing.assert_array_equal(basis, basis.transpose(*axes, order, order + 1))


@pytest.mark.parametrize("lmax, l, order", CASES)
def test_spans_what_e3nn_spans(lmax, l, order):
    irreps = e3nn.Irreps([(1, (k, (-1) ** k)) for k in range(lmax + 1)])
    wanted = e3nn.Irrep(l, (-1) ** l)
    theirs = e3nn.reduced_symmetric_tensor_product_basis(irreps, order, keep_ir=[wanted]).array
    ours, theirs = matrix(symmetric_basis(lmax, l, order)), np.asarray(theirs, float)
    theirs = theirs.reshape(-1, theirs.shape[-1])
    assert ours.shape == theirs.shape
    # both are orthonormal, so the change of basis is orthogonal if and only if the spans are equal
    change = ours.T @ theirs
    np.testing.assert_allclose(change @ change.T, np.eye(len(change)), atol=1e-12)


def count_by_characters(lmax, l, order):
    """How often degree l with natural parity occurs in the symmetric power: Molien's formula.

    The weights m of the power are those of all multisets of components; degree l occurs as often
    as weight l does more than weight l + 1, counted for either parity of the degrees' sum.
    """
    powers = {(0, 0, 0): 1}  # (order, weight, sum of degrees modulo 2) -> how many monomials
    for k in range(lmax + 1):
        for m in range(-k, k + 1):
            after: dict = {}
            for (n, weight, parity), ways in powers.items():
                for times in range(order - n + 1):
                    at = (n + times, weight + times * m, (parity + times * k) % 2)
                    after[at] = after.get(at, 0) + ways
            powers = after
    number = lambda weight: powers.get((order, weight, l % 2), 0)
    return number(l) - number(l + 1)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("lmax", [0, 1, 2, 3])
def test_number_of_paths(lmax, order):
    for l in range(4 if order < 4 or lmax < 3 else 2):
        assert monomials(lmax, l, order)[1] == count_by_characters(lmax, l, order)


def test_counts_of_mace():
    """Without symmetry MACE has a path for each way to couple; 23 to scalars, 8 independent."""
    ways = len(paths(3, 3, 3))
    contents = {tuple(sorted(path)) for path in paths(3, 3, 3)}
    assert (ways, len(contents), monomials(3, 0, 3)[1]) == (23, 8, 8)
    assert [monomials(3, 1, order)[1] for order in (1, 2, 3)] == [1, 3, 12]


def test_monomials_are_the_tensors():
    """Evaluated at a point."""
    x = np.random.default_rng(0).normal(size=9)
    dense = np.einsum("ijkpm,i,j,k->pm", symmetric_basis(2, 1, 3), x, x, x)
    sparse = np.zeros_like(dense)
    for path, m, components, value in monomials(2, 1, 3)[0]:
        assert list(components) == sorted(components)
        sparse[path, m] += value * np.prod(x[list(components)])
    np.testing.assert_allclose(sparse, dense, atol=1e-13)


def test_first_paths_are_plain_couplings():
    """Signs and order: contents sorted, each beginning with its coupling from the left."""
    basis = symmetric_basis(1, 0, 2)
    np.testing.assert_allclose(basis[0, 0, 0, 0], 1, atol=1e-15)
    np.testing.assert_allclose(basis[1:, 1:, 1, 0], clebsch_gordan(1, 1, 0)[..., 0], atol=1e-15)
    (mixed,) = symmetric_basis(1, 1, 2).transpose(2, 0, 1, 3)
    np.testing.assert_allclose(mixed[0, 1:], np.eye(3) / np.sqrt(2), atol=1e-15)
    np.testing.assert_allclose(mixed[1:, 0], np.eye(3) / np.sqrt(2), atol=1e-15)


def test_weights_of_other_couplings():
    """A map that is not symmetric has the weights that the docstring says."""
    t = np.einsum("abc,cde->abde", clebsch_gordan(1, 2, 1), clebsch_gordan(1, 1, 2))
    full = np.zeros((9, 9, 9, 5))
    full[1:4, 4:9, 1:4] = t
    basis = symmetric_basis(2, 2, 3)
    weights = np.einsum("ijkm,ijkpm->p", full, basis) / 5
    x = np.random.default_rng(1).normal(size=9)
    expected = np.einsum("ijkm,i,j,k->m", full, x, x, x)
    ours = np.einsum("ijkpm,p,i,j,k->m", basis, weights, x, x, x)
    np.testing.assert_allclose(ours, expected, atol=1e-13)
    assert np.abs(expected).max() > 0.01


def test_is_computed_once_and_read_only():
    basis = symmetric_basis(2, 1, 2)
    assert symmetric_basis(2, 1, 2) is basis
    with pytest.raises(ValueError, match="read-only"):
        basis[0] = 0


def test_squares_of_one_degree_are_even_couplings():
    """x_l x_l couples to l3 = 0, 2, 4 ... only, each once: the textbook's symmetric square."""
    for l, l3 in product(range(3), range(5)):
        own = [t for t in monomials(l, l3, 2)[0] if min(t.components) >= l * l]
        assert bool(own) == (l3 % 2 == 0 and l3 <= 2 * l)
