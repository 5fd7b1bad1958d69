import io
import json
import math
import sys
from dataclasses import replace
from datetime import datetime

import jax
import numpy as np
import pytest
from rich.console import Console

from geojax.checks import CHECKS, certified, certify
from geojax.checks import certificate as certificate_module
from geojax.graphs import Structure
from geojax.model import weights_hash
from tests.checks.potentials import Rule, model


def water(seed=0):
    x = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    return Structure(
        x + 0.05 * np.random.default_rng(seed).normal(size=(3, 3)), np.array([8, 1, 1])
    )


def test_the_good_potential_passes_every_check_in_both_precisions(certificate):
    assert certificate.passed and certificate.failed == ()
    measured = {
        d: {m.name for m in certificate.measurements if m.dtype == d}
        for d in certificate_module.DTYPES
    }
    assert measured["float64"] == set(CHECKS)
    only_double = {"forces", "stress", "cutoff", "layouts"}
    assert measured["float32"] == set(CHECKS) - only_double
    figures = [int(m.figure[1:]) for m in certificate.measurements]
    assert figures == sorted(figures)
    assert set(range(1, 16)) - set(figures) == {3}  # A3 is of the mathematics, not of a model


def test_it_says_of_what_and_by_what(certificate):
    assert certificate.model == "good"
    assert certificate.weights == weights_hash(model().params)
    assert certificate.versions["jax"] == jax.__version__
    assert certificate.device.startswith("cpu")
    assert certificate.seconds > 0 and certificate.seed == 0
    assert datetime.fromisoformat(certificate.date).utcoffset().total_seconds() == 0


def test_the_record_is_json_and_keeps_the_figures(certificate):
    record = json.loads(json.dumps(certificate.record(), allow_nan=False))
    assert record["passed"] is True
    assert len(record["checks"]) == len(certificate.measurements)
    first = certificate.measurements[0]
    assert record["checks"][0]["value"] == first.value
    assert record["checks"][0]["dtype"] == first.dtype


def test_what_is_infinite_is_finite_in_the_record(certificate):
    bad = replace(certificate.measurements[0], value=math.inf, passed=False)
    failed = replace(certificate, measurements=(bad, *certificate.measurements[1:]))
    record = json.loads(json.dumps(failed.record(), allow_nan=False))
    assert record["passed"] is False
    assert record["checks"][0]["value"] == sys.float_info.max


def printed(certificate) -> str:
    console = Console(file=io.StringIO(), width=250, record=True)
    console.print(certificate.table())
    return console.export_text()


def test_it_prints_as_its_table(certificate):
    text = str(certificate)
    assert "good" in text and "\x1b" not in text and max(map(len, text.splitlines())) <= 110
    assert all(name in text for name in CHECKS)


def test_the_table_has_a_line_for_each_check(certificate):
    text = printed(certificate)
    assert "good" in text and "passed" in text and "FAILED" not in text
    lines = text.splitlines()
    assert all(sum(f" {name} " in line for line in lines) >= 1 for name in CHECKS)
    assert sum(" ok " in line for line in lines) == len(CHECKS)


def test_the_table_says_what_a_failure_means(certificate):
    bad = replace(certificate.measurements[0], passed=False, detail="[see] the layer (figures)")
    text = printed(replace(certificate, measurements=(bad, *certificate.measurements[1:])))
    assert f"FAILED: {bad.name}" in text
    assert "FAILED [see] the layer (figures)" in text


def test_the_seed_decides_the_figures():
    figures = [
        [
            m.value
            for m in certify(model(dtype="float64"), checks=["translation"], seed=seed).measurements
        ]
        for seed in (0, 0, 1)
    ]
    assert figures[0] == figures[1] != figures[2]


def test_a_model_of_float64_is_measured_in_float64_alone():
    found = certify(model(dtype="float64"), checks=["translation"])
    assert [m.dtype for m in found.measurements] == ["float64"]
    found = certify(model(), checks=["translation"], dtype="float32")
    assert [m.dtype for m in found.measurements] == ["float32"]


def test_given_structures_are_measured_too():
    """Four of five, the first and the last among them, beside three generated ones."""
    given = [water(seed) for seed in range(5)]
    assert [
        s is given[i] for s, i in zip(certificate_module._some(given), (0, 1, 3, 4), strict=True)
    ]
    found = certify(model(dtype="float64"), given, checks=["rotation"])
    assert "of 7 structures" in found.measurements[0].detail


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dtype": "bfloat16"}, ValueError, "float64 or float32; got 'bfloat16'"),
        ({"checks": ["rotatoin"]}, KeyError, "did you mean 'rotation'"),
        (
            {"structures": [Structure(np.eye(3), np.array([1, 6, 79]))]},
            ValueError,
            "structure 0 holds Au and 'good' supports H, C, O",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        certify(model(), **options)


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_the_card_holds_the_certificate_passed_or_not(monkeypatch, bias):
    one = {"isolated atom": CHECKS["isolated atom"]}
    monkeypatch.setattr(certificate_module, "CHECKS", one)
    rule = lambda graph: 0 * graph.nodes["positions"][:, 0] + bias
    bare = model(Rule(rule=rule), dtype="float64")
    card = certified(bare, [water()]).card
    assert card.certificate["passed"] == (bias == 0)
    assert card.certificate["weights"] == weights_hash(bare.params)
    assert not bare.card.certificate
