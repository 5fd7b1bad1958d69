"""Frames from vectors, choices from scores, and priors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import pool
from geojax.nn import rotation_group
from geojax.symmetrize import (
    Frames,
    choose,
    discrete_frames,
    gram_schmidt,
    pose_loss,
    scores_of,
    symmetrize,
    tilt_loss,
)
from tests.symmetrize.clouds import IRREPS, cloud, graph_of, mlp, rotation, turned

OCTAHEDRAL = rotation_group(24)


@pytest.mark.parametrize("group", ["SE(3)", "E(3)"])
def test_frames_turn_with_their_vectors(group, x64):
    """With mirrors too for E(3), where the hand is that of the vectors; always right for SE(3)."""
    vectors = np.random.default_rng(0).normal(size=(4, 3, 3))
    frame = jax.jit(lambda v: gram_schmidt(v, group=group))
    base = np.asarray(frame(jnp.asarray(vectors)))
    hands = np.sign(np.linalg.det(vectors)) if group == "E(3)" else np.ones(4)
    np.testing.assert_allclose(np.linalg.det(base), hands, atol=1e-13)
    for improper in (False, True):
        matrix = rotation(improper=improper)
        after = np.asarray(frame(jnp.asarray(matrix @ vectors)))
        if group == "E(3)" or not improper:
            np.testing.assert_allclose(after, matrix @ base, atol=1e-12)
        else:  # a mirror image gets a right-handed frame: z is the other way round
            np.testing.assert_allclose(after, matrix @ base * np.array([1, 1, -1]), atol=1e-12)


def test_vectors_that_leave_the_frame_open_have_finite_derivatives(x64):
    energy = lambda v: jnp.sum(jnp.sin(gram_schmidt(v, group="E(3)")))
    flat = np.random.default_rng(0).normal(size=(3, 3)) * np.array([[1], [1], [0]])
    several = jnp.asarray(np.stack([np.zeros((3, 3)), np.ones((3, 3)), flat]))
    assert np.isfinite(jax.jit(jax.grad(energy))(several)).all()
    with pytest.raises(ValueError, match=r"\[..., 3, 3 or more\]; got shape \(3, 2\)"):
        gram_schmidt(jnp.ones((3, 2)), group="E(3)")


def test_the_best_element_turns_with_the_structure(x64):
    """Exactly, for every element of the group, and scores of no symmetry."""
    elements = jnp.asarray(OCTAHEDRAL)
    score = lambda graph: pool(mlp(graph), graph, "mean")[:, 0]

    @jax.jit
    def run(graph):
        frames = discrete_frames(scores_of(score, graph, elements), graph, elements)
        return frames.matrices[0, 0], symmetrize(mlp, graph, frames, IRREPS)[:5]

    matrix, found = map(np.asarray, run(graph_of(cloud())))
    for element in OCTAHEDRAL[[3, 11, 20]]:
        other, after = map(np.asarray, run(graph_of(cloud() @ element.T)))
        np.testing.assert_allclose(other, element @ matrix, atol=1e-14)
        np.testing.assert_allclose(after, turned(found, element), atol=1e-10)


def test_the_choice_is_exact_and_has_the_derivative_of_a_mean(x64):
    elements = jnp.asarray(OCTAHEDRAL)
    scores = jnp.asarray(np.random.default_rng(0).normal(size=24))
    target = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)))
    loss = lambda s: jnp.sum(choose(s, elements, sharpness=2.0) * target)
    soft = lambda s: jnp.sum(jnp.einsum("e,eab->ab", jax.nn.softmax(2 * s), elements) * target)
    found, gradient, expected = jax.jit(
        lambda s: (choose(s, elements), jax.grad(loss)(s), jax.grad(soft)(s))
    )(scores)
    np.testing.assert_array_equal(found, OCTAHEDRAL[np.argmax(scores)])
    np.testing.assert_allclose(gradient, expected, atol=1e-14)
    assert np.abs(gradient).max() > 1e-2


def test_priors_are_zero_for_their_poses_alone(x64):
    """Padding and weights of zero do not count."""
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    tipped = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    weights = jnp.asarray([[1.0], [1.0], [0.0]])

    both = jax.jit(lambda frames: (pose_loss(frames), tilt_loss(frames)))
    losses = lambda *matrices: both(
        Frames(jnp.asarray(np.stack(matrices)[:, None]), jnp.zeros((3, 3)), weights)
    )

    np.testing.assert_allclose(losses(np.eye(3), np.eye(3), tipped), (0, 0), atol=1e-15)
    np.testing.assert_allclose(losses(np.eye(3), quarter, tipped), (4 / 9 / 2, 0), atol=1e-15)
    np.testing.assert_allclose(losses(tipped, tipped, tipped), (4 / 9, 1), atol=1e-15)
