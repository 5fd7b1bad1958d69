"""eComFormer: its size, its products against e3nn's, what it tells apart, tensors of crystals."""

from functools import cache

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax.legacy import FunctionalFullyConnectedTensorProduct

from geojax.graphs import edge_vectors
from geojax.networks import EComFormer
from geojax.networks.ecomformer import Lower, Raise
from geojax.nn import edge_links
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.so3 import wigner_d
from tests.networks import crystals
from tests.networks.crystals import CUTOFF

SMALL = EComFormer(
    cutoff=CUTOFF,
    channels=5,
    layers=2,
    n_basis=6,
    scalar_channels=4,
    tensor_channels=3,
    elements=(6, 8, 22),
    average_neighbors=9.0,
)
LOCAL = SMALL.clone(lattice_edges=False)


@pytest.mark.parametrize(("width", "published"), [(64, 5_583_809), (128, 12_459_137)])
def test_the_published_sizes(width, published):
    """The second one is what the sizes of the paper's larger model come to: 12.4 M."""
    elements = tuple(range(1, 93))
    network = EComFormer(scalar_channels=width, elements=elements, average_neighbors=25.0)
    graph = crystals.graph_of([crystals.generic()], np.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), graph)
    assert sum(x.size for x in jax.tree.leaves(params)) == published


def test_products_are_those_of_e3nn(x64):
    """Raise and lower are fully connected products, with the matrices as weights of their paths."""
    graph = crystals.graph_of([crystals.generic()])
    links, rng = [edge_links(graph, np.inf, None, 6)], np.random.default_rng(0)
    s = jnp.asarray(rng.normal(size=(6, 4)))
    e = jnp.asarray(rng.normal(size=(len(graph.senders), 5)))
    neighbors = jnp.full((1, 1), 7.0)
    up, down = Raise((4, 3, 3)), Lower(4)
    rest = ([e], links, neighbors)
    above = crystals.parameters(up, s, *rest)
    f = jax.jit(lambda p: up.apply(p, s, *rest))(above)
    below = crystals.parameters(down, f, *rest)
    t = jax.jit(lambda p: down.apply(p, f, *rest))(below)

    def weights(p, shapes, axis):
        p = jax.tree.map(np.asarray, p["params"]["matrix"])
        hidden = np.logaddexp(np.asarray(e) @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0)
        matrix = (hidden @ p["weights"]["kernel"] + p["weights"]["bias"]).reshape(-1, *shapes)
        parts = np.split(matrix, [4, 7], axis)
        return [jnp.asarray(part)[:, :, None] for part in parts]  # [edge, in1, in2 = 1, out]

    irreps = e3nn.Irreps("4x0e+3x1o+3x2e")
    vectors = edge_vectors(graph)
    y = e3nn.spherical_harmonics("0e+1o+2e", vectors, True, normalization="component")
    edges = int(graph.n_edge[0])

    def mean(messages):
        total = np.zeros((6, messages.shape[-1]))
        np.add.at(total, np.asarray(graph.receivers)[:edges], np.asarray(messages)[:edges])
        return total / 7

    first = FunctionalFullyConnectedTensorProduct("4x0e", "0e+1o+2e", irreps)
    wide = e3nn.IrrepsArray("4x0e", s[graph.senders])
    messages = jax.jit(jax.vmap(first.left_right))(weights(above, (4, 10), -1), wide, y)
    messages = messages.rechunk(irreps)
    raised = e3nn.IrrepsArray(irreps, jnp.asarray(mean(messages.array)))
    for block, chunk in zip(f, raised.chunks, strict=True):
        np.testing.assert_allclose(jnp.swapaxes(block, 1, 2)[:4], chunk[:4], atol=1e-12)

    second = FunctionalFullyConnectedTensorProduct(irreps, "0e+1o+2e", "4x0e")
    messages = jax.jit(jax.vmap(second.left_right))(
        weights(below, (10, 4), -2), raised[graph.senders], y
    )
    np.testing.assert_allclose(t[:4], mean(messages.array)[:4], atol=1e-12)


CUBE = crystals.Structure(
    np.array([[0.0, 0, 0], [1.4, 1.4, 1.4]]), np.array([6, 8]), 2.8 * np.eye(3), (True,) * 3
)


@cache
def outputs() -> np.ndarray:
    """A scalar and a mean tensor of one crystal in five forms, mirrored, twice; of others."""
    s = crystals.generic()
    structures = crystals.equal(s) + [crystals.mirrored(s), crystals.supercell(s)]
    structures += [crystals.prism(90.0), crystals.prism(80.0), CUBE]
    graph = crystals.graph_of(structures)
    network = LOCAL.clone(irreps_out="0e+2e")
    output = Output("targets.dielectric", "0e+2e", pool="mean", unit="")
    predict = jax.jit(predict_fn(network, [output]))
    return np.asarray(predict(crystals.parameters(network, graph), graph).targets["dielectric"])


def test_what_it_tells_apart_and_what_not(x64):
    found = outputs()[:, 0]
    np.testing.assert_allclose(found[:7], found[0], rtol=1e-11)
    assert abs(found[8] / found[7] - 1) > 1e-6


def test_tensors_of_crystals_turn_with_them(x64):
    """As a dielectric tensor does: of a cube only the trace is left."""
    found = outputs()[:, 1:]
    matrix = np.asarray(wigner_d(jnp.asarray(crystals.TURN), 2)[2])
    assert np.abs(found[0]).max() > 1e-4
    np.testing.assert_allclose(found[1], matrix @ found[0], atol=1e-13)
    np.testing.assert_allclose(found[2:7], np.tile(found[0], (5, 1)), atol=1e-13)
    assert np.abs(found[9]).max() < 1e-13


@pytest.mark.slow
def test_with_edges_along_the_lattice_a_supercell_is_another_input(x64):
    same = crystals.equal(crystals.generic()) + [crystals.mirrored(crystals.generic())]
    found = crystals.outputs(SMALL, [*same, crystals.supercell(crystals.generic())])[:, 0]
    np.testing.assert_allclose(found[:6], found[0], rtol=1e-11)
    assert abs(found[6] / found[0] - 1) > 1e-5


@pytest.mark.slow
def test_means_are_over_the_messages_there_are(x64):
    """With the nearest alone: six edges to images count beside the edges."""
    network = SMALL.clone(nearest=5)
    graph = crystals.graph_of([crystals.generic()], nearest=5)
    np.testing.assert_array_equal(network._neighbors(graph)[:4], 11.0)
    params = crystals.parameters(network, graph)
    assert np.isfinite(jax.jit(network.apply)(params, graph).array).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"irreps_out": "1e"}, "natural parity"),
        ({"average_neighbors": None}, "average_neighbors"),
    ],
)
def test_what_it_refuses(fields, message):
    graph = crystals.graph_of([crystals.generic()], np.float32)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(SMALL.clone(**fields).init, jax.random.key(0), graph)
