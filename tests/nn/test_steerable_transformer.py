"""Attention with steerable positions against a loop over nodes; what turns; what is smooth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irrep
from scipy.special import erf

from geojax.graphs import Budget, Structure, pad, sample
from geojax.nn.steerable_convolution import edge_attributes, edge_envelope, steerable_edges
from geojax.nn.steerable_transformer import (
    NormFeedForward,
    PositionalAttention,
    SelfCoupling,
    SteerableNorm,
)
from geojax.so3 import clebsch_gordan, random_rotation, wigner_d

RNG, KEY = np.random.default_rng(0), jax.random.key(0)
NODES, CHANNELS, LMAX = 5, 4, 2
IRREPS = [Irrep(l, (-1) ** l) for l in range(LMAX + 1)]
POSITIONS = RNG.normal(size=(NODES, 3))
BLOCKS = {i: RNG.normal(size=(NODES + 1, i.dim, CHANNELS)) for i in IRREPS}


def graph_of(positions=POSITIONS, cutoff=np.inf):
    structure = Structure(positions, np.zeros(NODES, int))
    batch = pad([sample(structure, cutoff)], Budget(NODES + 1, 22, 2), np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)


def edges_of(graph, cutoff=np.inf):
    return steerable_edges(graph, LMAX, edge_attributes(graph), edge_envelope(graph, cutoff, 6))


def features(blocks=BLOCKS):
    return {i: jnp.asarray(block) for i, block in blocks.items()}


def turned(blocks, turn):
    matrices = wigner_d(jnp.asarray(turn), LMAX)
    return {i: jnp.einsum("ab,nbc->nac", matrices[i.l], b) for i, b in features(blocks).items()}


def random(module, *inputs):
    """Parameters, and the compiled map of the inputs."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    params = jax.tree.map(lambda a: jnp.asarray(RNG.normal(size=a.shape)), shapes)
    return params, jax.jit(lambda *inputs: module.apply(params, *inputs))


def silu(x):
    return x / (1 + np.exp(-x))


def test_attention_equals_its_equations(x64):
    """Two heads: scores keep their sign, and P is added to keys and to values."""
    graph, x = graph_of(), features()
    edges, layer = edges_of(graph), PositionalAttention(heads=2, hidden=3)
    params, apply = random(layer, x, edges, graph)
    found = apply(x, edges, graph)
    p = jax.tree.map(np.asarray, params["params"])
    q, k, v = ({i: BLOCKS[i] @ p[n][str(i)] / 2 for i in IRREPS} for n in ("query", "key", "value"))
    y = np.asarray(edges.harmonics)[..., 0]
    signs = set()
    for node in range(NODES):
        arriving = np.flatnonzero(np.asarray(graph.receivers) == node)
        logits, rows = np.zeros((len(arriving), 2)), {i: [] for i in IRREPS}
        for n, e in enumerate(arriving):
            j = int(graph.senders[e])
            w = np.linalg.norm(POSITIONS[[node]] - POSITIONS[j], axis=1)
            for m in range(3):
                w = w @ p["radial"][f"affine_{m}"]["kernel"] + p["radial"][f"affine_{m}"]["bias"]
                w = silu(w) if m < 2 else w
            radial = np.reshape(w, (2, 3, CHANNELS))
            for l, i in enumerate(IRREPS):
                position = y[e, i.l**2 : (i.l + 1) ** 2, None] * radial[:, l][:, None]
                products = (q[i][node] * (k[i][j] + position[0])).sum(0)
                logits[n] += products.reshape(2, 2).sum(1) / np.sqrt(9 * CHANNELS)
                rows[i].append(v[i][j] + position[1])
        signs |= set(np.sign(logits).ravel())
        weights = np.exp(logits) / np.exp(logits).sum(0)
        for i in IRREPS:
            mean = np.einsum("ec,emc->mc", np.repeat(weights, 2, 1), np.stack(rows[i]))
            expected = mean @ p["mix"][str(i)] / 2
            np.testing.assert_allclose(found[i][node], expected, atol=1e-12)
    assert signs == {-1.0, 1.0}


@pytest.mark.parametrize("layer", [PositionalAttention(2, 3), SelfCoupling(), NormFeedForward(2)])
def test_layers_turn_with_features_and_positions(layer, x64):
    """Rotations with a mirror; and positions may be anywhere."""
    turn = np.asarray(random_rotation(jax.random.key(1), improper=True, dtype=jnp.float64))
    graph, moved = graph_of(), graph_of(POSITIONS @ turn.T + 100)
    inputs = lambda g: (edges_of(g), g) if isinstance(layer, PositionalAttention) else ()
    _, apply = random(layer, features(), *inputs(graph))
    before, after = apply(features(), *inputs(graph)), apply(turned(BLOCKS, turn), *inputs(moved))
    for i, block in turned({i: np.asarray(b) for i, b in before.items()}, turn).items():
        assert np.abs(block).max() > 0.05
        np.testing.assert_allclose(after[i][:NODES], block[:NODES], atol=1e-11)


def test_attention_is_smooth_where_a_neighbour_leaves_the_cutoff(x64):
    cutoff, layer = 1.5, PositionalAttention(heads=2, hidden=3)
    x = features()
    base = np.array([[0.0, 0, 0], [0.8, 0, 0], [0, 0, 1], [50, 0, 0], [99, 0, 0]])

    def at(d):
        base[2, 2] = d
        graph = graph_of(base, 3.0)
        return x, edges_of(graph, cutoff), graph

    _, apply = random(layer, *at(1.0))
    values = [np.asarray(apply(*at(d))[IRREPS[1]][0]) for d in (1.0, cutoff - 1e-5, cutoff + 1e-5)]
    assert np.abs(values[1] - values[2]).max() < 1e-12 < 1e-3 < np.abs(values[0] - values[2]).max()
    assert not np.asarray(apply(*at(1.0))[IRREPS[1]][3]).any()  # it has no neighbours


def test_the_feed_forward_equals_its_equations(x64):
    params, apply = random(NormFeedForward(3), features())
    p, found = jax.tree.map(np.asarray, params["params"]), apply(features())
    for i in IRREPS:
        h = BLOCKS[i] @ p["linear_0"][str(i)] / 2
        assert h.shape[-1] == 12
        size = np.sqrt((h * h).sum(1, keepdims=True) + 0.01)
        s = size + p["norm"][f"bias_{i}"]
        h = h * (s * (1 + erf(s / np.sqrt(2))) / 2) / size
        expected = h @ p["linear_1"][str(i)] / np.sqrt(12)
        np.testing.assert_allclose(found[i], expected, atol=1e-12)


def test_norms_have_no_jump_at_zero(x64):
    """f / |f| of a channel, as published, changes by 2 between -1e-9 and 1e-9."""
    _, apply = random(SteerableNorm(), features())
    small = lambda sign: {**features(), IRREPS[1]: jnp.full((NODES + 1, 3, CHANNELS), sign * 1e-9)}
    for i, plus in apply(small(1)).items():
        assert np.abs(plus - apply(small(-1))[i]).max() < 1e-7
    _, wide = random(NormFeedForward(2), features())
    assert np.abs(wide(small(1))[IRREPS[1]] - wide(small(-1))[IRREPS[1]]).max() < 1e-6


def test_coupling_is_the_clebsch_gordan_product(x64):
    """Scalars into vectors and vectors into scalars, by hand at lmax 1."""
    x = {i: features()[i] for i in IRREPS[:2]}
    params, apply = random(SelfCoupling(), x)
    p, found = jax.tree.map(np.asarray, params["params"]), apply(x)
    one, two = (
        [BLOCKS[i] @ p[n]["kernel"][l] / 2 for l, i in enumerate(x)] for n in ("left", "right")
    )
    paths = [(0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1)]  # each degree has two
    out = [0, 0]
    for (a, b, c), w in zip(paths, p["weights"], strict=True):
        table = np.sqrt(2 * c + 1) * np.asarray(clebsch_gordan(a, b, c))
        out[c] = out[c] + w / np.sqrt(2) * np.einsum("nac,nbc,abm->nmc", one[a], two[b], table)
    for l, i in enumerate(x):
        expected = out[l] @ p["mix"]["kernel"][l] / 2
        np.testing.assert_allclose(found[i], expected, atol=1e-12)


def test_odd_paths_tell_mirror_images_apart(x64):
    mirror = -np.eye(3)
    for chiral in (False, True):
        _, apply = random(SelfCoupling(chiral), features())
        before, after = apply(features()), apply(turned(BLOCKS, mirror))
        expected = turned({i: np.asarray(b) for i, b in before.items()}, mirror)
        error = max(np.abs(after[i] - expected[i]).max() for i in IRREPS)
        assert (error > 1e-3) == chiral and (chiral or error < 1e-12)


def test_channels_that_heads_cannot_share_are_refused():
    graph = graph_of()
    with pytest.raises(ValueError, match="got 4x0e \\+ 4x1o \\+ 4x2e for heads=3"):
        jax.eval_shape(PositionalAttention(3).init, KEY, features(), edges_of(graph), graph)
    uneven = {**features(), IRREPS[1]: jnp.ones((NODES + 1, 3, 2))}
    with pytest.raises(ValueError, match="4x0e \\+ 2x1o"):
        jax.eval_shape(PositionalAttention(2).init, KEY, uneven, edges_of(graph), graph)
