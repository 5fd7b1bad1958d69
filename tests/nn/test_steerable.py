"""Steerable kernels: against their definition with e3nn's tables, how they turn, their size."""

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irrep

from geojax.nn.steerable import SteerableKernel, couple
from geojax.so3 import harmonics, random_rotation, wigner_d

RNG = np.random.default_rng(0)
S, V, T = (Irrep(name) for name in ("0e", "1o", "2e"))
EDGES, HIDDEN, LMAX = 3, 5, 2
GIVEN, WANTED = {S: 2, V: 3, T: 2}, {S: 2, V: 1, T: 3}
VECTORS = RNG.normal(size=(EDGES, 3))


def features(widths):
    return {i: jnp.asarray(RNG.normal(size=(EDGES, i.dim, n))) for i, n in widths.items()}


def invariants(vectors):
    return jnp.linalg.norm(vectors, axis=-1, keepdims=True) ** jnp.arange(1.0, 3)[None, :]


def ready(given, chiral):
    """The map (vectors, features) -> W f, and its parameters."""
    kernel = SteerableKernel(WANTED, HIDDEN, "silu")

    def inputs(vectors, x):
        y = harmonics(vectors, 2 * LMAX)[..., None]
        return couple(x, y, WANTED, chiral=chiral), invariants(vectors)

    start = lambda v, x: kernel.init(jax.random.key(0), *inputs(v, x))
    shapes = jax.eval_shape(start, jnp.asarray(VECTORS), features(given))
    params = jax.tree.map(lambda a: jnp.asarray(RNG.normal(size=a.shape)), shapes)
    return jax.jit(lambda v, x: kernel.apply(params, *inputs(v, x))), params["params"]


def profile(p, a):
    """The hidden units of one pair's radial network, [edge, hidden]."""
    for i in range(2):
        a = a @ p[f"kernel_{i}"] + p[f"bias_{i}"]
        a = (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)
        a = a * p[f"norm_{i}"]["gain"] + p[f"norm_{i}"]["shift"]
        a = a / (1 + np.exp(-a))
    return a


def degrees(k, l, chiral):
    return [J for J in range(abs(k - l), k + l + 1) if chiral or (k + l + J) % 2 == 0]


def harmonics_by_e3nn(J):
    vectors = e3nn.IrrepsArray("1o", jnp.asarray(VECTORS))
    return np.asarray(e3nn.spherical_harmonics(J, vectors, True, "component").array)


def by_definition(p, x, chiral):
    """sum_k sum_J phi_J Y_J Q_J f with all of W written out, over the root of the terms."""
    p = jax.tree.map(np.asarray, p)
    out, terms = dict.fromkeys(WANTED, 0.0), dict.fromkeys(WANTED, 0)
    pairs = [(source, target) for target in WANTED for source in x]
    for n, (source, target) in enumerate(pairs):
        k, l = source.l, target.l
        own = jax.tree.map(lambda a, n=n: a[n], p["radial"])
        h = profile(own, np.asarray(invariants(VECTORS)))
        phi = np.einsum("eh,hpco->epco", h, p[f"kernel_{source}_{target}"])
        phi = phi + p[f"bias_{source}_{target}"]
        W = 0.0
        for path, J in enumerate(degrees(k, l, chiral)):
            Q = np.sqrt(2 * l + 1) * np.asarray(e3nn.clebsch_gordan(k, J, l))
            W = W + np.einsum("eco,ej,ijm->eocmi", phi[:, path], harmonics_by_e3nn(J), Q)
        out[target] = out[target] + np.einsum("eocmi,eic->emo", W, x[source])
        terms[target] += phi.shape[1] * phi.shape[2]
    return {i: value / np.sqrt(terms[i]) for i, value in out.items()}


@pytest.mark.parametrize("given", [GIVEN, {S: 3, V: 1}], ids=["degrees 0 to 2", "0 and 1"])
@pytest.mark.parametrize("chiral", [pytest.param(False, marks=pytest.mark.slow), True])
def test_it_is_the_kernel_of_the_paper(given, chiral, x64):
    apply, params = ready(given, chiral)
    x = features(given)
    found, expected = apply(jnp.asarray(VECTORS), x), by_definition(params, x, chiral)
    for i in WANTED:
        scale = np.abs(expected[i]).max()
        np.testing.assert_allclose(found[i], expected[i], rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("chiral", [False, True])
def test_the_kernel_turns_with_the_edge(chiral, x64):
    """W(Rx) D f = D W(x) f; with reflections only where odd paths are left out."""
    apply, _ = ready(GIVEN, chiral)
    x = features(GIVEN)
    for improper in (False, True):
        R = random_rotation(jax.random.key(1), improper=improper, dtype=jnp.float64)
        D = wigner_d(R, LMAX)
        turn = lambda blocks, D=D: {
            i: jnp.einsum("ab,ebc->eac", D[i.l], block) for i, block in blocks.items()
        }
        found = apply(jnp.asarray(VECTORS) @ R.T, turn(x))
        expected = turn(apply(jnp.asarray(VECTORS), x))
        error = max(float(jnp.abs(found[i] - expected[i]).max()) for i in WANTED)
        if improper and chiral:
            assert error > 0.1
        else:
            assert error < 1e-12


@pytest.mark.parametrize("chiral", [False, True])
def test_a_pair_of_degrees_has_its_paths_and_matrices(chiral, x64):
    _, params = ready(GIVEN, chiral)
    for source, n in GIVEN.items():
        for target, width in WANTED.items():
            paths = min(source.l, target.l) * (1 + chiral) + 1
            assert params[f"kernel_{source}_{target}"].shape == (HIDDEN, paths, n, width)
            assert params[f"bias_{source}_{target}"].shape == (paths, n, width)
    assert params["radial"]["kernel_0"].shape == (9, 2, HIDDEN)
    assert params["radial"]["kernel_1"].shape == (9, HIDDEN, HIDDEN)
