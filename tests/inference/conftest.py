"""A small untrained model of each kind, and structures for it."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.model import Card, Model
from geojax.networks import EGNN, HIP, NequIP
from geojax.outputs import Output

CELL = np.array([[4.1, 0.3, 0.0], [0.2, 4.4, 0.5], [-0.4, 0.1, 3.9]])


def molecule(n: int = 5, seed: int = 0) -> Structure:
    rng = np.random.default_rng(seed)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    return Structure(1.4 * corners[:n] + 0.1 * rng.normal(size=(n, 3)), rng.choice([1, 6], n))


def crystal(seed: int = 0) -> Structure:
    rng = np.random.default_rng(seed)
    places = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]) @ CELL
    places = places + 0.1 * rng.normal(size=(4, 3))
    return Structure(places, np.array([6, 1, 6, 1]), CELL, (True, True, True))


@pytest.fixture(scope="session")
def hessian_model() -> Model:
    """Of energies and direct Hessians, float64."""
    known = {"elements": (1, 6), "average_neighbors": 3.0}
    backbone = NequIP(cutoff=3.0, channels=2, lmax=2, layers=1, parity=False, **known)
    network = HIP(backbone=backbone, cutoff=4.0, channels=2, n_basis=3, radial_width=4)
    graph = pad([sample(molecule(), 4.0)], Budget(6, 32, 2)).graph
    shapes = jax.eval_shape(network.init, jax.random.key(0), jax.tree.map(jnp.asarray, graph))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape), shapes)
    outputs = (Output(), Output("hessian", scale=5.0))
    card = Card(name="direct", outputs=outputs, elements=(1, 6), forces=True, dtype="float64")
    return Model(network, params, card)


def energy_card(**changes) -> Card:
    """Of an energy with E0s, trained on forces and stress."""
    card = Card(
        name="small",
        outputs=(Output(scale=0.7, shift=-2.0),),
        E0s={1: -13.6, 6: -1029.5},
        elements=(1, 6),
        forces=True,
        stress=True,
    )
    return replace(card, **changes)


@pytest.fixture(scope="session")
def energy_model() -> Callable[..., Model]:
    """Makes an energy model of a dtype."""

    def make(dtype: str = "float32", **changes) -> Model:
        network = EGNN(cutoff=3.0, channels=6, layers=2, elements=(1, 6), average_neighbors=4.0)
        graph = pad([sample(molecule(), 3.0)], Budget(6, 32, 2)).graph
        graph = jax.tree.map(jnp.asarray, graph)
        params = jax.tree.map(np.asarray, jax.jit(network.init)(jax.random.key(0), graph))
        return Model(network, params, energy_card(dtype=dtype)).replace_card(**changes)

    return make
