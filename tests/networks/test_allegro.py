"""Allegro: one layer by hand, strict locality, irreps, refusals.

What every network promises is in `test_contract`.
"""

import math

import jax
import numpy as np
import pytest

from geojax.graphs import Structure
from geojax.networks.allegro import Allegro
from tests.networks.plain import silu
from tests.networks.small import CUTOFF, ELEMENTS, graph_of, molecule, parameters, shapes

NEIGHBORS = 4.0
SMALL = Allegro(
    CUTOFF,
    channels=3,
    lmax=1,
    layers=1,
    parity=False,
    two_body=(5, 4),
    latent=(6, 5),
    readout=(4,),
    elements=ELEMENTS,
    average_neighbors=NEIGHBORS,
)


def dense(x, weights):
    return x @ np.asarray(weights) / math.sqrt(len(weights))


def mlp(x, params):
    for i in range(len(params)):
        x = dense(silu(x) if i else x, params[f"dense_{i}"]["kernel"])
    return x


def by_hand(params, structure):
    """One layer with scalars and vectors, as sums over all pairs."""
    n = len(structure)
    one_hot = (structure.species[:, None] == np.array(ELEMENTS)).astype(float)
    d = structure.positions[:, None] - structure.positions[None]
    r = np.linalg.norm(d + np.eye(n)[..., None] * 99, axis=-1)
    y = math.sqrt(3) * d / r[..., None]
    u, k = r / CUTOFF, np.arange(1, 9)
    envelope = ((u < 1) * (1 - 28 * u**6 + 48 * u**7 - 21 * u**8))[..., None]
    waves = np.sin(k * np.pi * u[..., None]) / (np.pi * u[..., None]) * envelope
    pairs = (one_hot[:, None] + 0 * one_hot[None], one_hot[None] + 0 * one_hot[:, None], waves)
    x = mlp(np.concatenate(pairs, -1), params["two_body"]) * envelope
    v0, v1 = np.split(dense(x, params["tensors"]["linear"]["kernel"]), 2, -1)
    e0, e1 = np.split(dense(x, params["surroundings_0"]["linear"]["kernel"]), 2, -1)
    around_0 = e0.sum(1) / math.sqrt(NEIGHBORS)
    around_1 = np.einsum("ijc,ijx->ixc", e1, y) / math.sqrt(NEIGHBORS)
    paths = (
        v0 * around_0[:, None],
        v1 * np.einsum("ijx,ixc->ijc", y, around_1) / math.sqrt(3),
    )
    scalars = dense(np.concatenate(paths, -1), params["coupling_0"]["linear"]["0e"])
    x = mlp(np.concatenate([x, scalars], -1), params["latent_0"]) * envelope
    return mlp(x, params["readout"]).sum(1) / math.sqrt(NEIGHBORS)


def test_one_layer_by_hand(x64):
    structure, params = molecule(), parameters(SMALL, scale=2.0)
    found = jax.jit(SMALL.apply)(params, graph_of(structure)).array[: len(structure)]
    expected = by_hand(params["params"], structure)
    assert np.abs(expected).min() > 1e-6
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_atoms_beyond_one_cutoff_do_not_matter(x64):
    """However many layers: in a chain, an atom sees its neighbours and not theirs."""
    chain = Structure(np.arange(4)[:, None] * np.array([[0, 2.0, 0]]), np.array([1, 6, 8, 1]))
    network = SMALL.clone(layers=3)
    graph, params = graph_of(chain), parameters(network, scale=2.0)

    def energies(positions):
        nodes = {**graph.nodes, "positions": positions}
        return network.apply(params, graph._replace(nodes=nodes)).array[:4, 0]

    slopes = np.abs(jax.jit(jax.jacobian(energies))(graph.nodes["positions"])[:, :4, 1])
    apart = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    assert (slopes[apart == 1] > 0).all() and (slopes[apart > 1] == 0).all()


def irreps_of(network) -> list[set[str]]:
    params = shapes(network)["params"]
    return [set(params[f"coupling_{i}"]["linear"]) for i in range(network.layers)]


def test_the_last_layer_makes_only_what_is_put_out():
    full = SMALL.clone(layers=3, parity=True)
    assert irreps_of(full) == [{"0e", "1o", "1e"}, {"0e", "1o", "1e", "0o"}, {"0e"}]
    assert irreps_of(SMALL.clone(layers=2, irreps_out="1o")) == [{"0e", "1o"}] * 2
    chiral = SMALL.clone(layers=2, chiral=True, lmax=2)
    assert irreps_of(chiral) == [{"0e", "1o", "2e"}, {"0e"}]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"parity": True, "chiral": True}, "set one of them to False"),
        ({"latent": ()}, "latent="),
        ({"irreps_out": "1e"}, "set parity=True"),
        ({"irreps_out": "0o", "parity": True}, "after 1 layers no path leads to 0o"),
        ({"average_neighbors": None}, "fit_to_data"),
        ({"elements": ()}, "knows its elements"),
    ],
)
def test_fields_that_cannot_be(fields, said):
    with pytest.raises(ValueError, match=said):
        shapes(SMALL.clone(**fields))
