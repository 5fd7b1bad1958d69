"""Families of small networks of known power, and what is alike in the standard pairs."""

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import IrrepsArray

from geojax.analysis import separation_report, standard_pairs
from geojax.arrays import safe_norm
from geojax.graphs import Graph, Structure, edge_vectors, to_receivers
from geojax.model import Card, Model
from geojax.networks import EGNN

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "sigmoid": jax.nn.sigmoid,
    "square": jnp.square,
}
PAIRS = standard_pairs()


@dataclass(frozen=True)
class Family:
    """Sums over pairs, over what nodes hear by distance, by vector, or by triple product."""

    power: str
    activation: str = "gelu"
    cutoff: float = 3.0
    irreps_out: str = "2x0e"
    width: int = 6

    def init(self, key: Any, graph: Graph) -> dict[str, jax.Array]:
        shapes = {"a": (1, self.width), "b": (1, self.width), "c": (self.width, 2)}
        shapes["d"] = (self.width, self.width)
        keys = jax.random.split(key, 4)
        return {
            n: jax.random.normal(k, s, jnp.float32)
            for k, (n, s) in zip(keys, shapes.items(), strict=True)
        }

    def apply(self, params: Any, graph: Graph) -> IrrepsArray:
        act = ACTIVATIONS[self.activation]
        r = edge_vectors(graph)
        sent = act(safe_norm(r)[:, None] * params["a"] + params["b"])
        if self.power == "pairs":
            return IrrepsArray("2x0e", to_receivers(sent, graph) @ params["c"])
        if self.power == "distances":
            heard = to_receivers(sent, graph)
        else:
            v = to_receivers(sent[:, :, None] * r[:, None], graph)
            heard = jnp.sum(v * v, -1)
            if self.power == "volumes":
                heard = jnp.sum(jnp.cross(v, jnp.roll(v, 1, 1)) * jnp.roll(v, 2, 1), -1)
        return IrrepsArray("2x0e", act(heard / 4 @ params["d"]) @ params["c"])


def verdicts(network, pairs=None, **options):
    return {s.name: s.separated for s in separation_report(network, pairs, **options)}


WANTED = {  # which of mirror, screws, distances, refinement
    "pairs": (False, False, False, False),
    "distances": (False, False, True, False),
    "vectors": (False, False, True, True),
    "volumes": (True, True, False, True),  # those of flat clouds are zero
}


@pytest.mark.parametrize("power", WANTED)
def test_families_have_the_power_that_they_have(power):
    want = dict(zip(PAIRS, WANTED[power], strict=True))
    assert verdicts(Family(power), PAIRS, draws=4) == want


@pytest.mark.slow
def test_activations_that_are_no_polynomials_do_not_differ():
    for activation in ("relu", "sigmoid"):
        found = verdicts(Family("distances", activation), PAIRS, draws=4)
        assert tuple(found.values()) == WANTED["distances"]


@dataclass(frozen=True)
class OfNumbers(Family):
    """A sum over nodes of a network of one number of each."""

    power: str = ""

    def apply(self, params: Any, graph: Graph) -> IrrepsArray:
        act, q = ACTIVATIONS[self.activation], graph.nodes["q"][:, None]
        return IrrepsArray("2x0e", act(q * params["a"] + params["b"]) @ params["c"])


@pytest.mark.slow
def test_a_polynomial_separates_less():
    number = lambda *q: Structure(np.eye(3), np.zeros(3, int), inputs={"q": np.array(q, float)})
    alike = {"moments": (number(0, 4, 5), number(1, 2, 6))}  # equal sums of powers 0, 1 and 2
    assert verdicts(OfNumbers(), alike) == {"moments": True}
    (report,) = separation_report(OfNumbers(activation="square"), alike)
    assert not report.separated and report.difference < 1e-12
    other = {"others": (number(0, 4, 5), number(1, 3, 6))}
    assert verdicts(OfNumbers(activation="square"), other) == {"others": True}


@pytest.mark.slow
def test_a_network_that_is_registered_is_judged():
    network = EGNN(channels=4, layers=1)
    want = {"mirror": False, "screws": False, "distances": True, "refinement": False}
    assert verdicts(network, draws=2) == want


@pytest.mark.slow
def test_estimates_do_not_hang_on_the_seed():
    for seed in (1, 2):
        found = {s.name: s for s in separation_report(Family("distances"), PAIRS, seed=seed)}
        assert found["distances"].difference > 1e-4
        assert found["refinement"].difference < 1e-12
        assert len(found["mirror"].draws) == 8
        assert max(found["distances"].draws) == found["distances"].difference
        assert found["distances"].own is None


def test_the_parameters_of_a_model_are_judged_too():
    params = {"a": np.zeros((1, 6)), "b": np.ones((1, 6)), "c": np.ones((6, 2)), "d": np.eye(6)}
    model = Model(Family("distances"), params, Card())
    found = {s.name: s for s in separation_report(model, draws=2)}
    assert found["distances"].own == pytest.approx(0, abs=1e-12)  # nodes are counted, nothing else
    assert found["distances"].separated


def lengths(points):
    return np.round(np.linalg.norm(points[:, None] - points[None], axis=-1), 9)


def colours(points, rounds=5):
    """Colour refinement by distances between all pairs."""
    d, colour = lengths(points), [0] * len(points)
    for _ in range(rounds):
        heard = [
            tuple(sorted((d[i, j], colour[j]) for j in range(len(points)) if j != i))
            for i in range(len(points))
        ]
        colour = [hash((c, h)) for c, h in zip(colour, heard, strict=True)]
    return Counter(colour)


def triangles(points):
    d = lengths(points)
    sides = [(d[i, j], d[j, k], d[i, k]) for i, j, k in combinations(range(len(points)), 3)]
    return Counter(tuple(sorted(s)) for s in sides)


def test_what_is_alike_in_the_pairs():
    points = {name: [s.positions for s in pair] for name, pair in PAIRS.items()}
    histogram = lambda x: Counter(lengths(x)[np.triu_indices(len(x), 1)].tolist())
    for x, y in points.values():
        assert histogram(x) == histogram(y)
    same = {name: colours(x) == colours(y) for name, (x, y) in points.items()}
    assert same == {"mirror": True, "screws": True, "distances": False, "refinement": True}
    x, y = points["refinement"]
    assert triangles(x) != triangles(y)
    for name in ("mirror", "screws"):
        x, y = points[name]
        moments = [np.linalg.det((p - p.mean(0))[1:4]) for p in (x, y)]
        assert moments[0] == pytest.approx(-moments[1]) and abs(moments[0]) > 0.01


def test_pairs_are_scaled():
    for x, y in standard_pairs(species=6, extent=4.0).values():
        assert max(lengths(x.positions).max(), lengths(y.positions).max()) == pytest.approx(4)
        assert set(x.species) == set(y.species) == {6}


def test_what_is_refused():
    with pytest.raises(ValueError, match="got 0 and 8"):
        separation_report(Family("pairs"), {})
    with pytest.raises(ValueError, match="got 4 and 0"):
        separation_report(Family("pairs"), draws=0)
