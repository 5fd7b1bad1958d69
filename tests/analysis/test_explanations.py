"""Gradients of potentials that follow by hand, sums of shares, scores of what does not turn."""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import IrrepsArray

from geojax.analysis import (
    EXPLANATIONS,
    averaged,
    equivariance,
    explainer,
    explanation_scores,
    group_elements,
    invariance,
)
from geojax.arrays import safe_norm
from geojax.graphs import Graph, Structure, edge_vectors, to_receivers
from geojax.model import Card, Model
from geojax.outputs import Output

rng = np.random.default_rng(0)
CUBE = np.stack(  # the 24 rotations of a cube
    [
        np.eye(3)[list(order)] * np.array(signs)[:, None]
        for order in [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)]
        for signs in np.ndindex(2, 2, 2)
        for signs in [1 - 2 * np.array(signs)]
        if np.linalg.det(np.eye(3)[list(order)] * signs[:, None]) > 0
    ]
)


@dataclass(frozen=True)
class Springs:
    """E_i = sum_j (1 - r_ij / cutoff)³ of pairs within the cutoff."""

    cutoff: float = 3.0
    irreps_out: str = "0e"
    nearest: int | None = None
    vectors: tuple[str, ...] = ()

    def apply(self, params: Any, graph: Graph) -> IrrepsArray:
        r = safe_norm(edge_vectors(graph))
        return IrrepsArray(
            "0e", to_receivers(jnp.maximum(1 - r / self.cutoff, 0) ** 3, graph)[:, None]
        )


@dataclass(frozen=True)
class Tilted(Springs):
    """E_i = sin(a · x_i) + |x_i|²: no invariant."""

    cutoff: float = 0.0

    def apply(self, params: Any, graph: Graph) -> IrrepsArray:
        x = graph.nodes["positions"]
        return IrrepsArray(
            "0e", jnp.sin(x @ params["a"])[:, None] + jnp.sum(x * x, -1, keepdims=True)
        )


@dataclass(frozen=True)
class Charges(Springs):
    """Two numbers of a node: q², and the square of its dipole; exactly invariant."""

    cutoff: float = 0.0
    irreps_out: str = "2x0e"
    vectors: tuple[str, ...] = field(default=("arm",))

    def apply(self, params: Any, graph: Graph) -> IrrepsArray:
        arm, q = graph.nodes["arm"], graph.nodes["charge"]
        return IrrepsArray("2x0e", jnp.stack([q**2, jnp.sum(arm * arm, -1)], -1))


def model(network, *outputs):
    params = {"a": np.array([0.5, -0.3, 0.8], np.float32)}
    return Model(network, params, Card(outputs=outputs or (Output(),)))


CHARGES = model(Charges(), Output("targets.both", irreps="2x0e"))
x = rng.normal(size=(5, 3))
CLOUD = Structure(x - x.mean(0), np.zeros(5, int))
POLAR = CLOUD.replace(
    inputs={"arm": rng.normal(size=(5, 3)), "charge": rng.normal(size=5)},
)


def value(structure, cutoff=3.0):
    r = np.linalg.norm(structure[:, None] - structure[None], axis=-1)
    return np.sum(np.maximum(1 - r / cutoff, 0) ** 3) - len(structure)


def numerical(f, x, h=1e-6):
    found = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[i] = h
        found[i] = (f(x + step) - f(x - step)) / (2 * h)
    return found


def test_saliency_is_the_gradient():
    found = explainer(model(Springs()))(CLOUD)
    np.testing.assert_allclose(found, numerical(value, CLOUD.positions), atol=1e-8)


def test_shares_are_scalar_products_and_add_up():
    slope = explainer(model(Springs()))(CLOUD)
    shares = explainer(model(Springs()), "gradient-input")(CLOUD)
    np.testing.assert_allclose(shares, np.sum(CLOUD.positions * slope, -1), atol=1e-12)
    # All pairs come within the cutoff on the way to the mean, and count there
    integrated = explainer(model(Springs()), "integrated", steps=64)(CLOUD)
    want = value(CLOUD.positions) - value(np.zeros((5, 3)))
    np.testing.assert_allclose(integrated.sum(), want, atol=1e-4)
    assert abs(shares.sum() - want) > 0.1
    base = rng.normal(size=(5, 3))
    base -= base.mean(0)
    integrated = explainer(model(Tilted()), "integrated", baseline=base)(CLOUD)
    energy = lambda x: np.sum(np.sin(x @ [0.5, -0.3, 0.8]) + np.sum(x * x, -1))
    np.testing.assert_allclose(integrated.sum(), energy(CLOUD.positions) - energy(base), atol=1e-6)


def test_inputs_and_columns_are_chosen():
    of = lambda **options: explainer(CHARGES, **options)(POLAR)
    np.testing.assert_allclose(of(feature="charge"), 2 * POLAR.inputs["charge"])
    np.testing.assert_allclose(of(feature="arm", column=1), 2 * POLAR.inputs["arm"])
    np.testing.assert_allclose(of(feature="arm"), 0)
    shares = of(feature="arm", column=1, method="integrated")
    np.testing.assert_allclose(shares, np.sum(POLAR.inputs["arm"] ** 2, -1), atol=1e-12)


@pytest.mark.parametrize("method", sorted(EXPLANATIONS))
def test_explanations_of_an_invariant_model_turn_with_the_structure(method):
    scores = explanation_scores(model(Springs()), [CLOUD], method=method, group="O(3)", samples=6)
    assert scores.equivariance == pytest.approx(1, abs=1e-10)
    assert scores.model < 1e-12
    if method == "saliency":
        assert scores.invariance < 0.9
    else:
        assert scores.invariance == pytest.approx(1, abs=1e-10)
    polar = explanation_scores(CHARGES, [POLAR], method=method, feature="arm", column=1, samples=4)
    assert polar.equivariance == pytest.approx(1, abs=1e-10)


def test_a_baseline_of_its_own_does_not_turn():
    elements = group_elements(6)
    start = explainer(model(Springs()), "integrated", baseline=rng.normal(size=(5, 3)))
    assert equivariance(start, CLOUD, elements, turns=False) < 0.999
    # and neither do products of single components
    slope = explainer(model(Springs()))
    parts = lambda s: s.positions * slope(s)
    assert equivariance(parts, CLOUD, elements) < 0.9
    assert equivariance(parts, CLOUD, elements, turns=False) < 0.9


@pytest.mark.slow
def test_the_scores_of_one_element_and_of_a_model_that_is_not_invariant():
    one = np.eye(3)[None]
    explain = explainer(model(Tilted()))
    assert invariance(explain, CLOUD, one) == equivariance(explain, CLOUD, one) == pytest.approx(1)
    scores = explanation_scores(model(Tilted()), [CLOUD], samples=6)
    assert scores.equivariance < 0.99 and scores.model > 1e-3
    better = explanation_scores(model(Tilted()), [CLOUD], samples=6, average=40)
    assert 1 - better.equivariance < (1 - scores.equivariance) / 4


def test_a_mean_over_a_finite_group_is_equivariant_under_it():
    assert CUBE.shape == (24, 3, 3)
    explain = explainer(model(Tilted()))
    assert equivariance(explain, CLOUD, CUBE[:5]) < 0.99
    cured = averaged(explain, CUBE)
    assert equivariance(cured, CLOUD, CUBE[[3, 11, 20]]) == pytest.approx(1, abs=1e-12)


def test_zero_explanations():
    zero = lambda s: np.zeros((len(s), 3))
    assert invariance(zero, CLOUD, CUBE[:2]) == 1
    half = lambda s: s.positions * (np.abs(s.positions - CLOUD.positions).max() < 1e-9)
    assert equivariance(half, CLOUD, CUBE[5:7]) == 0


def test_elements_of_groups():
    for group, signs in (("SO(3)", [1, 1, 1, 1]), ("O(3)", [1, -1, 1, -1])):
        found = group_elements(4, group=group)
        np.testing.assert_allclose(
            found @ found.transpose(0, 2, 1), np.tile(np.eye(3), (4, 1, 1)), atol=1e-14
        )
        np.testing.assert_allclose(np.linalg.det(found), signs)
    with pytest.raises(ValueError, match=r"one of SO\(3\), O\(3\); got 'SE\(3\)'"):
        group_elements(2, group="SE(3)")


def test_what_is_refused():
    with pytest.raises(KeyError, match="saliency"):
        explainer(model(Springs()), "salience")
    with pytest.raises(ValueError, match="got 'forces' of a model that predicts energy"):
        explainer(model(Springs()), output="forces")
    with pytest.raises(ValueError, match="has 2 numbers; column 2"):
        explainer(CHARGES, column=2)(POLAR)
    with pytest.raises(ValueError, match="'weight' is none of positions"):
        explainer(model(Springs()), feature="weight")(CLOUD)
    with pytest.raises(ValueError, match=r"shape of the feature, \(5, 3\); got \(4, 3\)"):
        explainer(model(Springs()), "integrated", baseline=np.zeros((4, 3)))(CLOUD)
    crystal = CLOUD.replace(cell=9 * np.eye(3), pbc=(True, True, True))
    with pytest.raises(ValueError, match="take saliency"):
        explainer(model(Springs()), "gradient-input")(crystal)
    assert explainer(model(Springs()))(crystal).shape == (5, 3)
    with pytest.raises(ValueError, match="got none"):
        explanation_scores(model(Springs()), [])
