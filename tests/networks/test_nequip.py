"""NequIP: one layer by hand, irreps of each layer, parameter counts, parities, refusals.

What every network promises is in `test_contract`.
"""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irrep, Irreps

from geojax.graphs import Structure
from geojax.networks.nequip import NequIP
from geojax.so3 import random_rotation, wigner_d
from tests.networks.plain import silu
from tests.networks.small import CUTOFF, ELEMENTS, graph_of, molecule

SMALL = NequIP(
    CUTOFF, channels=4, layers=3, radial_width=8, elements=ELEMENTS, average_neighbors=4.0
)
PUBLISHED = {
    "S": dict(layers=2, lmax=1, channels=(128, 64)),
    "M": dict(layers=4, lmax=2, channels=(128, 64, 32)),
    "L": dict(layers=6, lmax=3, channels=(128, 64, 32, 32)),
    "XL": dict(layers=6, lmax=4, channels=(320, 96, 64, 32, 32)),
}


def shapes(network):
    graph = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), graph_of(molecule()))
    return jax.eval_shape(network.init, jax.random.key(0), graph)["params"]


def parameters(network):
    rng = np.random.default_rng(1)
    draw = lambda x: jnp.asarray(rng.normal(scale=2.0, size=x.shape))
    return {"params": jax.tree.map(draw, shapes(network))}


def outputs(network, structure, params=None) -> np.ndarray:
    params = parameters(network) if params is None else params
    out = jax.jit(network.apply)(params, graph_of(structure))
    return np.asarray(out.array)[: len(structure)]


# The layer


def dense(x, weights):
    return x @ np.asarray(weights) / math.sqrt(len(weights))


def radial(params, r, n_basis=8):
    """Bessel waves times the polynomial of power 6, through two hidden layers."""
    x, n = r[:, None] / CUTOFF, np.arange(1, n_basis + 1)
    envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    hidden = np.sin(n * np.pi * x) / (np.pi * x) * envelope * (x < 1)
    for i in range(2):
        hidden = silu(dense(hidden, params[f"dense_{i}"]["kernel"]))
    return dense(hidden, params["dense_2"]["kernel"])


def by_hand(params, structure):
    """One layer that puts out scalars, all of them sums of scalars of the neighbours."""
    one_hot = (structure.species[:, None] == np.array(ELEMENTS)).astype(float)
    x = dense(one_hot, params["embedding"]["0e"])
    layer, n = params["layer_0"], len(x)
    sent = dense(x, layer["linear_before"]["0e"]) / math.sqrt(4.0)
    difference = structure.positions[:, None] - structure.positions[None]
    r = np.linalg.norm(difference + np.eye(n)[..., None] * 99, axis=-1)
    weights = radial(layer["radial"], r.reshape(-1)).reshape(n, n, -1)
    sums = np.einsum("jc,ijc->ic", sent, weights * (r < CUTOFF)[..., None])
    x = silu(dense(sums, layer["linear_after"]["0e"]))
    return dense(dense(x, params["readout_0"]["0e"]), params["readout_1"]["0e"])


def test_one_layer_by_hand(x64):
    network = SMALL.clone(layers=1)
    params = parameters(network)
    expected = by_hand(params["params"], molecule())
    np.testing.assert_allclose(outputs(network, molecule(), params), expected, rtol=1e-9)


def test_the_first_layer_alone_has_no_self_connection(x64):
    params = shapes(SMALL)
    assert "self_connection" not in params["layer_0"]
    for layer in ("layer_1", "layer_2"):
        assert params[layer]["self_connection"]["0e"].shape[0] == len(ELEMENTS)


def test_no_parameter_is_a_bias(x64):
    """Every leaf is a matrix, or one for each species."""
    ranks = {len(x.shape) for x in jax.tree.leaves(shapes(SMALL))}
    assert ranks == {2, 3}


# Irreps


def irreps_of(network) -> list[set[str]]:
    """What each layer puts out, from the weights that mix it."""
    params = shapes(network)
    return [set(params[f"layer_{i}"]["linear_after"]) for i in range(network.layers)]


def test_layers_reach_one_irrep_after_another(x64):
    """1o by the harmonics, 1e by 1o x 1o, 0o by 1e x 1o; the last layer computes the output."""
    assert irreps_of(SMALL.clone(layers=5)) == [
        {"0e", "1o"},
        {"0e", "1o", "1e"},
        {"0e", "1o", "1e", "0o"},
        {"0e", "1o", "1e", "0o"},
        {"0e"},
    ]
    assert irreps_of(SMALL.clone(parity=False)) == [{"0e", "1o"}, {"0e", "1o"}, {"0e"}]
    chiral = SMALL.clone(parity=False, chiral=True, lmax=2)
    assert irreps_of(chiral) == [{"0e", "1o", "2e"}, {"0e", "1o", "2e"}, {"0e"}]


def in_product(a: Irrep, b: Irrep, chiral: bool) -> Iterable[Irrep]:
    """The irreps of a x b; a chiral network calls all of them natural."""
    for item in a * b:
        yield Irrep(item.l, (-1) ** item.l) if chiral else item


def count(network) -> int:
    """The number of parameters, from the paths of e3nn's irreps alone."""
    sizes = network.channels
    sizes = (sizes,) * (network.lmax + 1) if isinstance(sizes, int) else sizes
    hidden = {Irrep(l, (-1) ** l): n for l, n in enumerate(sizes)}
    if network.parity:
        hidden |= {Irrep(l, -((-1) ** l)): n for l, n in enumerate(sizes)}
    species, rbf, width = len(network.elements), network.n_basis, network.radial_width
    harmonics = [Irrep(l, (-1) ** l) for l in range(network.lmax + 1)]
    scalar = Irrep("0e")
    wanted_out = {item.ir: item.mul for item in Irreps(network.irreps_out)}
    x, total = {scalar: sizes[0]}, species * sizes[0] + rbf * network.trainable_basis
    for layer in range(network.layers):
        last = layer == network.layers - 1
        wanted = {i: n for i, n in hidden.items() if not last or i in wanted_out}
        gated = any(i.l for i in wanted)
        paths = [
            (i, out)
            for i in x
            for y in harmonics
            for out in in_product(i, y, network.chiral)
            if out in wanted or (out == scalar and gated)
        ]
        reached = {i: n for i, n in wanted.items() if i in {out for _, out in paths}}
        gates = sum(n for i, n in reached.items() if i.l)
        mixed = reached | {scalar: reached.get(scalar, 0) + gates}
        weights = sum(x[i] for i, _ in paths)
        total += rbf * width + (network.radial_layers - 1) * width**2 + width * weights
        total += sum(n * n for n in x.values())
        total += sum(x[i] * mixed[out] for i, out in paths if out in mixed)
        if layer:
            total += sum(species * n * mixed[i] for i, n in x.items() if i in mixed)
        x = reached
    return total + sum(x[i] * (x[i] // 2) + (x[i] // 2) * n for i, n in wanted_out.items())


def size(network) -> int:
    return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes(network)))


VARIANTS = {
    "small": {},
    "default": dict(channels=32, layers=4, radial_width=64),
    "natural": dict(parity=False, lmax=2, channels=(6, 4, 2)),
    "chiral": dict(parity=False, chiral=True, lmax=2, channels=(6, 4, 2)),
    "tensors": dict(irreps_out="2x0e+1o+2x1e", lmax=2, layers=3),
    "one radial layer": dict(radial_layers=1, n_basis=5),
    "trained waves": dict(n_basis=5, trainable_basis=True),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_number_of_parameters_is_that_of_the_paths(variant, x64):
    network = SMALL.clone(**VARIANTS[variant])
    assert size(network) == count(network)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name, x64):
    """Their channels, with rotations only, and the output after so many layers."""
    network = SMALL.clone(**PUBLISHED[name], parity=False, chiral=True, radial_width=64)
    assert network.group == "SE(3)"
    found = shapes(network)
    names = ("0e", "1o", "2e", "3o", "4e")[: network.lmax + 1]
    widths = dict(zip(names, network.channels, strict=True))
    gates = sum(network.channels[1:])
    first = {i: x.shape[1] for i, x in found["layer_0"]["linear_after"].items()}
    assert first == widths | {"0e": network.channels[0] + gates}
    assert f"layer_{network.layers - 1}" in found and f"layer_{network.layers}" not in found
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(found)) == count(network)


# Symmetry


def turned(network, structure, out, turn) -> np.ndarray:
    """Outputs `[node, d]` of all nodes after a rotation or reflection, by their irreps."""
    blocks, first = [], 0
    for multiplicity, i in Irreps(network.irreps_out):
        matrix = np.asarray(wigner_d(turn, i.l, pseudo=i.p != (-1) ** i.l)[i.l])
        part = out[:, first : first + multiplicity * i.dim].reshape(-1, multiplicity, i.dim)
        first += multiplicity * i.dim
        blocks.append((part @ matrix.T).reshape(len(out), -1))
    return np.concatenate(blocks, -1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        dict(irreps_out="0e+0o+1e+2x1o", layers=4),
        pytest.param(
            dict(irreps_out="3o+0e+2e", lmax=3, channels=(4, 3, 2, 1), parity=False, layers=2),
            marks=pytest.mark.slow,
        ),
        dict(irreps_out="0e+1o+2e", lmax=2, parity=False, chiral=True, layers=2),
    ],
    ids=["parity", "natural", "chiral"],
)
def test_outputs_of_every_irrep_are_equivariant(fields, x64):
    network = SMALL.clone(**fields)
    improper = not network.chiral
    turn = random_rotation(jax.random.key(5), improper=improper, dtype=jnp.float64)
    params, structure = parameters(network), molecule()
    before = outputs(network, structure, params)
    moved = structure.replace(positions=structure.positions @ np.asarray(turn).T)
    after = outputs(network, moved, params)
    expected = turned(network, structure, before, turn)
    assert np.abs(before).max(0).min() > 1e-6
    np.testing.assert_allclose(after, expected, atol=1e-11 * np.abs(before).max())


FLAT = np.outer([0, 1, 0, 1, 0, 1], [3.0, 0, 0]) * 0.5  # keeps atoms of one column apart


def test_a_pseudoscalar_changes_its_sign_in_the_mirror(x64):
    network = SMALL.clone(irreps_out="0o", layers=4)
    params, structure = parameters(network), molecule()
    mirrored = structure.replace(positions=structure.positions * [1, 1, -1])
    found = outputs(network, structure, params)
    assert np.abs(found).max() > 1e-6
    np.testing.assert_allclose(outputs(network, mirrored, params), -found, rtol=1e-8, atol=1e-13)
    flat = structure.replace(positions=structure.positions * [1, 1, 0] + FLAT)
    assert np.abs(outputs(network, flat, params)).max() < 1e-12 * np.abs(found).max()


def test_parity_adds_paths_and_keeps_the_energy_of_mirror_images(x64):
    assert size(SMALL) > size(SMALL.clone(parity=False))
    for network in (SMALL, SMALL.clone(parity=False)):
        params, structure = parameters(network), molecule()
        mirrored = structure.replace(positions=-structure.positions)
        assert network.group == "E(3)"
        expected = outputs(network, structure, params)
        np.testing.assert_allclose(outputs(network, mirrored, params), expected, rtol=1e-10)


# Distance


def test_everything_vanishes_at_the_cutoff_with_the_fourth_power_of_what_is_missing(x64):
    """The third of the envelope, one more of the waves: there is no bias that would remain."""
    params = parameters(SMALL)

    def pair(share):
        x = np.array([[0.0, 0, 0], [0, CUTOFF * (1 - share), 0]])
        return outputs(SMALL, Structure(x, np.array([6, 8])), params)

    near, far = pair(1e-3), pair(2e-3)
    np.testing.assert_allclose(far / near, 16, rtol=0.05)
    assert not pair(-1e-9).any()


def test_more_neighbours_on_average_make_smaller_messages(x64):
    """The first layer's sums are divided by the root: with one layer, small sums are linear."""
    params = parameters(SMALL.clone(layers=1))
    x = np.array([[0.0, 0, 0], [0, CUTOFF * (1 - 1e-3), 0]])
    pair = Structure(x, np.array([6, 8]))
    few, many = (SMALL.clone(layers=1, average_neighbors=n) for n in (4.0, 16.0))
    ratio = outputs(few, pair, params) / outputs(many, pair, params)
    np.testing.assert_allclose(ratio, 2, rtol=1e-4)


@pytest.mark.slow
def test_layers_carry_information_one_cutoff_further(x64):
    """A chain of atoms 2 Å apart: with n layers an atom sees n neighbours on, and not n + 1."""
    chain = np.array([[0.0, 0, 2 * i] for i in range(5)])
    species = np.array([1, 1, 1, 1, 1])
    for layers in (1, 2, 3):
        network = SMALL.clone(layers=layers)
        params = parameters(network)
        base = outputs(network, Structure(chain, species), params)[0]
        for atom in range(1, 5):
            other = species.copy()
            other[atom] = 8
            changed = outputs(network, Structure(chain, other), params)[0]
            assert (changed == base).all() == (atom > layers)


# Refusals


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(channels=(4, 4, 4)), "one for each of the 2 degrees of lmax=1; got"),
        (dict(channels=(4, 0)), r"got \(4, 0\)"),
        (dict(parity=True, chiral=True), "a chiral network keeps no parities"),
        (dict(irreps_out="2e"), "an output is among the irreps inside, .* raise lmax"),
        (dict(irreps_out="0o", parity=False), "set parity=True for pseudo-tensors"),
        (dict(irreps_out="0o", layers=2), "after 2 layers no path leads to 0o; .* more layers"),
        (dict(average_neighbors=None), "got None; give the mean number of neighbours"),
        (dict(average_neighbors=0.0), "got 0.0; give the mean number of neighbours"),
        (dict(elements=()), "a network knows its elements"),
        (dict(cutoff=math.inf), "positive finite cutoff"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_fields_that_do_not_fit_are_refused(fields, message, x64):
    with pytest.raises(ValueError, match=message):
        shapes(SMALL.clone(**fields))
