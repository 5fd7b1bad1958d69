"""Five charges: the published split, and what follows from Newton's laws."""

import numpy as np
import pytest

from geojax.datasets import nbody
from tests.datasets.molecules import counts


def columns(structures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions and velocities at frame 30 and positions at frame 40, `[sample, node, 3]`."""
    x = np.array([s.positions for s in structures])
    v = np.array([s.inputs["velocities"] for s in structures])
    return x, v, np.array([s.properties.node_targets["positions"] for s in structures])


def test_samples_are_split_as_published(real):
    data = real("nbody")
    assert counts(data) == (3000, 2000, 2000)
    s = data.train[0]
    assert s.positions.shape == (5, 3) and not s.species.any() and s.cell is None
    assert {float(q) for s in data.test for q in s.inputs["charges"]} == {-1.0, 1.0}


def test_the_centre_moves_with_the_mean_velocity(real):
    """Forces cancel, and ten frames are one unit of time: 10 * 100 steps of 0.001.

    The generator clips forces, so a few encounters break the law by less than a hundredth.
    """
    x, v, later = columns(real("nbody").test)
    off = np.abs((later - x).mean(1) - v.mean(1)).max(-1)
    assert np.quantile(off, 0.9) < 1e-5 and off.max() < 0.01


def test_charges_pull_and_push(real):
    """To first order, the change against free flight has the direction of the Coulomb force."""
    data = real("nbody")
    x, v, later = columns(data.valid)
    q = np.array([s.inputs["charges"] for s in data.valid])
    difference = x[:, :, None] - x[:, None]
    r = np.linalg.norm(difference, axis=-1) + np.eye(5)
    pull = (q[:, :, None] * q[:, None] / r**3)[..., None] * difference
    force = pull.sum(2)
    gentle = r.min((1, 2)) > 1 - 1e-6  # no near encounter
    assert gentle.sum() > 100
    bent = (later - x - v)[gentle].ravel()
    assert np.corrcoef(bent, force[gentle].ravel())[0, 1] > 0.7


def test_the_linear_baseline_is_the_published_one(real):
    """x + 0.728 v; published 0.0819 on another sample, 0.0847 ± 0.0028 on this one."""
    x, v, later = columns(real("nbody").test)
    assert np.mean((x + 0.728 * v - later) ** 2) == pytest.approx(0.0847, abs=5e-4)


@pytest.mark.slow
def test_fewer_training_samples(real):
    assert counts(real("nbody", n_train=10)) == (10, 2000, 2000)
    with pytest.raises(ValueError, match="n_train is 1 to 3000; got 3001"):
        nbody(n_train=3001)
