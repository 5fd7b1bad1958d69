"""Projectors by means over rotations, penalties of maps that are equivariant, prices on a toy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from e3nn_jax import Irrep, Irreps
from scipy.spatial.transform import Rotation

from geojax.nn import (
    SYMMETRIES,
    SoftLinear,
    Strengths,
    equivariant_part,
    equivariant_projector,
    penalties,
    penalty,
    track_penalties,
    update_strengths,
)
from geojax.so3 import clebsch_gordan, wigner_d

rng = np.random.default_rng(0)
ONE, TWO = "2x0e+1o+1e+2e", "0e+0o+2x1o+2e"
MIRROR = np.diag([-1.0, 1, 1])


def turns(axis):
    """Equal steps, enough for a mean over all rotations about an axis of degree 4."""
    angles = 2 * np.pi * np.arange(9) / 9
    return Rotation.from_rotvec(angles[:, None] * np.array(axis, float)).as_matrix()


def elements(name):
    """A few of each group, to average over the ones about an axis, to try the others."""
    if name.startswith("SO(2)"):
        return turns(np.eye(3)["xyz".index(name[-1])])
    if name == "O(2) about z":
        return np.concatenate([turns([0, 0, 1]), turns([0, 0, 1]) @ MIRROR])
    proper = Rotation.random(6, rng=1).as_matrix()
    return {
        "SO(3)": proper,
        "O(3)": np.concatenate([proper, -proper]),
        "inversion": np.stack([np.eye(3), -np.eye(3)]),
    }[name]


def representation(irreps, matrix):
    """D of all features, block after block."""
    found = np.zeros((Irreps(irreps).dim,) * 2)
    first = 0
    for mul, ir in Irreps(irreps):
        d = wigner_d(jnp.asarray(matrix), ir.l, pseudo=ir.p != (-1) ** ir.l)[-1]
        for _ in range(mul):
            found[first : first + ir.dim, first : first + ir.dim] = d
            first += ir.dim
    return found


NAMES = ["O(3)", "SO(3)", "inversion", "SO(2) about x", "SO(2) about z", "O(2) about z"]


@pytest.mark.parametrize("name", NAMES)
def test_projectors_are_orthogonal(name):
    for one in ("0e", "0o", "1o", "1e", "2e"):
        for two in ("0e", "1o", "1e", "2o", "3o"):
            p = equivariant_projector(SYMMETRIES[name], Irrep(one), Irrep(two))
            p = p.reshape(p.shape[0] * p.shape[1], -1)
            np.testing.assert_allclose(p @ p, p, atol=1e-12)
            np.testing.assert_allclose(p, p.T, atol=1e-14)
            if name in ("O(3)", "SO(3)"):  # Schur
                same = one == two if name == "O(3)" else one[0] == two[0]
                assert np.trace(p) == pytest.approx(float(same))


def test_how_many_maps_there_are():
    count = lambda name, one, two: round(
        np.einsum("ijij", equivariant_projector(SYMMETRIES[name], Irrep(one), Irrep(two)))
    )
    assert count("SO(2) about z", "1o", "1o") == 3
    assert count("O(2) about z", "1o", "1o") == 2  # along and across
    assert count("O(2) about z", "1o", "1e") == 1  # the turn by a quarter
    assert count("SO(2) about z", "2e", "2e") == 5
    assert count("inversion", "1o", "1o") == 9 and count("inversion", "1o", "1e") == 0
    assert count("O(2) about z", "0e", "1o") == 1  # a bias along z


@pytest.mark.parametrize("name", NAMES)
def test_the_equivariant_part_is_equivariant_and_the_rest_is_not(name, x64):
    kernel = rng.normal(size=(Irreps(ONE).dim, Irreps(TWO).dim))
    part = np.asarray(equivariant_part(jnp.asarray(kernel), ONE, TWO, name))
    pairs = [(representation(ONE, g), representation(TWO, g)) for g in elements(name)]
    moved = [d @ part @ e.T - part for d, e in pairs]
    np.testing.assert_allclose(moved, 0, atol=1e-10)
    assert penalty(jnp.asarray(part), ONE, TWO, name) < 1e-20
    off = penalty(jnp.asarray(kernel), ONE, TWO, name)
    np.testing.assert_allclose(off, np.sum((kernel - part) ** 2) / 2)
    assert off > 1
    if "3" not in name:
        mean = np.mean([d @ kernel @ e.T for d, e in pairs], 0)
        np.testing.assert_allclose(part, mean, atol=1e-10)


def test_larger_groups_cost_more(x64):
    kernel = jnp.asarray(rng.normal(size=(Irreps(ONE).dim, Irreps(TWO).dim)))
    chain = ("SO(2) about z", "O(2) about z", "O(3)")
    costs = [float(penalty(kernel, ONE, TWO, name)) for name in chain]
    assert costs == sorted(costs) and costs[0] < costs[-1]


class Two(nn.Module):
    """Layers inside a network."""

    @nn.compact
    def __call__(self, x):
        names = ("O(3)", "SO(2) about z")
        h = SoftLinear("0e+1o", "2x0e+1o", names, name="first")(x)
        return SoftLinear("2x0e+1o", "1o", names, bias=False, name="second")(h)


def test_layers_of_a_network_say_what_they_break(x64, key):
    module, x = Two(), jnp.asarray(rng.normal(size=(3, 4)))
    params = module.init(key, x)
    assert set(params) == {"params"}
    assert params["params"]["first"]["kernel"].shape == (4, 5)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), params)
    y, found = module.apply(params, x, mutable=["penalties"])
    np.testing.assert_allclose(y, module.apply(params, x))
    p = params["params"]
    wanted = [
        penalty(p["first"]["kernel"], "0e+1o", "2x0e+1o", name)
        + penalty(p["first"]["bias"][None], "0e", "2x0e+1o", name)
        + penalty(p["second"]["kernel"], "2x0e+1o", "1o", name)
        for name in ("SO(2) about z", "O(3)")
    ]
    got = penalties(found, ("SO(2) about z", "O(3)"))
    np.testing.assert_allclose(got, wanted)
    with pytest.raises(KeyError, match="none has .'SO.3.'."):
        penalties(found, ("SO(3)",))


def tensors(x):
    """0e + 1e + 2e of matrices [n, 3, 3]; the components of an orthogonal change of basis."""
    parts = [np.einsum("nij,ijm->nm", x, clebsch_gordan(1, 1, l)) for l in range(3)]
    return np.concatenate(parts, 1)


@pytest.mark.slow
def test_prices_of_symmetries_that_the_data_keep_end_higher(x64):
    """Moments of inertia, and 0.3 (I z) zᵀ: only rotations about z are kept."""
    masses, r = np.log1p(np.exp(rng.normal(size=(80, 5)))), rng.normal(size=(80, 5, 3))
    second = np.einsum("nk,nki,nkj->nij", masses, r, r)
    inertia = np.einsum("nii->n", second)[:, None, None] * np.eye(3) - second
    z = np.array([0.0, 0, 1])
    wanted = inertia + 0.3 * (inertia @ z)[:, :, None] * z
    x, y = (jnp.asarray(tensors(a) / 10) for a in (second, wanted))
    names = ("SO(2) about x", "SO(2) about y", "SO(2) about z")
    layer = SoftLinear("0e+1e+2e", "0e+1e+2e", names)
    params = layer.init(jax.random.key(0), x)
    optimizer = optax.adam(0.03)

    def loss(params, values):
        out, found = layer.apply(params, x, mutable=["penalties"])
        costs = penalties(found, names)
        return jnp.mean((out - y) ** 2) + jnp.sum(values * costs), costs

    def step(state, _):
        params, moments, strengths = state
        slopes, costs = jax.grad(loss, has_aux=True)(params, strengths.values)
        change, moments = optimizer.update(slopes, moments)
        params = optax.apply_updates(params, change)
        return (params, moments, track_penalties(strengths, costs)), None

    params = jax.tree.map(lambda a: a.astype(jnp.float64), params)
    start = (params, optimizer.init(params), Strengths.start(jnp.full(3, 1e-3)))
    run = jax.jit(lambda state: jax.lax.scan(step, state, None, 400)[0])
    params, moments, strengths = run(start)
    values = update_strengths(strengths).values
    print("FIG", values, strengths.smallest)
    assert values[2] == pytest.approx(1e-3)
    assert max(values[:2]) < 0.2 * values[2]
    assert strengths.seen == 400
    # with the new prices the kept symmetry is kept better than with the old ones
    after, control = (
        run((params, moments, Strengths.start(v)))[2] for v in (values, strengths.values)
    )
    assert after.smallest[2] < 0.5 * control.smallest[2]


def test_strengths():
    state = Strengths.start(jnp.array([1.0, 2.0, 0.0]))
    for costs in ([9.0, 9, 9], [4.0, 2, 1], [8.0, 1, 7]):
        state = track_penalties(state, jnp.array(costs), wait=1)
    np.testing.assert_allclose(state.smallest, [4, 1, 1])
    np.testing.assert_allclose(update_strengths(state, power=2.0).values, [1 / 16, 2, 0])
    early = track_penalties(Strengths.start(jnp.ones(2)), jnp.ones(2))
    np.testing.assert_allclose(update_strengths(early).values, 1)
    exact = Strengths(jnp.ones(2), jnp.array([0.0, 1.0]), jnp.array(60))
    found = update_strengths(exact).values
    assert found[0] == 1 and found[1] == 0


def test_what_is_refused():
    with pytest.raises(KeyError, match="did you mean 'SO"):
        equivariant_part(jnp.zeros((3, 3)), "1o", "1o", "SO(3")
    with pytest.raises(ValueError, match=r"shape \(3, 1\); got \(3, 3\)"):
        penalty(jnp.zeros((3, 3)), "1o", "0e", "O(3)")
    with pytest.raises(ValueError, match="have 3 columns; got 4"):
        SoftLinear("1o", "1o").init(jax.random.key(0), jnp.zeros((2, 4)))
