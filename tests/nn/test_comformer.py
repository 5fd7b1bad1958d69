"""Parts of the ComFormers: lengths, and the links of an atom to its own images."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from geojax.graphs import Budget, Structure, pad, sample
from geojax.nn.comformer import image_links, inverse_length, is_smooth


def test_inverse_lengths_are_finite_with_their_derivatives_at_zero(x64):
    vectors = jnp.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(inverse_length(vectors), [-0.15, -15.0], rtol=1e-12)
    assert np.isfinite(jax.grad(lambda v: inverse_length(v).sum())(vectors)).all()


def test_messages_vanish_at_the_cutoff_only_without_a_number_of_neighbours():
    assert is_smooth(5.0, None)
    assert not is_smooth(5.0, 12) and not is_smooth(math.inf, None)


def test_atoms_of_crystals_hear_six_images_and_those_of_molecules_none():
    cell = np.diag([3.0, 4.0, 5.0])
    crystal = Structure(np.zeros((1, 3)), np.array([6]), cell, (True,) * 3)
    molecule = Structure(np.eye(3)[:2], np.array([6, 1]))
    samples = [sample(s, 2.0) for s in (crystal, molecule)]
    graph = jax.tree.map(jnp.asarray, pad(samples, Budget(4, 8, 3)).graph)
    links = image_links(graph, graph.globals["cell"])
    expected = np.concatenate([cell, -cell])
    np.testing.assert_allclose(links.vectors[0], expected)
    weight = np.asarray(links.weight)[..., 0]
    assert weight.shape == (4, 6) and (weight[0] == 1).all() and not weight[1:].any()
    x = jnp.arange(4.0)[:, None]
    np.testing.assert_array_equal(links.collect(links.senders(x)), 6 * x)
