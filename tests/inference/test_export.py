"""Parameters by path and back; platforms by name."""

import jax
import numpy as np
import pytest

from geojax.inference.export import export, flat_params, nested_params, programs_of
from geojax.model import Card
from geojax.potential import Output


def test_parameters_round_trip_by_path(energy_model):
    params = energy_model().params
    flat = flat_params(params, "float32")
    assert all(isinstance(name, str) and "/" in name for name in flat)
    back = nested_params(flat)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_energy_models_have_three_programs_and_others_one(energy_model):
    model = energy_model()
    assert set(programs_of(model)) == {"energy", "forces", "stress"}
    other = model.replace_card(**vars(Card(outputs=(Output("targets.mu"),))))
    assert set(programs_of(other)) == {"outputs"}


def test_unknown_platforms_are_refused_and_nothing_is_written(energy_model, tmp_path):
    with pytest.raises(ValueError, match="cpu, cuda, tpu; got 'gpu'"):
        export(energy_model(), tmp_path / "x.geojax", platforms=["gpu"])
    assert not list(tmp_path.iterdir())
