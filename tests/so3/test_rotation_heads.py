"""Rotation heads: always a rotation, there and back, as scipy and the formulas say; derivatives."""

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from geojax.so3 import random_rotation
from geojax.so3.rotation_heads import (
    ROTATION_HEADS,
    from_5d,
    from_6d,
    from_9d,
    from_axis_angle,
    from_euler,
    from_quaternion,
    geodesic_angle,
    nearest_rotation,
    to_quaternion,
)

EPS = float(np.finfo("float64").eps)


@pytest.fixture
def untyped():
    """Without run-time type checks, which would refuse wrong input before the code does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def awkward_rotations() -> np.ndarray:
    """The identity, half turns and what is nearly so, where Euler's angles lock, and plain ones."""
    some = Rotation.random(20, rng=0).as_matrix()
    half = [2 * np.outer(n, n) - np.eye(3) for n in (*np.eye(3), np.array([0.6, 0, 0.8]))]
    near = [h @ Rotation.from_rotvec(1e-9 * n).as_matrix() for h in half for n in np.eye(3)]
    little = Rotation.from_rotvec(np.logspace(-12, 0, 13)[:, None] * [[0.6, -0.64, 0.48]])
    locked = [
        Rotation.from_euler("XZY", [0.4, s * np.pi / 2 + d, 1.1]).as_matrix()
        for s in (-1, 1)
        for d in (0, 1e-9)
    ]
    return np.concatenate([[np.eye(3)], half, near, little.as_matrix(), locked, some])


def assert_rotations(matrices, atol=1e-14):
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=atol)
    identity = np.broadcast_to(np.eye(3), matrices.shape)
    np.testing.assert_allclose(np.swapaxes(matrices, -1, -2) @ matrices, identity, atol=atol)


@pytest.mark.parametrize("name", ROTATION_HEADS)
def test_there_and_back(x64, name):
    head, rotations = ROTATION_HEADS[name], awkward_rotations()
    numbers, back = jax.jit(lambda r: (head.encode(r), head.decode(head.encode(r))))(rotations)
    assert numbers.shape == (len(rotations), head.numbers)
    np.testing.assert_allclose(back, rotations, atol=4e-15)
    assert_rotations(np.asarray(back))
    if name == "5d":
        assert np.abs(numbers).max() <= 1 + 1e-15
    if name in ("quaternion", "axis-angle"):
        largest = {"quaternion": 1, "axis-angle": np.pi}[name]
        assert np.linalg.norm(numbers, axis=-1).max() <= largest + 1e-12
    if name == "quaternion":
        assert np.min(numbers[:, 0]) >= 0


def awkward_numbers(n: int) -> np.ndarray:
    """All zero, tiny, alike, along the axes, columns that are parallel or nearly so."""
    rng = np.random.default_rng(1)
    parallel = np.resize(rng.normal(size=3), n)
    nearly = parallel * (1 + 1e-7 * rng.normal(size=n))
    rows = [np.zeros(n), np.ones(n), -np.arange(n), parallel, nearly, 1e-30 * nearly]
    return np.stack([*rows, *np.eye(n), *rng.normal(size=(5, n))])


@pytest.mark.parametrize("name", ROTATION_HEADS)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_every_input_gives_a_rotation_and_finite_derivatives(name, dtype):
    head = ROTATION_HEADS[name]
    with jax.enable_x64(dtype == "float64"):
        x, mix = jnp.asarray(awkward_numbers(head.numbers), dtype), jnp.sin(jnp.arange(9.0))

        def value(x):
            matrix = head.decode(x)
            return matrix.reshape(9) @ mix.astype(dtype), matrix

        gradient, matrices = jax.jit(jax.vmap(jax.grad(value, has_aux=True)))(x)
        assert matrices.dtype == gradient.dtype == dtype
        assert_rotations(np.asarray(matrices), {"float32": 2e-6, "float64": 1e-14}[dtype])
        assert np.isfinite(gradient).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ROTATION_HEADS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_second_derivatives_are_finite(name, dtype):
    head = ROTATION_HEADS[name]
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(awkward_numbers(head.numbers), dtype)
        second = jax.jit(jax.vmap(jax.jacfwd(jax.jacrev(head.decode))))(x)
        assert np.isfinite(second).all()


@pytest.mark.parametrize(
    "name", [*("5d", "axis-angle", "euler"), pytest.param("quaternion", marks=pytest.mark.slow)]
)
def test_encoding_has_finite_derivatives(x64, name):
    encode = ROTATION_HEADS[name].encode
    gradient = jax.jit(jax.vmap(jax.grad(lambda r: encode(r) @ jnp.arange(encode(r).shape[0]))))
    assert np.isfinite(gradient(awkward_rotations())).all()


def test_agrees_with_scipy(x64):
    rng = np.random.default_rng(2)
    q, v, angles = rng.normal(size=(5, 4)), 3 * rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    of = jax.jit(lambda q, v, a: (from_quaternion(q), from_axis_angle(v), from_euler(a)))
    ours = of(*map(jnp.asarray, (q, v, angles)))
    theirs = (
        Rotation.from_quat(q, scalar_first=True),
        Rotation.from_rotvec(v),
        Rotation.from_euler("XZY", angles),
    )
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, two.as_matrix(), atol=1e-14)


def test_6d_and_5d_are_the_published_formulas(x64):
    rng = np.random.default_rng(3)

    def frame(a, b):
        x = a / np.linalg.norm(a)
        z = np.cross(x, b) / np.linalg.norm(np.cross(x, b))
        return np.stack([x, np.cross(z, x), z], -1)

    six, five = rng.normal(size=(4, 6)), rng.uniform(-1, 1, size=(4, 5))
    of_six, of_five = jax.jit(lambda *x: (from_6d(x[0]), from_5d(x[1])))(six, five)
    expected = [frame(row[:3], row[3:]) for row in six]
    np.testing.assert_allclose(of_six, expected, atol=1e-14)
    for row, found in zip(five, of_five, strict=True):
        t = row[2:] * [2**0.5 + 1, 2**0.5 + 1, 2**0.5]
        u = np.append(t @ t - 1, 2 * t) / (t @ t + 1)
        u /= np.linalg.norm(u[1:])
        np.testing.assert_allclose(found, frame([*row[:2], u[0]], u[1:]), atol=1e-14)


def test_symmetries_of_the_heads(x64, key):
    """6D turns from the left and ignores lengths; SVD turns from both sides; q and -q agree."""
    left, right, noise, one = random_rotation(key, (4,))
    a, b = 3 * one[0], one[1] + one[0]
    six = [[a, b], [left @ a, left @ b], [1e8 * a, 1e-8 * b]]
    matrix = noise + 0.7 * jax.random.normal(key, (3, 3))
    nine = jnp.stack([matrix, left @ matrix @ right, 2**-30 * matrix])
    four = jnp.asarray([[1.0, 2, 3, 4], [-2, -4, -6, -8]])
    both = jax.jit(lambda *x: (from_6d(x[0]), nearest_rotation(x[1]), from_quaternion(x[2])))
    columns, nearest, (q, minus_q) = both(jnp.asarray(six).reshape(3, 6), nine, four)
    np.testing.assert_allclose(columns[1], left @ columns[0], atol=1e-14)
    np.testing.assert_allclose(columns[2], columns[0], atol=1e-14)
    np.testing.assert_allclose(nearest[1], left @ nearest[0] @ right, atol=1e-14)
    np.testing.assert_array_equal(nearest[2], nearest[0])
    np.testing.assert_allclose(minus_q, q, atol=1e-15)


def test_nearest_rotation_has_the_largest_trace(x64):
    """Of 20 000 rotations none is nearer, also to matrices of negative determinant."""
    matrices = np.random.default_rng(6).normal(size=(8, 3, 3))
    assert {-1.0, 1.0} == set(np.sign(np.linalg.det(matrices)))
    nearest = jax.jit(lambda m: (nearest_rotation(m), from_9d(m.reshape(8, 9))))
    one, two = nearest(jnp.asarray(matrices))
    np.testing.assert_array_equal(one, two)
    found = np.einsum("nij,nij->n", one, matrices)
    others = Rotation.random(20_000, rng=7).as_matrix()
    best = np.einsum("rij,nij->rn", others, matrices).max(0)
    assert np.all(found >= best)
    np.testing.assert_allclose(found, best, rtol=0.02)


COINCIDING = {
    "three alike": np.diag([2.0, 2, 2]),
    "two alike": np.diag([2.0, 2, 1]),
    "rank two": np.diag([2.0, 2, 0]),
    "left-handed": np.diag([2.0, 2, -1]),
}


@pytest.mark.parametrize("case", COINCIDING)
def test_derivative_where_singular_values_coincide(x64, key, case):
    """Against central differences; jax's own derivative of an SVD is not finite at any of these."""
    one, two = random_rotation(key, (2,))
    matrix = one @ COINCIDING[case] @ two
    step, along = 1e-4, np.asarray(jax.random.normal(key, (3, 3)))
    plain = lambda m: np.linalg.svd(m)
    shifted = [np.asarray(matrix) + s * step * along for s in (-2, -1, 1, 2)]
    values = []
    for u, _, vt in map(plain, shifted):
        values.append(u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt)
    slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    forward, backward, second = _derivatives(matrix, along)
    np.testing.assert_allclose(forward, slope, atol=1e-10)
    np.testing.assert_allclose(backward, np.sum(slope * np.arange(9.0).reshape(3, 3)), atol=1e-9)
    middle = np.asarray(nearest_rotation(matrix))
    curved = (-values[0] + 16 * values[1] - 30 * middle + 16 * values[2] - values[3]) / (12 * step)
    np.testing.assert_allclose(second, curved / step, atol=1e-6)


@jax.jit
def _derivatives(matrix, along):
    """Along a direction: forward, backward (with weights) and the second derivative."""
    weights = jnp.arange(9.0).reshape(3, 3)
    first = lambda m: jax.jvp(nearest_rotation, (m,), (along,))[1]
    backward = jax.grad(lambda m: (nearest_rotation(m) * weights).sum())(matrix)
    return first(matrix), (backward * along).sum(), jax.jvp(first, (matrix,), (along,))[1]


def test_derivative_is_bounded_where_the_rotation_is_not_determined(x64):
    """A reflection of equal singular values, rank one, nothing at all: the stated limit holds."""
    bound = 4 / (16 * EPS)
    singular = [[1, 1, -1], [2, 1, -1], [1, 0, 0], [1e-300, 0, 0], [0, 0, 0]]
    matrices = jnp.asarray([np.diag(s) for s in singular], float)
    both = jax.jit(jax.vmap(lambda m: (nearest_rotation(m), jax.jacrev(nearest_rotation)(m))))
    rotations, jacobians = both(matrices)
    assert_rotations(np.asarray(rotations))
    np.testing.assert_array_equal(rotations[-1], np.eye(3))
    assert np.isfinite(jacobians).all()
    assert np.abs(jacobians).max() <= bound
    assert not np.any(jacobians[-1])


def test_rotation_vectors_are_smooth_at_zero(x64):
    """R = exp([v]x): the second derivative at zero is that of the exponential."""
    second = jax.jit(jax.jacfwd(jax.jacfwd(from_axis_angle)))(jnp.zeros(3))
    spins = [np.stack([np.cross(e, f) for f in np.eye(3)], -1) for e in np.eye(3)]
    for i in range(3):
        for j in range(3):
            expected = (spins[i] @ spins[j] + spins[j] @ spins[i]) / 2
            np.testing.assert_allclose(second[..., i, j], expected, atol=1e-15)
    v = np.array([0.3, -0.2, 0.9])
    series = expm(np.stack([np.cross(v, f) for f in np.eye(3)], -1))
    np.testing.assert_allclose(jax.jit(from_axis_angle)(v), series, atol=1e-15)


def test_geodesic_angle(x64, key):
    """The length of the rotation vector between the two, accurate at both ends, bi-invariant."""
    one = awkward_rotations()
    two = Rotation.random(len(one), rng=4).as_matrix()
    angle = jax.jit(geodesic_angle)
    theirs = (Rotation.from_matrix(one).inv() * Rotation.from_matrix(two)).magnitude()
    np.testing.assert_allclose(angle(one, two), theirs, atol=1e-14)
    turn = np.asarray(random_rotation(key))
    np.testing.assert_allclose(angle(turn @ one, turn @ two), theirs, atol=1e-14)
    angles = np.array([1e-12, 1e-6, 1.0, np.pi - 1e-6, np.pi - 1e-12])
    rotations = Rotation.from_rotvec(angles[:, None] * [[0.6, 0, 0.8]]).as_matrix()
    identity = np.broadcast_to(np.eye(3), rotations.shape)
    np.testing.assert_allclose(angle(identity, rotations), angles, atol=4e-16, rtol=1e-15)


def test_derivative_of_the_geodesic_angle(x64):
    """Zero at 0 and pi, of size one between, finite for matrices of zeros."""
    axis = jnp.asarray([0.6, 0, 0.8])
    derivative = jax.jit(jax.grad(lambda t: geodesic_angle(jnp.eye(3), from_axis_angle(t * axis))))
    found = jax.vmap(derivative)(jnp.asarray([0.0, 1e-6, 1.0, np.pi - 1e-6]))
    np.testing.assert_allclose(found, [0, 1, 1, 1], atol=1e-9)
    matrices = jnp.asarray([np.eye(3), np.diag([1.0, -1, -1]), np.zeros((3, 3))])
    gradient = jax.jit(jax.vmap(jax.grad(lambda m: geodesic_angle(m, jnp.eye(3)))))
    assert not np.any(gradient(matrices))


def test_which_numbers_jump(x64):
    """Once around an axis: quaternions, rotation vectors and Euler's angles jump, others do not."""
    turn = Rotation.from_rotvec(np.linspace(0, 2 * np.pi, 1001)[:, None] * [[0.6, 0.0, 0.8]])
    rotations = jnp.asarray((turn * Rotation.random(rng=5)).as_matrix())
    encode = jax.jit(lambda r: {name: head.encode(r) for name, head in ROTATION_HEADS.items()})
    steps = {name: np.diff(numbers, axis=0) for name, numbers in encode(rotations).items()}
    jump = {name: np.linalg.norm(step, axis=-1).max() for name, step in steps.items()}
    assert max(jump[name] for name in ("5d", "6d", "svd")) < 0.03
    assert min(jump[name] for name in ("quaternion", "axis-angle", "euler")) > 1.9


def test_uniform_quaternions_are_uniform_rotations_and_uniform_angles_are_not(x64):
    """The mean angle is pi/2 + 2/pi; a uniform axis with a uniform angle has pi/2."""
    rng = np.random.default_rng(8)
    axis = rng.normal(size=(20_000, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)

    @jax.jit
    def mean_angles(q, v):
        identity = jnp.broadcast_to(jnp.eye(3), (len(q), 3, 3))
        return [
            geodesic_angle(identity, r).mean() for r in (from_quaternion(q), from_axis_angle(v))
        ]

    found = mean_angles(rng.normal(size=(20_000, 4)), rng.uniform(0, np.pi, (20_000, 1)) * axis)
    np.testing.assert_allclose(found, [np.pi / 2 + 2 / np.pi, np.pi / 2], atol=0.02)


def test_half_precision():
    matrix = jax.jit(nearest_rotation)(jnp.diag(jnp.asarray([2, 1, 0.5], "bfloat16")))
    assert matrix.dtype == "bfloat16"
    np.testing.assert_allclose(matrix.astype("float32"), np.eye(3), atol=0.01)


@pytest.mark.parametrize("name", ["6d", pytest.param("svd", marks=pytest.mark.slow)])
def test_exports_for_any_number_of_rotations(name):
    head = ROTATION_HEADS[name]
    x = jnp.cos(jnp.arange(3.0 * head.numbers)).reshape(3, head.numbers)
    shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape(f"n, {head.numbers}"), x.dtype)
    exported = jax.export.export(jax.jit(head.decode), platforms=("cpu", "cuda"))(shape)
    np.testing.assert_allclose(exported.call(x), jax.jit(head.decode)(x), atol=1e-6)


def test_refuses_wrong_shapes(untyped):
    with pytest.raises(ValueError, match="a quaternion has 4 numbers on the last axis; got shape"):
        from_quaternion(jnp.ones((2, 3)))
    for function in (nearest_rotation, to_quaternion, partial(geodesic_angle, jnp.eye(3))):
        with pytest.raises(ValueError, match=r"matrices \[..., 3, 3\]; got shape \(3, 2\)"):
            function(jnp.ones((3, 2)))
    with pytest.raises(KeyError, match="no rotation head '6D'; did you mean '6d'"):
        ROTATION_HEADS["6D"]
