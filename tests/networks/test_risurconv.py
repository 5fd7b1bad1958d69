"""RISurConv by hand, its nested centres, what normals are to it, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.networks import RISurConv
from geojax.points import farthest_points, surface_features
from tests.networks import plain_vectors as plain
from tests.networks.test_cloud_contract import cloud, graph_of
from tests.nn.test_set_attention import affine, layer_norm, plain_offset, plain_transformer

SMALL = RISurConv(
    centres=(7, 4),
    neighbors=(4, 3),
    widths=(5, 6),
    steps=(2, 1),
    hidden=(4, 4),
    embedding=6,
    heads=2,
    layers=1,
    feed_forward=5,
    head=(9,),
    irreps_out="2x0e",
    scalars=("radius",),
)


def farthest(x, count):
    chosen = [int(np.argmax((x**2).sum(1)))]
    while len(chosen) < count:
        least = np.min([((x - x[i]) ** 2).sum(1) for i in chosen], 0)
        chosen.append(int(least.argmax()))
    return chosen


def relu(x):
    return np.maximum(x, 0)


def embedded(p, x):
    for i in range(2):
        x = layer_norm(p[f"surface_norm_{i}"], affine(p[f"surface_{i}"], x))
    return relu(x)


def convolved(p, x, m, f, centres, k, step):
    rows = []
    for i in centres:
        near = np.argsort(((x - x[i]) ** 2).sum(1))[:k]
        around = [jnp.asarray(y) for y in (x[near] - x[i], m[near], m[i])]
        features = np.asarray(surface_features(*around, step=step))
        h = plain_offset(p["neighbors"], embedded(p, features))
        h = affine(p["affine"], np.concatenate([h, f[near]], 1))
        rows.append(relu(layer_norm(p["norm"], h)).max(0))
    return plain_offset(p["centres"], np.stack(rows))


def propagated(p, x, coarse, y, f):
    rows = []
    for i in range(len(x)):
        square = ((coarse - x[i]) ** 2).sum(1)
        near = np.argsort(square)[:3]
        weights = 1 / np.maximum(square[near], 1e-30)
        rows.append(weights @ y[near] / weights.sum())
    return relu(layer_norm(p["norm"], affine(p["affine"], np.concatenate([rows, f], 1))))


def by_hand(p, structure, readout):
    """A cloud, centre by centre."""
    x = structure.positions - structure.positions.mean(0)
    m, f = structure.inputs["normals"], structure.inputs["radius"][:, None]
    levels, order = [(x, f)], farthest(x, 7)
    for i, count in enumerate((7, 4)):
        f = convolved(p[f"layer_{i}"], x, m, f, range(count) if i else order[:count], 4 - i, 2 - i)
        if not i:
            x, m = x[order], m[order]
        levels.append((x[:count], f))
    x, m = x[:4], m[:4]
    radius = np.linalg.norm(x, axis=1)
    h = embedded(p, np.stack([radius, (x * m).sum(1) / radius], 1))
    h = affine(p["embedding"], np.concatenate([plain_offset(p["cloud"], h), f], 1))
    y = plain_transformer(p["transformer_0"], relu(layer_norm(p["norm"], h)), 2)
    if readout == "node":
        for i in (1, 0):
            y = propagated(p[f"propagation_{i}"], levels[i][0], levels[i + 1][0], y, levels[i][1])
    else:
        y = np.repeat(y.max(0)[None], len(structure), 0)
    return affine(p["output"], relu(layer_norm(p["norm_0"], affine(p["affine_0"], y))))


@pytest.mark.parametrize("readout", ["graph", pytest.param("node", marks=pytest.mark.slow)])
def test_it_equals_its_equations(readout, x64):
    network = SMALL.clone(readout=readout)
    shape, first = cloud(9), cloud(11, seed=1)
    graph = graph_of(network, first, shape)
    params, tree = plain.parameters(network, graph)
    found = np.asarray(jax.jit(network.apply)(params, graph).array)[11:20]
    expected = by_hand(tree, shape, readout)
    np.testing.assert_allclose(found, expected, atol=1e-11)
    backwards = shape.replace(inputs={**shape.inputs, "normals": -shape.inputs["normals"]})
    assert np.abs(by_hand(tree, backwards, readout) - expected).max() > 1e-6, "sides mean something"


def test_the_start_of_farthest_points_is_the_choice_of_fewer(x64):
    """So one order serves all layers; each is that of the layer before, from the same start."""
    x = jnp.asarray(cloud(20).positions)
    order = farthest_points(x, count=12).index
    again = farthest_points(x[order], count=5, start=jnp.asarray(0))
    np.testing.assert_array_equal(again.index, np.arange(5))


def test_published_widths():
    network = RISurConv(irreps_out="40x0e")
    graph = graph_of(network, cloud())
    tree = jax.eval_shape(network.init, jax.random.key(0), graph)["params"]
    kernels = [tree[f"layer_{i}"]["affine"]["kernel"].shape for i in range(4)]
    assert kernels == [(64, 32), (64 + 32, 64), (64 + 64, 128), (64 + 128, 256)]
    surface = [tree["layer_0"][f"surface_{i}"]["kernel"].shape for i in range(2)]
    assert surface == [(14, 32), (32, 64)]
    assert tree["embedding"]["kernel"].shape == (64 + 256, 512)
    head = [tree[name]["kernel"].shape for name in ("affine_0", "affine_1", "affine_2", "output")]
    assert head == [(512, 512), (512, 256), (256, 128), (128, 40)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"readout": "cloud"}, "'graph' or of each 'node'; got 'cloud'"),
        ({"vectors": ()}, r"one node input; got vectors=\(\)"),
        ({"irreps_out": "0e+1o"}, "invariants, 0e"),
        ({"widths": (4,)}, r"every layer has .* widths=\(4,\)"),
        ({"centres": (4, 7)}, "more centres than the one before"),
    ],
)
def test_what_it_refuses(fields, message):
    network = SMALL.clone(**fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(network.init, jax.random.key(0), graph_of(network, cloud()))


def test_normals_are_needed():
    bare = cloud().replace(inputs={"radius": cloud().inputs["radius"]})
    with pytest.raises(KeyError, match="'normals'"):
        jax.eval_shape(SMALL.init, jax.random.key(0), graph_of(SMALL, bare))
