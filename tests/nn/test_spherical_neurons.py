"""Spherical neurons: both identities of banks, their irreps, and the published procedure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.datasets.tetris import PIECES
from geojax.nn import (
    SphericalNeurons,
    bank_features,
    bank_vectors,
    conformal,
    representation,
    sphere_bank,
    spheres,
    steering,
    to_diagonal,
    turn_sphere,
)
from geojax.nn.spherical_neurons import BASIS, CORNERS, tetrahedron_turns

RNG = np.random.default_rng(0)
DIAGONAL = np.ones(3) / np.sqrt(3)
# Some on the axis of (1, 1, 1), on its other side, across, and at the origin
CENTRES = np.concatenate(
    [RNG.normal(size=(6, 3)), [DIAGONAL, -DIAGONAL, [2, -1, -1], [1e-9 - 1, -1, -1], [0, 0, 0]]]
)
RADII, GAINS = RNG.uniform(0.1, 2, len(CENTRES)), RNG.normal(size=len(CENTRES))
X = RNG.normal(size=(5, 3))
TURN = Rotation.random(rng=RNG).as_matrix()
SHAPES = np.array([np.array(p, float) - np.mean(p, 0) for p in PIECES.values()])


def all_spheres():
    return spheres(jnp.asarray(CENTRES), jnp.asarray(RADII), jnp.asarray(GAINS))


def test_the_sign_says_what_is_inside(x64):
    found = conformal(jnp.asarray(X)) @ all_spheres().T
    distance = ((X[:, None] - CENTRES[None]) ** 2).sum(-1)
    np.testing.assert_allclose(found, -GAINS / 2 * (distance - RADII**2), atol=1e-13)


def test_the_basis_is_orthogonal_and_the_turns_are_those_of_the_corners():
    np.testing.assert_array_equal(BASIS.T @ BASIS, np.eye(4))
    np.testing.assert_array_equal(BASIS[:3].T * 2, CORNERS)
    turns = tetrahedron_turns()
    np.testing.assert_array_equal(turns @ CORNERS[0], CORNERS)
    np.testing.assert_allclose(np.linalg.det(turns), 1)


def test_every_centre_is_taken_to_the_diagonal(x64):
    turns = np.asarray(to_diagonal(jnp.asarray(CENTRES)))
    np.testing.assert_allclose(
        turns @ turns.swapaxes(1, 2), np.tile(np.eye(3), (11, 1, 1)), atol=1e-13
    )
    np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-13)
    lengths = np.linalg.norm(CENTRES, axis=1, keepdims=True)
    moved = np.einsum("nab,nb->na", turns, CENTRES)
    np.testing.assert_allclose(moved, lengths * DIAGONAL, atol=1e-13)


def test_a_bank_holds_the_sphere_and_three_turned_copies(x64):
    sphere = all_spheres()
    bank = np.asarray(sphere_bank(sphere))
    np.testing.assert_allclose(bank[:, 0], sphere, atol=1e-13)
    lengths = np.linalg.norm(bank[..., :3], axis=-1)
    np.testing.assert_allclose(lengths, np.tile(lengths[:, :1], (1, 4)), atol=1e-13)
    np.testing.assert_allclose(bank[..., :3].sum(1), 0, atol=1e-12)


def test_the_sphere_is_steered(x64):
    """First identity: v(R) times the bank is the sphere turned, and of no other rotation."""
    sphere, turn = all_spheres(), jnp.asarray(TURN)
    turned = np.asarray(turn_sphere(turn, sphere))
    np.testing.assert_allclose(turned[:, :3], np.asarray(sphere)[:, :3] @ TURN.T, atol=1e-13)
    v = steering(turn, sphere)
    found = jnp.einsum("nk,nkm->nm", v, sphere_bank(sphere))
    np.testing.assert_allclose(found, turned, atol=1e-12)
    points = conformal(jnp.asarray(X))
    numbers = jnp.einsum("nkm,pm->pnk", sphere_bank(sphere), points)
    np.testing.assert_allclose(jnp.einsum("nk,pnk->pn", v, numbers), points @ turned.T, atol=1e-12)
    back = jnp.einsum("nk,nkm->nm", steering(turn.T, sphere), sphere_bank(sphere))
    assert np.abs(np.asarray(back) - turned).max() > 0.1


@pytest.mark.parametrize("turn", [TURN, -TURN], ids=["proper", "improper"])
def test_banks_turn_by_an_orthogonal_matrix(turn, x64):
    """Second identity, also of improper rotations."""
    sphere, turn = all_spheres(), jnp.asarray(turn)
    matrix = representation(turn, sphere)
    eye = jnp.broadcast_to(jnp.eye(4), matrix.shape)
    np.testing.assert_allclose(matrix @ jnp.swapaxes(matrix, 1, 2), eye, atol=1e-12)
    x = jnp.asarray(X)
    bank = lambda x: jnp.einsum("nkm,pm->pnk", sphere_bank(sphere), conformal(x))
    expected = jnp.einsum("nkl,pnl->pnk", matrix, bank(x))
    np.testing.assert_allclose(bank(x @ turn.T), expected, atol=1e-12)
    assert np.abs(np.asarray(expected - bank(x))).max() > 0.1


def test_features_are_banks_as_a_vector_and_a_scalar(x64):
    """And so they turn as 1o and 0e, under improper rotations as well."""
    sphere, x = all_spheres(), jnp.asarray(X)
    bank = jnp.einsum("nkm,pm->pnk", sphere_bank(sphere), conformal(x))
    found = np.asarray(bank_features(x, sphere))
    parts = jax.vmap(lambda b: bank_vectors(b, sphere))(bank)
    np.testing.assert_allclose(found, jnp.swapaxes(parts, 1, 2), atol=1e-12)
    scalar = -GAINS * ((CENTRES**2).sum(1) - RADII**2) - GAINS * (X**2).sum(1)[:, None]
    np.testing.assert_allclose(found[:, 3], scalar, atol=1e-12)
    after = np.asarray(bank_features(x @ -TURN.T, sphere))
    np.testing.assert_allclose(
        after[:, :3], np.einsum("ab,pbn->pan", -TURN, found[:, :3]), atol=1e-12
    )
    np.testing.assert_allclose(after[:, 3], found[:, 3], atol=1e-12)


def test_derivatives_are_finite_at_the_origin():
    total = lambda x, s: jnp.sum(jnp.sin(bank_features(x, s)))
    for gradient in jax.grad(total, (0, 1))(jnp.zeros((2, 3)), jnp.zeros((2, 5))):
        assert np.isfinite(gradient).all()


def ancestor():
    """Spheres on eight pieces in one pose, four points each, and spheres on what these say.

    The first are random, and the last fitted: a neuron is linear in its sphere.
    """
    first = np.random.default_rng(1).normal(
        size=(6, 4, 5)
    )  # of a hidden number, those of four points
    hidden = lambda weights, shapes: np.einsum("hpm,npm->nh", weights, conformal(shapes))
    points = np.asarray(conformal(jnp.asarray(hidden(first, jnp.asarray(SHAPES)))))
    last = np.linalg.lstsq(points, np.eye(8), rcond=None)[0]
    classify = lambda weights, shapes: np.argmax(
        np.asarray(conformal(jnp.asarray(hidden(weights, shapes)))) @ last, -1
    )
    return first, classify


@pytest.mark.slow
def test_the_published_procedure(x64):
    """An ancestor that knows shapes in one pose knows them turned, where the rotation is known.

    So the mirror images are told apart, as they are by the ancestor, which has no symmetry.
    """
    first, classify = ancestor()
    np.testing.assert_array_equal(classify(first, jnp.asarray(SHAPES)), np.arange(8))
    sphere, found, unsteered = jnp.asarray(first), [], []
    for turn in Rotation.random(6, rng=np.random.default_rng(2)).as_matrix():
        turned = jnp.asarray(SHAPES @ turn.T)
        v = steering(jnp.asarray(turn), sphere)
        steered = jnp.einsum("hpk,hpkm->hpm", v, sphere_bank(sphere))
        found.append(classify(np.asarray(steered), turned))
        unsteered.append(classify(first, turned))
    np.testing.assert_array_equal(found, np.tile(np.arange(8), (6, 1)))
    assert np.mean(np.array(unsteered) == np.arange(8)) < 0.6


def test_what_invariants_of_banks_see_of_a_mirror(x64):
    """All products of two vectors, and all scalars, are the same for the two screws, whatever the
    spheres; the volume of three vectors has opposite signs, and nothing else differs."""
    sphere = all_spheres()
    left, right = (np.asarray(bank_features(jnp.asarray(s), sphere)) for s in SHAPES[:2])
    # Each point of one is the mirror image of the same point of the other
    products = [np.einsum("pan,qan->pqn", f[:, :3], f[:, :3]) for f in (left, right)]
    np.testing.assert_allclose(products[0], products[1], atol=1e-12)
    np.testing.assert_allclose(left[:, 3], right[:, 3], atol=1e-12)
    volumes = [np.linalg.det(f[:3, :3, 0]) for f in (left, right)]
    assert abs(volumes[0]) > 1e-3
    np.testing.assert_allclose(volumes[0], -volumes[1], atol=1e-12)


def test_the_layer_is_its_equation(x64):
    layer, x = SphericalNeurons(4), jnp.asarray(RNG.normal(size=(2, 7, 6)))
    params = layer.init(jax.random.key(0), x)
    found = layer.apply(params, x)
    s = np.asarray(params["params"]["spheres"], float)
    assert s.shape == (4, 8)
    x = np.asarray(x)
    expected = x @ s[:, :6].T - s[:, 6] - (x**2).sum(-1, keepdims=True) / 2 * s[:, 7]
    np.testing.assert_allclose(found, expected, atol=1e-12)
