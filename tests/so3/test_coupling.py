"""Coupling tensors against sympy (exact) and e3nn (sign), their invariance, and the path lists."""

import itertools
import math

import e3nn_jax
import jaxtyping
import numpy as np
import pytest
import sympy
from sympy.physics.wigner import wigner_3j

from geojax.so3 import clebsch_gordan, paths, random_rotation, wigner_d


@pytest.fixture
def untyped():
    """Without run-time type checks, which would refuse wrong input before the code does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


HIGH = [(8, 8, 8), (8, 7, 6), (8, 8, 0), (5, 8, 10), (9, 10, 12), (12, 12, 11), (12, 12, 12)]


@pytest.mark.parametrize("triple", [*paths(4, 4, 4, parity="all"), *HIGH[:4]], ids=str)
def test_equals_e3nn(triple):
    expected = np.asarray(e3nn_jax.clebsch_gordan(*triple))
    expected = expected / np.linalg.norm(expected)
    np.testing.assert_allclose(clebsch_gordan(*triple), expected, atol=2e-15)


def from_sympy(l1, l2, l3):
    """The real tensor by exact 3j symbols and exact basis vectors; free in sign."""

    def real(l):
        """The rows m of Y_lm real, as {complex m: coefficient}."""
        root = 1 / sympy.sqrt(2)
        for m in range(-l, l + 1):
            odd = (-1) ** m
            if m == 0:
                yield {0: sympy.Integer(1)}
            elif m > 0:
                yield {m: odd * root, -m: root}
            else:
                yield {-m: -sympy.I * odd * root, m: sympy.I * root}

    out = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    phase = sympy.I if (l1 + l2 + l3) % 2 else 1
    for index, vectors in zip(
        np.ndindex(out.shape),
        itertools.product(real(l1), real(l2), real(l3)),
        strict=True,
    ):
        terms = itertools.product(*(v.items() for v in vectors))
        total = sum(
            math.prod(c for _, c in term) * wigner_3j(l1, l2, l3, *(m for m, _ in term))
            for term in terms
            if sum(m for m, _ in term) == 0
        )
        out[index] = float(sympy.re(sympy.expand(phase * total)))
    return out


@pytest.mark.parametrize("triple", [(0, 2, 2), (1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2)], ids=str)
def test_equals_sympy(triple):
    expected, result = from_sympy(*triple), clebsch_gordan(*triple)
    sign = np.sign(np.sum(expected * result))
    np.testing.assert_allclose(result, sign * expected, atol=1e-15)


@pytest.mark.parametrize("triple", HIGH, ids=str)
def test_high_degrees_equal_sympy_at_m_zero(triple):
    """Row m = 0 of all three degrees is Wigner's (l1 l2 l3; 0 0 0) up to its sign."""
    l1, l2, l3 = triple
    expected = abs(float(wigner_3j(l1, l2, l3, 0, 0, 0)))
    assert clebsch_gordan(*triple)[l1, l2, l3] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("triple", [(1, 1, 1), (2, 1, 3), (3, 2, 2), (4, 4, 4), *HIGH], ids=str)
def test_is_invariant(x64, key, triple):
    turn = random_rotation(key)
    blocks = [np.asarray(wigner_d(turn, l)[l]) for l in triple]
    tensor = clebsch_gordan(*triple)
    turned = np.einsum("ai,bj,ck,ijk->abc", *blocks, tensor, optimize=True)
    np.testing.assert_allclose(turned, tensor, atol=1e-13)


@pytest.mark.parametrize("triple", HIGH, ids=str)
def test_is_an_isometry(triple):
    tensor = clebsch_gordan(*triple)
    square = np.einsum("abc,abd->cd", tensor, tensor) * tensor.shape[-1]
    np.testing.assert_allclose(square, np.eye(tensor.shape[-1]), atol=1e-14)


def test_cross_product():
    tensor = clebsch_gordan(1, 1, 1) * math.sqrt(6)
    a, b = np.array([0.3, -1.2, 0.7]), np.array([2.0, 0.1, 0.4])
    np.testing.assert_allclose(np.einsum("abc,a,b", tensor, a, b), np.cross(a, b), atol=1e-14)


def test_is_shared_and_cannot_be_changed():
    assert clebsch_gordan(1, 1, 2) is clebsch_gordan(1, 1, 2)
    with pytest.raises(ValueError, match="read-only"):
        clebsch_gordan(1, 1, 2)[0, 0, 0] = 1


def test_refuses_degrees_that_do_not_couple():
    with pytest.raises(ValueError, match=r"\|l1-l2\| <= l3 <= l1\+l2; got l1=1, l2=1, l3=3"):
        clebsch_gordan(1, 1, 3)


def test_paths():
    assert paths(1, 1, 1) == ((0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1))
    assert paths(1, 1, 1, parity="odd") == ((1, 1, 1),)
    assert paths(1, 2, 1, parity="all") == (
        *((0, 0, 0), (1, 1, 0)),
        *((0, 1, 1), (1, 0, 1), (1, 1, 1), (1, 2, 1)),
    )


@pytest.mark.parametrize("lmax, even, every", [(1, 4, 5), (2, 11, 15), (3, 23, 34), (4, 42, 65)])
def test_number_of_paths(lmax, even, every):
    """The counts of the literature for products cut at lmax."""
    assert len(paths(lmax, lmax, lmax)) == even
    assert len(paths(lmax, lmax, lmax, parity="all")) == every
    assert len(paths(lmax, lmax, lmax, parity="odd")) == every - even


def test_paths_refuse_an_unknown_parity(untyped):
    with pytest.raises(ValueError, match="parity is one of .*; got 'natural'"):
        paths(1, 1, 1, parity="natural")  # pyright: ignore[reportArgumentType]
