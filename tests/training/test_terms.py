"""Terms from tables, their weights, and what is refused."""

import json

import jax.numpy as jnp
import pytest
from rich.console import Console

from geojax.datasets import Dataset
from geojax.inference import calibrate
from geojax.networks import EGNN
from geojax.outputs import Output
from geojax.training import Optimizer, Options, train
from geojax.training.losses import weighted_loss
from geojax.training.terms import Term, check_deviations, sum_name, terms_from_table, weight_at
from tests.training.conftest import springs


def test_weights_follow_their_schedule():
    weight = ((10.0, 1.0), (20.0, 3.0))
    values = [float(weight_at(weight, jnp.float32(e))) for e in (0, 10, 15, 20, 99)]
    assert values == [1, 1, 2, 3, 3]
    terms = (Term("energy", weight=weight), Term("forces", weight=2.0))
    sums = {"energy": (jnp.float32(8), jnp.float32(4)), "forces": (jnp.float32(3), jnp.float32(0))}
    assert float(weighted_loss(sums, terms, jnp.float32(15))) == 2 * 2 + 2 * 3


def test_terms_from_a_table():
    terms = terms_from_table({"energy": 1, "forces": {"weight": [[0, 1], [5, 9]], "kind": "mae"}})
    assert terms[0] == Term("energy", 1, per_atom=True)
    assert terms[1] == Term("forces", ((0, 1), (5, 9)), "mae")
    pair = terms_from_table({"hessian": [{"kind": "mae"}, {"kind": "eigenpairs", "weight": 0.1}]})
    assert [sum_name(term) for term in pair] == ["hessian", "hessian.eigenpairs"]


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({}, ValueError, "at least one term"),
        ({"energy": {"wieght": 1}}, KeyError, "weight"),
        ({"energy": {"kind": "mea"}}, KeyError, "mae"),
        ({"enregy": 1}, KeyError, "enregy"),
        ({"forces": {"kind": "eigenpairs"}}, ValueError, "those of a Hessian"),
        ({"targets.a": {"kind": "circle"}}, ValueError, "descriptors of points, node_targets"),
        (
            {"node_targets.a": {"kind": "circle", "radius": 1.0, "far": 0.5}},
            ValueError,
            "0 < radius <= far; got 'node_targets.a', radius=1.0, far=0.5",
        ),
        ({"hessian": [{"kind": "mae"}, {"kind": "mse"}]}, ValueError, "two of 'hessian'"),
        ({"energy": {"kind": "nll", "floor": 0.0}}, ValueError, "positive floor"),
    ],
)
def test_bad_tables_are_refused(table, error, message):
    with pytest.raises(error, match=message):
        terms_from_table(table)


def test_deviations_are_taught_where_there_are_any():
    many, one = Output(members=4), Output()
    likely, square = Term("energy", kind="nll"), Term("energy")
    check_deviations([likely, Term("forces")], [many])
    check_deviations([square, Term("forces", kind="crps")], [many])
    with pytest.raises(ValueError, match="learn to differ by a likelihood; 'energy' has 4 members"):
        check_deviations([square], [many])
    with pytest.raises(ValueError, match="needs a standard deviation; energy has none"):
        check_deviations([likely], [one])
    with pytest.raises(ValueError, match=r"targets\.a has none"):
        check_deviations([likely, Term("targets.a", kind="nll")], [many, Output("targets.a")])


@pytest.mark.slow
def test_a_shallow_ensemble_learns_how_sure_it_is(tmp_path):
    """Deviations are errors in size: the likelihood of held-out labels rises above a constant's."""
    data = Dataset("springs", train=tuple(springs(24)), valid=tuple(springs(12, seed=1)))
    loss = {"energy": {"kind": "nll", "floor": 1e-2}, "forces": {"kind": "crps", "floor": 1e-2}}
    network = EGNN(cutoff=6.0, channels=8, layers=1, irreps_out="8x0e")
    model = train(
        network,
        data,
        outputs=[Output(members=8)],
        loss=loss,
        E0s={1: 0.0, 8: 0.0},
        optimizer=Optimizer(learning_rate=0.02),
        options=Options(epochs=40, batch_size=4),
        folder=tmp_path,
        console=Console(quiet=True),
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["valid.loss"] < lines[0]["valid.loss"] - 1
    record = calibrate(model, data.valid).record()
    assert 0.3 < record["energy"]["factor"] < 3 and 0.3 < record["forces"]["factor"] < 3
