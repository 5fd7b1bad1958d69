"""The network of spherical neurons by hand, mirror images, and what it refuses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.datasets.tetris import PIECES
from geojax.graphs import Structure
from geojax.networks import SphericalNeuronNetwork
from tests.networks import plain_vectors as plain
from tests.networks.test_cloud_contract import cloud, graph_of

SMALL = SphericalNeuronNetwork(
    spheres=3,
    neighbors=4,
    widths=(3, 4),
    embedding=5,
    head=(3,),
    irreps_out="1o+2x0e+1o",
    scalars=("radius",),
    vectors=("normals",),
)


def bank(sphere, x):
    """Of one point: x and the value of the sphere there, each times what the bank makes of it."""
    centre, offset, last = sphere[:3], sphere[3], sphere[4]
    vector = 2 / np.sqrt(3) * np.linalg.norm(centre) * x
    return np.append(vector, 2 * (-offset - last * (x @ x) / 2))


def neuron(p, row):
    """Of one row [4, channel], of any number of parts side by side."""
    vectors, scalars = (p[f"map_{name}"].reshape(-1, p["map_shift"].size) for name in KINDS)
    y = np.concatenate([row[:3] @ vectors, row[3:] @ scalars + p["map_shift"]])
    q, d = np.split(y, 2, 1)
    return np.stack([plain.bent(q[:, c], d[:, c], 0.2) for c in range(q.shape[1])], 1)


KINDS = ("vectors", "scalars")


def edges(p, f, near, cross):
    rows = []
    for i, others in enumerate(near):
        sent = []
        for j in others:
            row = np.concatenate([f[j] - f[i], f[i]], 1)
            if not cross:
                sent.append(neuron(p, row))
                continue
            turned = np.cross(f[j][:3], f[i][:3], axis=0)
            vectors = np.concatenate([*p["map_vectors"], p["across"]])[None]
            scalars = np.concatenate([*p["map_scalars"], 0 * p["across"]])[None]
            row = np.concatenate([row, np.concatenate([turned, 0 * turned[:1]])], 1)
            sent.append(neuron({**p, "map_vectors": vectors, "map_scalars": scalars}, row))
        rows.append(np.mean(sent, 0))
    return np.stack(rows)


def by_hand(p, structure, network):
    x = structure.positions - structure.positions.mean(0)
    f = np.stack([[bank(s, point) for s in p["spheres_in"]] for point in x]).swapaxes(1, 2)
    normals, radius = structure.inputs["normals"], structure.inputs["radius"]
    more = np.zeros((len(x), 4, 2))
    more[:, :3, 0], more[:, 3, 1] = normals, radius
    f, layers = np.concatenate([f, more], -1), []
    for i in range(2):
        near = plain.nearest(f.reshape(len(f), -1) if i else x, 4)
        f = edges(p[f"layer_{i}"], f, near, network.cross and not i)
        f = plain.norm(p[f"norm_{i}"], f)
        layers.append(f)
    rows = lambda name, f: np.stack([neuron(p[name], row) for row in f])
    f = plain.norm(p["norm"], rows("embedding", np.concatenate(layers, -1)))
    mean = np.broadcast_to(f.mean(0), f.shape)
    both = np.concatenate([f, mean], -1)
    invariants = plain.invariants(p["invariants"], both[:, :3], 0.2)
    h = np.concatenate([invariants, both[:, 3]], -1)
    local = np.concatenate([invariants, *(y[:, 3] for y in layers)], -1)
    at_points = network.readout == "node"
    scalars = plain.point_head(p["head"], h, local if at_points else None)
    u = rows("vectors_0", both if at_points else mean)[:, :3]
    return scalars, u @ p["vectors_1"]["kernel"]


@pytest.mark.parametrize(("readout", "cross"), [("graph", True), ("node", False)])
def test_it_equals_its_equations(readout, cross, x64):
    network = SMALL.clone(readout=readout, cross=cross)
    assert network.group == ("SE(3)" if cross else "E(3)")
    shape, mate = cloud(6), cloud(9, seed=1)
    graph = graph_of(network, mate, shape)
    params, tree = plain.parameters(network, graph)
    found = np.asarray(jax.jit(network.apply)(params, graph).array[9:15])
    scalars, vectors = by_hand(tree, shape, network)
    np.testing.assert_allclose(found[:, 3:5], scalars, atol=1e-12)
    np.testing.assert_allclose(found[:, :3], vectors[..., 0], atol=1e-12)
    np.testing.assert_allclose(found[:, 5:], vectors[..., 1], atol=1e-12)


@pytest.mark.parametrize("cross", [False, True])
def test_screws_are_told_apart_by_cross_products_alone(cross, x64):
    network = SMALL.clone(cross=cross, irreps_out="0e", scalars=(), vectors=())
    pieces = [np.array(PIECES[f"{hand} screw"], float) for hand in ("left", "right")]
    screws = [graph_of(network, Structure(x, np.zeros(4, int))) for x in pieces]
    params, _ = plain.parameters(network, screws[0])
    run = jax.jit(network.apply)
    left, right = (float(run(params, s).array[0, 0]) for s in screws)
    assert (abs(left - right) > 1e-6) == cross
    assert cross or abs(left - right) < 1e-12


def test_scalars_are_a_threshold_of_vectors(x64):
    """A shift of the scalars alone changes vectors: what vector neurons of three rows cannot do."""
    network, graph = SMALL.clone(irreps_out="1o", readout="node"), graph_of(SMALL, cloud(6))
    params, _ = plain.parameters(network, graph)
    layer = params["params"]["layer_0"]
    other = {**layer, "map_shift": layer["map_shift"] + 1.0}
    other = {"params": {**params["params"], "layer_0": other}}
    run = jax.jit(network.apply)
    change = run(other, graph).array[:6] - run(params, graph).array[:6]
    assert jnp.all(jnp.abs(change).max(-1) > 1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"irreps_out": "0o"}, "scalars 0e and vectors 1o; got irreps_out='0o'"),
        ({"readout": "cloud"}, "got 'cloud'"),
    ],
)
def test_what_is_refused(fields, message):
    network, graph = SMALL.clone(**fields), graph_of(SMALL, cloud(6), dtype="float32")
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(network.init, jax.random.key(0)), graph)
