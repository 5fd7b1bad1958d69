"""The learned frame: it follows the structure, of either hand, and all parameters learn."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.networks.canonicalizer import Canonicalizer
from geojax.symmetrize import Provider
from tests.networks.small import CUTOFF, graph_of, molecule, parameters

X = molecule().positions
TURN = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
TURN = TURN * np.linalg.det(TURN)
SMALL = {"channels": 5, "layers": 1, "cutoff": CUTOFF}


@cache
def ready(group):
    with jax.enable_x64(True):
        network = Canonicalizer(group=group, offset=True, **SMALL)
        params = parameters(network)

        def run(params, graph):
            frames = network.apply(params, graph)
            square = jnp.sum(frames.matrices[0] ** 3) + jnp.sum(frames.origins[0] ** 2)
            return square, frames

        both = jax.jit(jax.value_and_grad(run, has_aux=True))
    return lambda positions: both(params, graph_at(positions))


def graph_at(positions):
    """The molecule's edges, wherever its atoms are."""
    graph = graph_of(molecule())
    rows = np.zeros((9, 3))
    rows[: len(positions)] = positions
    return graph._replace(nodes={**graph.nodes, "positions": jnp.asarray(rows)})


def frame(group, positions):
    frames = ready(group)(positions)[0][1]
    np.testing.assert_array_equal(frames.weights[:, 0], [1, 0])
    return np.asarray(frames.matrices[0, 0]), np.asarray(frames.origins[0])


@pytest.mark.parametrize("group", ["SE(3)", pytest.param("E(3)", marks=pytest.mark.slow)])
def test_the_frame_follows_the_structure(group, x64):
    """Also mirrored: E(3) frames are mirrored, and SE(3) ones stay right-handed."""
    matrix, origin = frame(group, X)
    after, origin_after = frame(group, X @ TURN.T + 2.0)
    np.testing.assert_allclose(after, TURN @ matrix, atol=1e-10)
    np.testing.assert_allclose(origin_after, TURN @ origin + 2.0, atol=1e-10)
    assert np.linalg.norm(origin - X.mean(0)) > 1e-2
    mirrored, _ = frame(group, -X)
    if group == "E(3)":
        np.testing.assert_allclose(mirrored, -matrix, atol=1e-10)
    np.testing.assert_allclose(
        np.linalg.det(mirrored), 1 if group == "SE(3)" else -np.linalg.det(matrix), atol=1e-12
    )


def test_derivatives_reach_every_parameter_and_are_finite_without_a_frame(x64):
    """Of points in one place, and on a line, there is no frame that follows them."""
    _, gradient = ready("SE(3)")(X)
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    assert [name for name, leaf in leaves if not np.abs(leaf).max() > 0] == []
    for x in (np.zeros((6, 3)), np.arange(6.0)[:, None] * np.array([[0.9, 0, 0]])):
        (_, frames), gradient = ready("SE(3)")(x)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        np.testing.assert_allclose(np.linalg.det(frames.matrices[0, 0]), 1, atol=1e-12)


def test_it_is_a_provider():
    made = Canonicalizer(group="E(3)")
    assert isinstance(made, Provider) and made.group == "E(3)" and made.conservative
    with pytest.raises(ValueError, match="got group='O"):
        jax.eval_shape(Canonicalizer(group="O(3)").init, jax.random.key(0), graph_of(molecule()))
