"""RoITr by hand, its two clouds, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.graphs import Budget, Properties, Structure, pad, sample
from geojax.networks import RoITr
from geojax.networks.risurconv import Level
from geojax.networks.roitr import PairFeatureAttention, thinned
from geojax.training.descriptors import circle, pairs_of
from tests.networks.test_cloud_contract import cloud, graph_of, pair

SMALL = RoITr(
    centres=(6, 4),
    stride=2,
    neighbors=(4, 4, 3),
    widths=(4, 6, 8),
    heads=2,
    global_layers=1,
    distance=1.0,
    irreps_out="5x0e",
)


def parameters(network, graph):
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(scale=0.5, size=x.shape)), shapes)


def moved(structure, part, seed):
    """One cloud of a pair in another pose, also reflected."""
    rng = np.random.default_rng(seed)
    turn = -Rotation.random(rng=rng).as_matrix()
    rows = structure.inputs["part"][:, None] == part
    x = np.where(rows, structure.positions @ turn.T + rng.normal(size=3), structure.positions)
    n = structure.inputs["normals"]
    n = np.where(rows, n @ turn.T, n)
    return structure.replace(positions=x, inputs={**structure.inputs, "normals": n})


@pytest.mark.slow
def test_each_cloud_may_be_moved_by_itself(x64):
    structure = pair(cloud(20))
    params = parameters(SMALL, graph_of(SMALL, structure))
    run = jax.jit(lambda s: SMALL.apply(params, s).array[:20])
    before = run(graph_of(SMALL, structure))
    both = moved(moved(structure, 0, 5), 1, 6)
    np.testing.assert_allclose(run(graph_of(SMALL, both)), before, atol=1e-10)
    one = both.replace(inputs={**both.inputs, "normals": structure.inputs["normals"]})
    assert np.abs(run(graph_of(SMALL, one)) - before).max() > 1e-3  # normals have to follow


@pytest.mark.slow
def test_each_cloud_hears_of_the_other(x64):
    structure = pair(cloud(20))
    params = parameters(SMALL, graph_of(SMALL, structure))
    apply = jax.jit(lambda network, s: network.apply(params, s).array, static_argnums=0)
    run = lambda network, s: np.asarray(apply(network, graph_of(network, s)))
    x = structure.positions.copy()
    x[10:] *= 1.3
    other = structure.replace(positions=x)
    for network, changed in ((SMALL, True), (SMALL.clone(global_layers=0), False)):
        difference = np.abs(run(network, other) - run(network, structure))
        assert (difference[:10].max() > 1e-7) == changed
        assert difference[10:20].max() > 1e-4


def test_local_attention_by_hand(x64):
    rng = np.random.default_rng(0)
    x, f = rng.normal(size=(1, 7, 3)), rng.normal(size=(1, 7, 4))
    normals = rng.normal(size=(1, 7, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    real = np.arange(7)[None] < 6
    level = Level(*(jnp.asarray(a) for a in (x, normals, real, f)))
    layer = PairFeatureAttention(neighbors=3, heads=2)
    params = parameters_of(layer, level)
    found = jax.jit(layer.apply)(params, level, level).f[0]
    p = jax.tree.map(np.asarray, params)["params"]
    affine = lambda name, y: y @ p[name]["kernel"] + p[name].get("bias", 0)
    angle = lambda a, b: np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b) / np.pi
    for i in range(6):
        order = np.argsort(np.linalg.norm(x[0, :6] - x[0, i], axis=1))[:3]
        heard = np.zeros(4)
        for head in (slice(0, 2), slice(2, 4)):
            logits, values = [], []
            for j in order:
                d, a, b = x[0, j] - x[0, i], normals[0, i], normals[0, j]
                angles = (0, 0) if i == j else (angle(a, d), angle(b, d))
                ppf = np.array([np.linalg.norm(d), *angles, angle(a, b)])
                e = affine("pairs", ppf)
                key = affine("key", f[0, j]) + affine("pair_key", e)
                logits.append(affine("query", f[0, i])[head] @ key[head] / np.sqrt(2))
                values.append((affine("value", f[0, j]) + affine("pair_value", e))[head])
            weights = np.exp(logits) / np.exp(logits).sum()
            heard[head] = weights @ np.array(values)
        y = f[0, i] + affine("output", heard)
        y = (y - y.mean()) / np.sqrt(y.var() + 1e-5)
        np.testing.assert_allclose(found[i], y * p["norm"]["gain"] + p["norm"]["shift"], atol=1e-12)
    assert not found[6].any()


def parameters_of(layer, level):
    shapes = jax.eval_shape(layer.init, jax.random.key(0), level, level)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), shapes)


def test_one_centre_for_so_many_points(x64):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 9, 3)))
    real = jnp.arange(9)[None] < jnp.array([9, 5, 0])[:, None]
    level = Level(x, x, real, x)
    assert thinned(level, 20, 4).real.sum(1).tolist() == [3, 2, 0]
    assert thinned(level, 2, 4).real.sum(1).tolist() == [2, 2, 0]
    few = thinned(level, 20, 4)
    np.testing.assert_array_equal(few.f, jnp.where(few.real[..., None], few.x, 0))


@pytest.mark.slow
def test_a_third_cloud_has_no_descriptors():
    structure = cloud(9)
    part = np.repeat([0.0, 1.0, 2.0], 3)
    structure = structure.replace(inputs={**structure.inputs, "part": part})
    graph = graph_of(SMALL, structure, dtype="float32")
    params = jax.jit(SMALL.init)(jax.random.key(0), graph)
    with jax.debug_nans(False):
        found = np.asarray(jax.jit(SMALL.apply)(params, graph).array)
    assert np.isnan(found[6:9]).all() and np.isfinite(found[:6]).all()


@pytest.mark.slow
def test_a_pair_is_learned():
    """The circle loss of one pair in two poses falls."""
    import optax

    first = cloud(16)
    rng = np.random.default_rng(3)
    turn = Rotation.random(rng=rng).as_matrix()
    x, n = first.positions, first.inputs["normals"]
    inputs = {"normals": np.concatenate([n, n @ turn.T]), "part": np.repeat([0.0, 1.0], 16)}
    labels = Properties(node_targets={"descriptor": np.concatenate([x, x])})
    both = Structure(
        np.concatenate([x, x @ turn.T + 1]), np.zeros(32, int), inputs=inputs, properties=labels
    )
    both = both.replace(positions=both.positions + 0.01 * rng.normal(size=(32, 3)))
    made = pad([sample(both, 0.0, members=32)], Budget(40, 1, 2), np.dtype("float32"))
    batch = jax.tree.map(jnp.asarray, made)
    small = {"centres": (6,), "neighbors": (4, 4), "widths": (8, 12), "blocks": (1, 1)}
    network = SMALL.clone(**small, irreps_out="16x0e")
    params = jax.jit(network.init)(jax.random.key(0), batch.graph)
    optimizer = optax.adam(3e-3)

    def loss(params):
        values = network.apply(params, batch.graph).array
        places = batch.labels.node_targets["descriptor"]
        mask = batch.masks.node_targets["descriptor"]
        return circle(pairs_of(values, places, mask, batch, radius=0.1, far=0.3))[0][0]

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, change), state, value

    state, losses = optimizer.init(params), []
    for _ in range(60):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vectors": ()}, "one node input"),
        ({"irreps_out": "0e+1o"}, "invariants"),
        ({"widths": (4, 6)}, "every layer"),
        ({"heads": 3}, "evenly"),
        ({"widths": (4, 6, 10), "heads": 2, "stride": 0}, "stride is positive"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(fields, message):
    network = SMALL.clone(**fields)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(network.init, jax.random.key(0), graph_of(SMALL, cloud(), dtype="float32"))


def test_it_needs_parts():
    structure = cloud()
    samples = [sample(structure, 0.0)]
    graph = jax.tree.map(jnp.asarray, pad(samples, Budget(24, 1, 2), np.dtype("float32")).graph)
    with pytest.raises(KeyError, match="part"):
        jax.eval_shape(SMALL.init, jax.random.key(0), graph)
