"""Planted scales are recovered, and the figures are those of independent formulas."""

import numpy as np
import pytest
from scipy.stats import norm

from geojax.graphs import Properties, leaf
from geojax.inference import Ensemble, calibrate, predict
from geojax.inference.calibration import likelihood_scale, miscalibration_area

from .conftest import crystal, molecule
from .test_ensemble import members

NAMES = ("energy", "forces", "targets.energy_std", "node_targets.forces_std")


@pytest.fixture(scope="module")
def ensemble(energy_model) -> Ensemble:
    return Ensemble(members(energy_model("float64")))


def labelled(ensemble, structures, scales, seed=0):
    """Labels off the mean by normal errors of so many standard deviations."""
    rng = np.random.default_rng(seed)
    found = []
    for s, values in zip(structures, predict(ensemble, structures, NAMES), strict=True):
        noise = lambda name, std, values=values: (
            leaf(values, name) + scales[name] * leaf(values, std) * rng.normal()
        )
        forces = scales["forces"] * rng.normal(size=(len(s), 3))
        forces = values.forces + forces * values.node_targets["forces_std"]
        labels = Properties(noise("energy", "targets.energy_std"), forces)
        found.append(s.replace(properties=labels))
    return found


def test_planted_scales_are_recovered_and_applied(ensemble):
    planted = {"energy": 0.4, "forces": 3.0}
    structures = labelled(ensemble, [molecule(4, i) for i in range(150)], planted)
    found = calibrate(ensemble, structures)
    assert found.scales["forces"].count == 150 * 12 and found.scales["energy"].count == 150
    for name, scale in found.scales.items():
        relative = 3.5 / np.sqrt(2 * scale.count)  # of a standard deviation from so many numbers
        assert abs(scale.factor / planted[name] - 1) < relative
        assert scale.nll[1] < scale.nll[0] - 0.1
        assert scale.area[1] < 1 / np.sqrt(scale.count) < scale.area[0]
    calibrated = ensemble.replace_card(calibration=found.record())
    again = calibrate(calibrated, structures)  # from the raw deviations, whatever the card says
    assert again.scales["forces"] == found.scales["forces"]
    ((before,), (after,)) = (predict(e, structures[:1], NAMES) for e in (ensemble, calibrated))
    for name in ("energy", "forces"):
        std = next(n for n in NAMES if n.endswith(f"{name}_std"))
        factor = found.scales[name].factor
        np.testing.assert_allclose(leaf(after, std), factor * leaf(before, std), rtol=1e-12)


def test_the_factor_is_the_most_likely_one():
    rng = np.random.default_rng(0)
    deviations = rng.uniform(0.5, 2, 200)
    residuals = 1.7 * deviations * rng.standard_t(5, 200)
    factor = likelihood_scale(residuals, deviations)
    likelihood = lambda a: norm.logpdf(residuals, scale=a * deviations).sum()
    assert likelihood(factor) > max(likelihood(0.99 * factor), likelihood(1.01 * factor))
    np.testing.assert_allclose(np.var(residuals / deviations / factor, mean=0.0), 1)


def test_the_area_is_the_integral():
    rng = np.random.default_rng(0)
    residuals, deviations = 2.5 * rng.normal(size=60), rng.uniform(0.5, 2, 60)
    p = (np.arange(20000) + 0.5) / 20000
    inside = np.abs(residuals / deviations)[:, None] < norm.ppf((1 + p) / 2)
    area = np.abs(inside.mean(0) - p).mean()
    np.testing.assert_allclose(miscalibration_area(residuals, deviations), area, atol=1e-4)
    assert miscalibration_area(np.full(9, 1e9), np.ones(9)) == 0.5
    quantiles = norm.ppf((1 + (np.arange(1000) + 0.5) / 1000) / 2)
    assert miscalibration_area(quantiles, np.ones(1000)) < 3e-4


@pytest.mark.slow
def test_structures_with_different_labels_are_taken_together(ensemble):
    (solid,) = predict(ensemble, [crystal()], ["energy", "stress"])
    shifted = Properties(energy=solid.energy + 0.1, stress=solid.stress + 0.01)
    structures = [crystal().replace(properties=shifted)]
    structures += labelled(ensemble, [molecule()], {"energy": 1.0, "forces": 1.0})
    found = calibrate(ensemble, structures)
    counts = {name: scale.count for name, scale in found.scales.items()}
    assert counts == {"energy": 2, "forces": 15, "stress": 9}


def test_what_cannot_be_calibrated_is_refused(ensemble):
    with pytest.raises(ValueError, match=r"1 structures have targets\.mu"):
        calibrate(ensemble, [molecule().replace(properties=Properties(targets={"mu": 1.0}))])
    known = molecule().replace(properties=Properties(energy=-1.0))
    with pytest.raises(ValueError, match="predict the same energy"):
        calibrate(Ensemble([ensemble.models[0]] * 2), [known])
    (exact,) = labelled(ensemble, [molecule()], {"energy": 0.0, "forces": 0.0})
    with pytest.raises(ValueError, match="every label of energy is the prediction"):
        calibrate(ensemble, [exact])
