"""Resampled runs are those of the drawn structures, with what all structures set."""

import jax
import numpy as np
import pytest
from rich.console import Console

from geojax.datasets import Dataset
from geojax.inference import Ensemble
from geojax.model import Model
from geojax.networks import EGNN, fit_to_data
from geojax.training import train
from geojax.training.resample import drawn
from tests.training.conftest import samples, springs

DATA = Dataset("springs", train=tuple(springs(11)), valid=tuple(springs(4, seed=1)))
NETWORK = EGNN(cutoff=6.0, channels=4, layers=1)
E0S = {"H": 0.0, "O": 0.0}


def run(data: Dataset = DATA, network=NETWORK, **options) -> Model:
    fixed = {"epochs": 2, "batch_size": 4, "E0s": E0S, "console": Console(quiet=True)}
    return train(network, data, **(fixed | options))


def same(left: Model, right: Model) -> bool:
    pairs = zip(jax.tree.leaves(left.params), jax.tree.leaves(right.params), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_draws_repeat_some_and_differ_by_seed():
    rows = list(range(1000))
    draw = drawn(rows, 0)
    assert len(draw) == 1000 and set(draw) < set(rows) and draw == drawn(rows, 0)
    assert abs(len(set(draw)) / 1000 - (1 - np.exp(-1))) < 0.05
    assert draw != drawn(rows, 1)
    assert drawn(rows, None) == rows


@pytest.mark.slow
def test_a_resampled_run_is_that_of_the_drawn_structures(tmp_path):
    """The network, E0s and normalisation are those of all, so that members match."""
    found = run(folder=tmp_path, resample=3)
    forces = np.concatenate([s.properties.forces for s in DATA.train])
    energies = [s.properties.energy / len(s) for s in DATA.train]
    (output,) = found.card.outputs
    np.testing.assert_allclose(output.scale, np.sqrt(np.mean(forces**2)), rtol=1e-6)
    np.testing.assert_allclose(output.shift, np.mean(energies), rtol=1e-6)
    assert found.network == fit_to_data(NETWORK, samples(list(DATA.train)))
    data = Dataset("springs", train=tuple(drawn(DATA.train, 3)), valid=DATA.valid)
    by_hand = run(data, found.network, outputs=found.card.outputs, normalise=False)
    assert same(found, by_hand)
    assert len(Ensemble([found, by_hand])) == 2
    with pytest.raises(ValueError, match="other settings for resample"):
        run(folder=tmp_path, resample=4)
