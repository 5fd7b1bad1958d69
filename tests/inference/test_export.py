"""Parameters by path and back; platforms by name; old files written again."""

import zipfile

import jax
import numpy as np
import pytest

from geojax.graphs import leaf, leaves
from geojax.inference import BadArtifact, Ensemble, open_artifact, predict
from geojax.inference.export import export, flat_params, nested_params, programs_of, refresh
from geojax.model import Card
from geojax.outputs import Output

from .conftest import molecule
from .test_artifact import rewritten, with_hashes
from .test_ensemble import members


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


@pytest.mark.slow
def test_an_expired_file_is_refused_and_written_again_from_its_weights(energy_model, tmp_path):
    model, own = energy_model(), molecule(8, seed=3)
    path = export(model, tmp_path / "new.geojax", platforms=["cpu"], vectors=[own])
    spoil = lambda parts: parts.update({n: b"old" for n in parts if n.endswith(".bin")})
    old = rewritten(path, tmp_path / "old.geojax", with_hashes(spoil))
    with pytest.raises(BadArtifact, match=r"programs .* cannot run here .*geojax.refresh"):
        open_artifact(old)
    assert refresh(old, platforms=["cpu"]) == old
    (found,), (want,) = open_artifact(old)([own]), predict(model, [own])
    np.testing.assert_allclose(found.forces, want.forces, atol=1e-5)
    with zipfile.ZipFile(old) as a, zipfile.ZipFile(path) as b:
        assert a.read("vectors.safetensors") == b.read("vectors.safetensors")


@pytest.mark.slow
def test_an_ensemble_keeps_its_deviations_and_its_members(energy_model, tmp_path):
    models = members(energy_model("float64"))
    ensemble = Ensemble(models).replace_card(calibration={"forces": {"factor": 2.0}})
    path = export(ensemble, tmp_path / "x.geojax", platforms=["cpu"])
    for file in (path, refresh(path, tmp_path / "y.geojax", platforms=["cpu"])):
        (found,), (want,) = open_artifact(file)([molecule()]), predict(ensemble, [molecule()])
        assert set(leaves(found)) == set(leaves(want))
        for name, value in leaves(want).items():
            np.testing.assert_allclose(leaf(found, name), value, rtol=1e-9, atol=1e-9)
    alone = export(models[0], tmp_path / "z.geojax", platforms=["cpu"])
    with pytest.raises(ValueError, match="'node_targets.forces_std' was asked for"):
        open_artifact(alone)([molecule()], ["node_targets.forces_std"])


@pytest.mark.slow
def test_direct_hessians_stay_behind_and_the_rest_is_exported(hessian_model, tmp_path):
    path = export(hessian_model, tmp_path / "x.geojax", platforms=["cpu"])
    artifact = open_artifact(path)
    (found,), (want,) = artifact([molecule(4)]), predict(hessian_model, [molecule(4)])
    assert found.hessian is None and want.hessian is not None
    np.testing.assert_allclose(found.forces, want.forces, atol=1e-10)
    with pytest.raises(ValueError, match="a Hessian needs the model; use geojax.load"):
        artifact([molecule(4)], ["hessian"])


@pytest.mark.slow
def test_a_network_that_changed_since_is_not_written(energy_model, tmp_path, monkeypatch):
    path = export(energy_model(), tmp_path / "x.geojax", platforms=["cpu"])
    before = path.read_bytes()
    from geojax import networks

    build = networks.from_table
    other = lambda table: build(table).clone(cutoff=2.0)
    monkeypatch.setattr(networks, "from_table", other)
    with pytest.raises(BadArtifact, match="does not reproduce its test vectors"):
        refresh(path)
    assert path.read_bytes() == before
