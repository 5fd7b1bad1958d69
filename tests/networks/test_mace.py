"""MACE: two layers by hand, the published number of parameters, isolated atoms, refusals.

What every network promises is in `test_contract`, the contraction in `tests/products`.
"""

import math

import jax
import numpy as np
import pytest

from geojax import so3
from geojax.graphs import Structure
from geojax.networks.mace import MACE
from geojax.products import symmetric_blocks
from tests.networks.plain import silu
from tests.networks.small import CUTOFF, ELEMENTS, graph_of, molecule, parameters, shapes

NEIGHBORS = 4.0
SMALL = MACE(
    CUTOFF,
    channels=3,
    lmax=1,
    correlation=1,
    radial=(8,),
    readout=4,
    first_residual=True,
    elements=ELEMENTS,
    average_neighbors=NEIGHBORS,
)


def count(network) -> int:
    return sum(x.size for x in jax.tree.leaves(shapes(network)))


# Two layers by hand. Correlation 1, so that the contraction is a factor for each degree.


def dense(x, weights):
    return x @ np.asarray(weights) / math.sqrt(len(weights))


def of_species(x, weights, one_hot):
    """The matrix of each node's species; x is `[node, m, channel]`."""
    weights = np.asarray(weights) / math.sqrt(weights.shape[0] * weights.shape[1])
    return np.einsum("nmc,ns,scd->nmd", x, one_hot, weights)


def layer_by_hand(params, x, structure, last):
    """x holds scalars and, in the second layer, vectors: lists of `[node, m, channel]`."""
    n = len(structure)
    one_hot = (structure.species[:, None] == np.array(ELEMENTS)).astype(float)
    d = structure.positions[:, None] - structure.positions[None]
    r = np.linalg.norm(d + np.eye(n)[..., None] * 99, axis=-1)
    y = math.sqrt(3) * d / np.where(np.eye(n), 1, r)[..., None]
    k, u = np.arange(1, 9), r / CUTOFF
    waves = np.sin(np.pi * k * u[..., None]) / r[..., None] * math.sqrt(2 / CUTOFF)
    waves = waves * ((u < 1) * (1 - 21 * u**5 + 35 * u**6 - 15 * u**7))[..., None]
    radial = params["radial"]
    weights = dense(silu(dense(waves, radial["dense_0"]["kernel"])), radial["dense_1"]["kernel"])
    sent = [
        dense(block, params["linear_before"][name]) / NEIGHBORS
        for block, name in zip(x, ("0e", "1o"), strict=False)
    ]
    weights = weights.reshape(n, n, -1, 3)
    into: list[list[np.ndarray]] = [[], []]
    for i, (l1, l2, l3) in enumerate(so3.paths(len(x) - 1, 1, 1, parity="even")):
        other = y if l2 else np.ones((n, n, 1))
        # the coefficients of these paths are 1, and 1/sqrt(3) of the scalar product
        rule = {(0, 0): "jmc,ijy->ijmc", (0, 1): "jmc,ijy->ijyc", (1, 0): "jmc,ijy->ijmc"}
        terms = (
            np.einsum("jmc,ijm->ijc", sent[1], other)[:, :, None] / math.sqrt(3)
            if (l1, l2) == (1, 1)
            else np.einsum(rule[l1, l2], sent[l1], other)
        )
        into[l3].append((weights[:, :, i, None] * terms).sum(1))
    out, kinds = [], (0,) if last else (0, 1)
    for l, name in zip(kinds, ("0e", "1o"), strict=False):
        a = dense(np.concatenate(into[l], -1), params["linear_after"][name])
        a = a * (one_hot @ np.asarray(params["contraction"]["weights"])[:, l])[:, None]
        a = dense(a, params["linear_powers"][name])
        if l < len(x):
            a = a + of_species(x[l], params["self_connection"][name], one_hot)
        out.append(a)
    return out


def test_two_layers_by_hand(x64):
    structure, params = molecule(), parameters(SMALL, scale=2.0)
    own = params["params"]
    one_hot = (structure.species[:, None] == np.array(ELEMENTS)).astype(float)
    x = [dense(one_hot, own["embedding"]["0e"])[:, None]]
    x = layer_by_hand(own["layer_0"], x, structure, last=False)
    expected = dense(x[0], own["readout_0"]["0e"])
    x = layer_by_hand(own["layer_1"], x, structure, last=True)
    hidden = silu(dense(x[0], own["readout"]["dense_0"]["kernel"]))
    expected = expected + dense(hidden, own["readout"]["dense_1"]["kernel"])
    found = jax.jit(SMALL.apply)(params, graph_of(structure)).array[: len(structure)]
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-9)


# Parameters


def couplings(lmax: int, factors: int, degree: int) -> int:
    """Ways to couple factors of degree 0 ... lmax one after the other to `degree`.

    The released code has a weight for each; they span the same polynomials as ours, many of them
    more than once.
    """
    ways = {(0, 0): 1}
    for _ in range(factors):
        more: dict[tuple[int, int], int] = {}
        for (l, parity), number in ways.items():
            for other in range(lmax + 1):
                for result in range(abs(l - other), l + other + 1):
                    key = result, (parity + other) % 2
                    more[key] = more.get(key, 0) + number
        ways = more
    return ways[degree, degree % 2]


def repeated(lmax: int, degree: int) -> int:
    """How many of these weights are too many, for correlation 3 and one degree of the result."""
    blocks = symmetric_blocks(lmax, degree, 3)
    own = sum(b.rows.stop - b.rows.start for b in blocks if b.l == degree)
    return sum(couplings(lmax, n, degree) for n in (1, 2, 3)) - own


def test_the_published_number_of_parameters():
    """2,803,984 for acetylacetone: degrees up to 2 and 256 channels."""
    network = SMALL.clone(
        channels=256, lmax=3, lmax_hidden=2, correlation=3, radial=(64, 64, 64), readout=16
    )
    too_many = sum(repeated(3, degree) for degree in (0, 1, 2, 0))
    assert too_many == 125
    assert count(network) + too_many * len(ELEMENTS) * 256 == 2_803_984


# Isolated atoms, outputs


def alone(network):
    graph = graph_of(Structure(np.zeros((1, 3)), np.array([6])))
    return np.asarray(jax.jit(network.apply)(parameters(network, scale=2.0), graph).array)[0]


def test_the_first_residual_gives_isolated_atoms_an_energy(x64):
    assert alone(SMALL.clone(correlation=2)) != 0
    assert alone(SMALL.clone(correlation=2, first_residual=False)) == 0


def test_the_contractions_are_different_networks_of_one_shape(x64):
    structure = molecule()
    outputs = []
    for contraction in ("cg", "gaunt"):
        network = SMALL.clone(correlation=2, lmax_hidden=0, contraction=contraction)
        out = jax.jit(network.apply)(parameters(network, scale=2.0), graph_of(structure))
        outputs.append(np.asarray(out.array)[: len(structure)])
    assert outputs[0].shape == outputs[1].shape and np.isfinite(outputs).all()
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-6


def test_layers_send_lmax_hidden_and_the_last_makes_the_output():
    params = shapes(SMALL.clone(lmax=2, lmax_hidden=1, irreps_out="0e+2e"))["params"]
    assert set(params["layer_0"]["linear_powers"]) == {"0e", "1o"}
    assert set(params["layer_1"]["linear_powers"]) == {"0e", "1o", "2e"}
    assert set(params["readout_0"]) == {"0e"} and set(params["readout_1"]) == {"2e"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"lmax_hidden": 2}, "0 <= lmax_hidden <= lmax; got .* lmax_hidden=2, lmax=1"),
        ({"correlation": 0}, "correlation=0"),
        ({"irreps_out": "0e+1e"}, "no pseudo-tensors"),
        ({"irreps_out": "2e"}, "raise lmax"),
        ({"average_neighbors": None}, "fit_to_data"),
        ({"elements": ()}, "knows its elements"),
    ],
)
def test_fields_that_cannot_be(fields, said):
    with pytest.raises(ValueError, match=said):
        shapes(SMALL.clone(**fields))
