"""Tiles find what comparing all pairs finds, bit for bit, in clouds of every kind."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.points import search, tiles
from geojax.points.search import nearest
from geojax.points.tiles import nearest_in_tiles

rng = np.random.default_rng(0)
TURN = np.linalg.qr(rng.normal(size=(3, 3)))[0]
SHELL = rng.normal(size=(700, 3)) / 3
SHELL /= np.linalg.norm(SHELL, axis=1, keepdims=True)
KINDS = {
    "volume": rng.uniform(size=(700, 3)),
    "shell far away": SHELL + 300,
    "lattice": np.stack(np.meshgrid(*[np.arange(9.0)] * 3), -1).reshape(-1, 3)[
        rng.permutation(700)
    ],
    "one place": np.ones((700, 3)),
    "line": np.linspace(0, 1, 700)[:, None] ** 2 * np.array([1.0, 2.0, 3.0]),
    "plane": rng.uniform(size=(700, 2)),
    "dense and far": np.concatenate(
        [rng.normal(size=(690, 3)) / 1e4, rng.normal(size=(10, 3)) * 50]
    ),
}
SEARCHES = [
    {"k": 5, "radius": np.inf, "exclude_self": True},
    {"k": 3, "radius": 0.3, "exclude_self": False},
    {"k": 64, "radius": np.inf, "exclude_self": False},
]


def both(queries, points, mask, real, **options):
    """What tiles find, and all pairs."""
    given = jnp.asarray(queries), jnp.asarray(points), jnp.asarray(mask), jnp.asarray(real)
    every = partial(search._all_pairs, chunk=256, **options)
    with jax.numpy_rank_promotion("raise"):
        return jax.jit(partial(nearest_in_tiles, **options))(*given), jax.jit(every)(*given)


@pytest.mark.parametrize(
    "options",
    [SEARCHES[0], SEARCHES[1], pytest.param(SEARCHES[2], marks=pytest.mark.slow)],
    ids=["neighbours", "radius", "many"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_tiles_find_what_all_pairs_find(kind, options):
    """Some points are not real, and neither are some queries; of equally near ones the first."""
    points = KINDS[kind].astype(np.float32)
    mask, real = rng.uniform(size=700) > 0.1, rng.uniform(size=700) > 0.1
    found, expected = both(points, points, mask, real, **options)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[1].sum() > 0


def test_queries_elsewhere_and_fewer_points_than_slots(x64):
    queries = rng.normal(size=(37, 3)) * 5
    for mask in (np.arange(700) < 4, np.zeros(700, bool)):
        options = {"k": 6, "radius": np.inf, "exclude_self": False}
        found, expected = both(queries, KINDS["volume"], mask, np.ones(37, bool), **options)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        assert found[1].sum() == 37 * mask.sum()


def test_what_is_not_finite_finds_nothing_and_is_not_found():
    points = KINDS["volume"].astype(np.float32)
    points[[3, 400]] = np.nan
    every = np.ones(700, bool)
    options = {"k": 4, "radius": np.inf, "exclude_self": False}
    with jax.debug_nans(False):
        found, expected = both(points, points, every, every, **options)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not found[1][3].any() and found[2][3] == 0 and not np.isin(found[0], [400]).any()


def test_the_curve_goes_through_every_cell_by_single_steps(monkeypatch):
    monkeypatch.setattr(tiles, "BITS", 3)
    for d in (1, 2, 3):
        cells = np.stack(np.meshgrid(*[np.arange(8)] * d), -1).reshape(-1, d).astype(np.uint32)
        place = np.asarray(tiles._along_curve(jnp.asarray(cells)))
        assert sorted(place) == list(range(8**d))
        steps = np.abs(np.diff(cells[np.argsort(place)].astype(int), axis=0))
        assert (steps.sum(1) == 1).all()


def test_large_clouds_are_searched_in_tiles_and_have_derivatives(monkeypatch):
    """Through `nearest`, in a batch; the program has a loop that only tiles have."""
    monkeypatch.setattr(search, "LARGE", 300)
    x = jnp.asarray(rng.normal(size=(2, 300, 3)), jnp.float32)

    def whole(x):
        found = nearest(x, x, k=3, exclude_self=True)
        return found.distance.sum(), found

    run = jax.jit(jax.grad(whole, has_aux=True))
    grad, found = run(x)
    few = nearest(x[:, :100], x, k=3, exclude_self=True)
    np.testing.assert_array_equal(found.index[:, :100], few.index)
    np.testing.assert_array_equal(found.distance[:, :100], few.distance)
    np.testing.assert_allclose(grad.sum(1), 0, atol=1e-3)
    assert float(jnp.abs(grad).max()) > 1
    loops = lambda x: run.lower(x).as_text().count("stablehlo.while")
    assert loops(x) > loops(x[:, :-1])
