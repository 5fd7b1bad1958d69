"""Weighted frames: the formula, methane and continuity, lines, and how few pairs will do."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.symmetrize import WeightedFrames, symmetrize
from tests.symmetrize.clouds import (
    IRREPS,
    LINE,
    METHANE,
    cloud,
    graph_of,
    mlp,
    rotation,
    turned,
)

ALL = WeightedFrames(pairs=20)


@cache
def ready(made):
    return jax.jit(lambda graph: symmetrize(mlp, graph, made(graph), IRREPS))


def outputs(made, x):
    return np.asarray(ready(made)(graph_of(x)))[: len(x)]


def plain(x, radius=np.inf):
    """The formula, pair by pair."""
    x = x - x.mean(0)
    total, weights = 0, 0
    for i in range(len(x)):
        for j in range(len(x)):
            across = np.cross(x[i], x[j])
            r = np.linalg.norm(x[i] - x[j]) / radius
            near = 1 - 10 * r**3 + 15 * r**4 - 6 * r**5 if r < 1 else 0
            weight = across @ across * near
            if i != j and weight > 1e-20:
                first, third = x[i] / np.linalg.norm(x[i]), across / np.linalg.norm(across)
                frame = np.stack([first, np.cross(third, first), third], 1)
                inside = np.asarray(APPLY(graph_of(x @ frame)))[: len(x)]
                total, weights = total + weight * turned(inside, frame), weights + weight
    return total / weights


def APPLY(graph):
    centred = graph.nodes["positions"] - jnp.asarray([[0.3, -0.2, 0.5]])
    return MLP(graph._replace(nodes={**graph.nodes, "positions": centred}))


MLP = jax.jit(mlp)


@pytest.mark.parametrize("radius", [np.inf, pytest.param(2.5, marks=pytest.mark.slow)])
def test_frames_are_those_of_the_formula(radius, x64):
    for x in (cloud(), METHANE):
        found = outputs(WeightedFrames(pairs=20, radius=radius), x)
        np.testing.assert_allclose(found, plain(x, radius), atol=1e-12)


def test_methane_is_cured(x64):
    """Invariant there, and continuous: displaced by epsilon it changes by as much."""
    matrix, base = rotation(), outputs(ALL, METHANE)
    np.testing.assert_allclose(outputs(ALL, METHANE @ matrix.T), turned(base, matrix), atol=1e-10)
    moves = np.random.default_rng(0).normal(size=(6, 5, 3))
    for epsilon in (1e-3, 1e-6, 1e-8):
        changes = [np.abs(outputs(ALL, METHANE + epsilon * d) - base).max() for d in moves]
        assert max(changes) < 20 * epsilon


def test_a_structure_on_a_line_turns_as_it_must(x64):
    """Scalars do not change, the vector is along the line, and rounding decides nothing."""
    axis = rotation()[:, 0]
    base = outputs(ALL, LINE)
    np.testing.assert_allclose(base[:, 3:], 0, atol=1e-13)
    for noise in (0, 1e-15):
        x = LINE[:, :1] * axis[None] + noise * np.random.default_rng(0).normal(size=(4, 3))
        found = outputs(ALL, x)
        np.testing.assert_allclose(found[:, :2], base[:, :2], atol=1e-10)
        np.testing.assert_allclose(found[:, 2:], base[:, 2:3] * axis[None], atol=1e-10)


@pytest.mark.slow
def test_half_turns_make_a_structure_a_line_continuously(x64):
    """With them bending by epsilon changes outputs in proportion, without them at once."""
    bends = np.random.default_rng(0).normal(size=(4, 4, 3)) * np.array([0, 1, 1])
    for made, smooth in [(WeightedFrames(pairs=20, half_turns=True), True), (ALL, False)]:
        base = outputs(made, LINE)
        for epsilon in (1e-3, 1e-5):
            changes = [np.abs(outputs(made, LINE + epsilon * b) - base).max() for b in bends]
            assert (max(changes) < 30 * epsilon) == smooth


@pytest.mark.slow
def test_fewer_pairs_come_and_go_with_weight_zero(x64):
    """Along a path on which the taken pairs change, no step jumps; symmetry is kept."""
    made, start, end = WeightedFrames(pairs=16), cloud(5), cloud(5, seed=4)
    path = [start + t * (end - start) for t in np.linspace(0, 1, 201)]
    values = [outputs(made, x) for x in path]
    assert len({_left_out(x) for x in path}) > 2
    steps = np.abs(np.diff(values, axis=0)).max((1, 2))
    assert steps.max() < 10 * np.median(steps)
    after = outputs(made, start @ rotation().T)
    np.testing.assert_allclose(after, turned(values[0], rotation()), atol=1e-10)
    assert np.abs(values[0] - outputs(ALL, start)).max() > 1e-6


def _left_out(x):
    """The pairs that are too many: four of twenty, two each way."""
    x = x - x.mean(0)
    area = {(i, j): np.linalg.norm(np.cross(x[i], x[j])) for j in range(5) for i in range(j)}
    return tuple(sorted(sorted(area, key=lambda pair: area[pair])[:2]))


@pytest.mark.slow
def test_where_there_are_no_frames_weights_are_no_numbers(x64):
    """Pairs that all weigh the same and are too many, none within the radius, too many nodes."""
    octahedron = np.concatenate([np.eye(3), -np.eye(3)])  # 24 equal pairs
    with jax.debug_nans(False):
        assert np.isnan(outputs(WeightedFrames(pairs=16), octahedron)).all()
        assert np.isfinite(outputs(WeightedFrames(pairs=24), octahedron)).all()
        assert np.isnan(outputs(WeightedFrames(pairs=20, radius=1e-3), cloud())).all()
        assert np.isnan(outputs(WeightedFrames(pairs=20, slots=4), cloud())).all()
        assert np.isfinite(outputs(WeightedFrames(pairs=20, slots=5), cloud())).all()


def test_too_few_pairs_and_no_radius_are_refused():
    graph = graph_of(cloud(), dtype=np.float32)
    for made in (WeightedFrames(pairs=15), WeightedFrames(radius=0.0)):
        with pytest.raises(ValueError, match="16 pairs or more, and a positive radius; got"):
            jax.eval_shape(made, graph)
