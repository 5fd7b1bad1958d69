"""Geometric algebra attention: forces of molecules, mirrors, units, and what it refuses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.datasets.tetris import PIECES
from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks import GeometricAlgebraAttention
from geojax.outputs import Output
from geojax.potential import predict_fn

SMALL = GeometricAlgebraAttention(channels=4, layers=1, hidden=5)
BUDGET = Budget(12, 4, 3)


def graph_of(*structures):
    samples = [sample(s, 0.0) for s in structures]
    return jax.tree.map(jnp.asarray, pad(samples, BUDGET, np.dtype("float64")).graph)


def parameters(network, graph):
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape)), shapes)


def piece(name):
    points = np.array(PIECES[name], float)
    return Structure(points, np.zeros(len(points), int))


@pytest.mark.slow
def test_molecules_have_forces_also_in_line(x64):
    """Forces are the derivative of the energy, and change smoothly where three atoms are in line:
    by as much as the atom is moved. An atom alone keeps no shift."""
    network = SMALL.clone(elements=(1, 6, 8))
    x = np.array([[-1.2, 0, 0], [0, 0, 0], [1.1, 0, 0]])
    molecule, alone = Structure(x, np.array([8, 6, 8])), Structure(x[1:2], np.array([6]))
    graph = graph_of(molecule, alone)
    params = parameters(network, graph)
    predict = jax.jit(predict_fn(network, [Output(shift=-3.0)], forces=True))

    def moved(by):
        step = by * np.array([[0, 0, 0], [0, 1.0, 0], [0, 0, 0]])
        return predict(params, graph_of(molecule.replace(positions=x + step), alone))

    line = moved(0.0)
    apart = predict_fn(network, [Output()])(params, graph)
    np.testing.assert_allclose(line.energy - apart.energy, [-9, 0, 0], atol=1e-12)
    np.testing.assert_allclose(np.asarray(line.forces)[:3, 1:], 0, atol=1e-12)
    slope = (moved(1e-4).energy - moved(-1e-4).energy) / 2e-4
    np.testing.assert_allclose(slope[0], -line.forces[1, 1], atol=1e-8)
    bends = [float(moved(by).forces[1, 1]) / by for by in (1e-4, 1e-3, -1e-3)]
    assert abs(bends[0]) > 1e-3
    np.testing.assert_allclose(bends[1:], bends[0], rtol=1e-3)


@pytest.mark.parametrize(("rank", "chiral"), [(2, True), (3, False), (3, True)])
def test_screws_are_told_apart_by_signed_volumes_alone(rank, chiral, x64):
    network = SMALL.clone(rank=rank, chiral=chiral, elements=(0,), readout="graph", channels=16)
    assert network.group == ("SE(3)" if rank == 3 and chiral else "E(3)")
    screws = [graph_of(piece(f"{hand} screw"), piece("corner")) for hand in ("left", "right")]
    params = parameters(network, screws[0])
    run = jax.jit(network.apply)
    left, right = (np.asarray(run(params, s).array)[:8, 0] for s in screws)
    np.testing.assert_array_equal(left[:4], left[0])
    assert abs(left[0] - left[4]) > 1e-6
    assert (abs(left[0] - right[0]) > 1e-8) == (rank == 3 and chiral)
    np.testing.assert_allclose(right[4:], left[4:], atol=1e-13)


@pytest.mark.slow
def test_the_unit_of_length(x64):
    network = SMALL.clone(elements=(0,), irreps_out="0e+1o")
    graph, larger = graph_of(piece("T")), piece("T")
    params = parameters(network, graph)
    larger = graph_of(larger.replace(positions=2.5 * larger.positions))
    expected = np.asarray(network.apply(params, graph).array)
    found = np.asarray(network.clone(scale=2.5).apply(params, larger).array)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.abs(network.apply(params, larger).array - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "single", "irreps_out": "1o"}, "rank 2 put out 0e, 1e; got irreps_out='1o'"),
        ({"irreps_out": "0o"}, "0o rank 3"),
        ({"rank": 3, "irreps_out": "2e"}, "with 2e"),
        ({"scale": 0.0}, "a unit of length is positive"),
        ({"readout": "cloud"}, "got 'cloud'"),
        ({"rank": 1}, "got rank 1"),
    ],
)
def test_what_is_refused(fields, message):
    network = SMALL.clone(elements=(0,), **fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(network.init, jax.random.key(0)), graph_of(piece("T")))
