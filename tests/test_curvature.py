"""Second derivatives against differences of forces and stresses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.curvature import VOIGT, dense_hessian, hessian_vector_product, strain_derivatives
from geojax.outputs import Output
from geojax.potential import predict_fn
from tests.test_potential import CELL, RNG, Springs, crystal, graph_of, predict

__all__ = ["crystal"]


def test_hessians_agree_with_differences_of_forces(crystal):
    run = predict_fn(Springs(), [Output()], forces=True)
    graph = graph_of(crystal)
    dense = jax.jit(lambda g: dense_hessian(run, jnp.float64(2.0), g, block=7))(graph)
    flat = dense.reshape(24, 24)
    np.testing.assert_allclose(flat, flat.T, atol=1e-12)
    direction = np.zeros((8, 3))
    direction[:5] = RNG.normal(size=(5, 3))
    product = hessian_vector_product(run, jnp.float64(2.0), graph, jnp.asarray(direction))
    np.testing.assert_allclose(product.ravel(), flat @ direction.ravel(), atol=1e-11)
    up, down = (
        predict(
            crystal.replace(positions=crystal.positions + s * direction[:5]), forces=True
        ).forces
        for s in (1e-5, -1e-5)
    )
    np.testing.assert_allclose(product, -(up - down) / 2e-5, rtol=1e-6, atol=1e-7)


def under(structure, strain):
    """The structure with its cell, deformed by a symmetric strain."""
    deformation = np.eye(3) + strain
    return structure.replace(positions=structure.positions @ deformation, cell=CELL @ deformation)


@pytest.mark.slow
def test_strain_derivatives_agree_with_differences(crystal):
    run = predict_fn(Springs(), [Output()])
    graph = graph_of(crystal)
    whole, inner = jax.jit(lambda g: strain_derivatives(run, jnp.float64(2.0), g))(graph)
    np.testing.assert_allclose(whole, whole.T, atol=1e-10)
    assert not np.asarray(inner)[5:].any()
    step = 1e-5
    for k, (i, j) in enumerate(VOIGT):
        strain = np.zeros((3, 3))
        strain[i, j] += step / 2
        strain[j, i] += step / 2
        up, down = (
            predict(under(crystal, sign * strain), forces=True, stress=True) for sign in (1, -1)
        )
        # Forces at r + eta r are derivatives by u
        mixed = -(up.forces - down.forces) / (2 * step)
        np.testing.assert_allclose(inner[..., k], mixed, rtol=1e-6, atol=1e-6)
    energies = {}
    for k, l in [(0, 0), (0, 1), (3, 3), (2, 4)]:
        for a in (1, -1):
            for b in (1, -1):
                strain = np.zeros((3, 3))
                for size, number in ((a, k), (b, l)):
                    i, j = VOIGT[number]
                    strain[i, j] += size * 1e-4 / 2
                    strain[j, i] += size * 1e-4 / 2
                energies[a, b] = float(predict(under(crystal, strain)).energy[0])
        curved = energies[1, 1] - energies[1, -1] - energies[-1, 1] + energies[-1, -1]
        assert float(whole[k, l]) == pytest.approx(curved / 4e-8, rel=1e-4, abs=1e-3)
