"""iComFormer: its size, its equations atom by atom, what it tells apart and what it does not."""

from functools import cache

import jax
import numpy as np
import pytest

from geojax.graphs import Structure, edge_vectors, sample
from geojax.networks import IComFormer
from geojax.outputs import Output
from geojax.potential import predict_fn
from tests.networks import crystals
from tests.networks.crystals import CUTOFF

SMALL = IComFormer(cutoff=CUTOFF, channels=5, layers=2, n_basis=6, elements=(6, 8, 22))
NEVER_READ = 3 * 32 + (256 + 32) * 256 + 256  # of the released code: an embedding, a linear layer


@pytest.mark.parametrize(("layers", "published"), [(4, 4_966_497), (3, 4_111_201)])
def test_the_published_sizes(layers, published):
    network = IComFormer(layers=layers, elements=tuple(range(1, 93)))
    graph = crystals.graph_of([crystals.generic()], np.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), graph)
    assert sum(x.size for x in jax.tree.leaves(params)) == published - NEVER_READ


PAIRS = {
    "mirror": (crystals.generic(), crystals.mirrored(crystals.generic())),
    "centred": (crystals.centred(), crystals.mirrored(crystals.centred())),
    "cube": (crystals.perovskite(), crystals.turned(crystals.perovskite())),
    "supercell": (crystals.generic(), crystals.supercell(crystals.generic())),
    "prisms": (crystals.prism(90.0), crystals.prism(80.0)),
}


@cache
def outputs() -> np.ndarray:
    """Of one crystal in five forms, and of the pairs; one program in float64."""
    structures = crystals.equal(crystals.generic()) + [s for pair in PAIRS.values() for s in pair]
    return crystals.outputs(SMALL, structures)[:, 0]


def test_it_equals_the_equations(x64):
    """Links one by one, with the lattice vectors of a reduced cell: its rows, as they are here."""
    s = crystals.generic()
    graph = crystals.graph_of([s])
    p = jax.tree.map(np.asarray, crystals.parameters(SMALL, graph)["params"])

    dense = lambda d, *x: np.concatenate(x) @ d["kernel"] + d.get("bias", 0)
    softplus, sigmoid = lambda x: np.logaddexp(x, 0), lambda x: 1 / (1 + np.exp(-x))
    silu = lambda x: x * sigmoid(x)
    norm = lambda d, x: x * d["gain"] + d["shift"]

    def expand(d, x, start, stop):
        gamma = 5 / (stop - start)
        return softplus(dense(d["linear"], np.exp(-gamma * (x - np.linspace(start, stop, 6)) ** 2)))

    def message(d, query, keys, values):
        key = dense(d["key_1"], silu(dense(d["key_0"], *keys)))
        value = dense(d["value_1"], silu(dense(d["value_0"], *values)))
        return value * sigmoid(norm(d["norm"], query * key / np.sqrt(5)))

    axes = np.array([s.cell[0], s.cell[1], -s.cell[2]])  # angles with the first up to 90 degrees
    axes = axes * np.sign(np.linalg.det(axes))
    vectors = np.asarray(edge_vectors(graph))[: int(graph.n_edge[0])]
    ends = np.stack([graph.receivers, graph.senders], -1)[: len(vectors)]
    links = [(i, j, r, True) for (i, j), r in zip(ends, vectors, strict=True)]
    links += [(i, i, sign * e, False) for i in range(4) for e in axes for sign in (1, -1)]
    length = lambda r: expand(p["length"], -0.75 / np.linalg.norm(r), -4, 0)
    features = [length(r) for _, _, r, _ in links]

    def weight(r):
        x = np.linalg.norm(r) / CUTOFF
        return max(0, 1 - 28 * x**6 + 48 * x**7 - 21 * x**8) if x < 1 else 0

    x = np.array([dense(p["embedding"], np.array([z == 6, z == 8, z == 22])) for z in s.species])
    for round_ in range(2):
        d = p[f"layer_{round_}"]
        query, key, value = (dense_rows(d[n], x) for n in ("query", "key", "value"))
        total = np.zeros_like(x)
        for (i, j, r, cut), e in zip(links, features, strict=True):
            e = dense(d["edge"], e)
            m = message(d["message"], query[i], (key[i], key[j], e), (value[i], value[j], e))
            total[i] += m * (weight(r) if cut else 1)
        x = np.array(
            [
                softplus(a + norm(d["norm"], dense(d["out"], b)))
                for a, b in zip(x, total, strict=True)
            ]
        )
        if round_ == 0:
            features = [
                seen_from_lattice(p, e, r, axes, length, expand, dense, message, norm, softplus)
                for (_, _, r, _), e in zip(links, features, strict=True)
            ]
    out = dense(p["head"]["output"], silu(dense(p["head"]["hidden"], x.mean(0))))
    np.testing.assert_allclose(outputs()[0], out[0], rtol=1e-11)


def dense_rows(d, x):
    return x @ d["kernel"] + d["bias"]


def seen_from_lattice(p, e, r, axes, length, expand, dense, message, norm, softplus):
    d, total = p["lattice"], 0
    for a, axis in enumerate(axes, start=1):
        cosine = axis @ r / np.linalg.norm(axis) / np.linalg.norm(r)
        angle = dense(d["angle"], expand(p["angle"], cosine, -1, 1))
        keys = (dense(d["key"], e), dense(d[f"key_{a}"], length(axis)), angle)
        values = (dense(d["value"], e), dense(d[f"value_{a}"], length(axis)), angle)
        total = total + dense(d["out"], message(d["message"], dense(d["query"], e), keys, values))
    return softplus(e + norm(d["norm"], total))


def test_what_it_tells_apart_and_what_not(x64):
    np.testing.assert_allclose(outputs()[:5], outputs()[0], rtol=1e-11)
    ratio = dict(zip(PAIRS, outputs()[6::2] / outputs()[5::2] - 1, strict=True))
    for name in ("centred", "cube"):
        assert abs(ratio[name]) < 1e-11, name
    assert abs(ratio["mirror"]) > 1e-6  # chiral: its mirror image is another crystal
    assert abs(ratio["prisms"]) > 1e-6
    assert abs(ratio["supercell"]) > 1e-6  # as documented: other lattice vectors, another input


@pytest.mark.slow
def test_the_prisms_have_the_same_distances(x64):
    """So that before its edges see the lattice, the network cannot tell them apart."""
    prisms = [crystals.prism(90.0), crystals.prism(80.0)]
    lengths = [
        np.sort(np.linalg.norm(np.asarray(edge_vectors(crystals.graph_of([s])))[:4], axis=-1))
        for s in prisms
    ]
    np.testing.assert_allclose(lengths[0], lengths[1])
    assert sum(int(sample(s, CUTOFF).graph.n_edge[0]) for s in prisms) == 8
    before = crystals.outputs(SMALL.clone(layers=1), prisms)
    np.testing.assert_allclose(before[1], before[0], rtol=1e-12)


@pytest.mark.slow
def test_rotations_change_nothing_in_float32():
    same = crystals.equal(crystals.generic()) + crystals.equal(crystals.perovskite())[:3]
    found = crystals.outputs(SMALL, same, np.float32)[:, 0]
    np.testing.assert_allclose(found[:5], found[0], rtol=1e-5)
    np.testing.assert_allclose(found[5:], found[5], rtol=1e-5)


@pytest.mark.slow
def test_stress_is_the_derivative_by_strain(x64):
    network = SMALL.clone(readout="node")
    s = crystals.generic()
    graph = crystals.graph_of([s])
    params = crystals.parameters(network, graph)
    predict = jax.jit(predict_fn(network, [Output()], forces=True, stress=True))
    stress = np.asarray(predict(params, graph).stress[0])
    direction = np.random.default_rng(0).normal(size=(3, 3))
    direction = direction + direction.T

    def energy(size):
        strain = np.eye(3) + size * direction
        cell, x = graph.globals["cell"] @ strain, graph.nodes["positions"] @ strain
        moved = graph._replace(
            nodes={**graph.nodes, "positions": x}, globals={**graph.globals, "cell": cell}
        )
        return float(predict(params, moved).energy[0])

    slope = (energy(1e-4) - energy(-1e-4)) / 2e-4
    assert slope == pytest.approx(s.volume * np.sum(stress * direction), rel=1e-5)


@pytest.mark.slow
def test_molecules_have_no_terms_of_a_lattice(x64):
    x = crystals.generic().positions
    graph = crystals.graph_of([Structure(x, crystals.SPECIES)])
    params = crystals.parameters(SMALL, graph)
    found = [
        jax.jit(SMALL.clone(lattice_edges=b).apply)(params, graph).array for b in (True, False)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-13)


@pytest.mark.slow
def test_only_nearest_are_heard_without_an_envelope(x64):
    """Each has weight one: an atom at the cutoff counts as much as a near one."""
    network = SMALL.clone(nearest=6)
    graph = crystals.graph_of([crystals.generic()], nearest=6)
    assert (np.bincount(np.asarray(graph.receivers))[:4] == 6).all()
    params = crystals.parameters(network, graph)
    near, wide, with_envelope = (
        jax.jit(n.apply)(params, graph).array[0, 0]
        for n in (network, network.clone(cutoff=9.0), SMALL)
    )
    assert near == wide
    assert abs(with_envelope / near - 1) > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"irreps_out": "1o"}, "puts out scalars"),
        ({"readout": "sum"}, "'graph' or 'node'"),
        ({"elements": ()}, "knows its elements"),
    ],
)
def test_what_it_refuses(fields, message):
    graph = crystals.graph_of([crystals.generic()], np.float32)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(SMALL.clone(**fields).init, jax.random.key(0), graph)
