"""Providers by name, one frame drawn out of several, and the refusal of crystals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.symmetrize import Frames, PCAFrames, WeightedFrames, pick, provider_of
from geojax.symmetrize.frames import unless_periodic
from tests.symmetrize.clouds import cloud, graph_of


def test_a_provider_is_made_of_its_name_and_fields():
    assert provider_of("pca", {"group": "SE(3)"}) == PCAFrames(group="SE(3)")
    with pytest.raises(KeyError, match="did you mean 'weighted'"):
        provider_of("weigthed", {})
    with pytest.raises(KeyError, match="'pca' has no 'groop'; did you mean 'group'"):
        provider_of("pca", {"groop": "E(3)"})


@pytest.mark.parametrize("kind", [PCAFrames, WeightedFrames])
def test_an_unknown_group_is_refused(kind):
    with pytest.raises(ValueError, match=r"for SE\(3\) or E\(3\); got group='O\(3\)'"):
        jax.eval_shape(kind(group="O(3)"), graph_of(cloud(), dtype=np.float32))


def test_draws_follow_the_weights(x64):
    """Of a grid of numbers each frame is drawn as often as it weighs, and none of weight zero."""
    weights = np.array([[0.0, 0.5, 0.125, 0.375, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2], [0.0] * 5])
    marks = np.broadcast_to(np.arange(5.0)[None, :, None, None], (3, 5, 3, 3))
    frames = Frames(jnp.asarray(marks), jnp.zeros((3, 3)), jnp.asarray(weights))
    numbers = jnp.asarray((np.arange(4000) + 0.5) / 4000)
    drawn = jax.jit(jax.vmap(lambda u: pick(frames, jnp.stack([u, u, u]))))(numbers)
    for graph in range(2):
        index = np.asarray(drawn.matrices)[:, graph, 0, 0, 0].astype(int)
        shares = np.bincount(index, minlength=5) / 4000
        np.testing.assert_allclose(shares, weights[graph], atol=3e-4)
    np.testing.assert_array_equal(drawn.weights[0, :, 0], [1, 1, 0])
    last = pick(frames, jnp.ones(3))  # 1 is no draw, but sums of weights are rounded
    np.testing.assert_array_equal(last.matrices[:2, 0, 0, 0], [3, 4])


def test_a_crystal_is_refused_with_a_reason():
    graph = graph_of(cloud(), dtype=np.float32)
    frames = Frames(jnp.zeros((4, 1, 3, 3)), jnp.zeros((4, 3)), jnp.zeros((4, 1)))
    assert not np.isnan(unless_periodic(frames, graph, "PCA").weights).any()
    crystal = graph._replace(edges={"shifts": jnp.asarray(np.eye(8, 3, dtype=np.float32))})
    with pytest.raises(ValueError, match="PCA frames .* a crystal does not have; got 3 edges"):
        unless_periodic(frames, crystal, "PCA")
