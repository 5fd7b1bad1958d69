"""Networks behind frames, beyond the contract: every provider, priors, draws and refusals."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geojax.networks import (
    DGCNN,
    EGNN,
    LieTransformer,
    Symmetrized,
    fit_to_data,
    from_table,
    to_table,
)
from geojax.symmetrize import pose_loss
from geojax.zoo import to_toml
from tests.networks.small import CUTOFF, ELEMENTS, graph_of, molecule

X = molecule().positions
TURN = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
TURN = TURN * np.linalg.det(TURN)
V = np.random.default_rng(0).normal(size=(6, 3))
SMALL = {"channels": 4, "layers": 1, "heads": 2, "kernel_width": 3, "vectors": ("velocity",)}
PLAIN = LieTransformer(lifts=1, elements=ELEMENTS, average_neighbors=3.0, **SMALL)
LEARNED = {"provider": "learned", "options": (("channels", 4), ("layers", 1))}


def make(**fields):
    return Symmetrized(backbone=PLAIN, cutoff=CUTOFF, irreps_out="0e+1o", **fields)


def graph_at(matrix=None, dtype=np.float64, **inputs):
    """The molecule with velocities, turned."""
    matrix = np.eye(3) if matrix is None else matrix
    inputs = {"velocity": V @ matrix.T, **inputs}
    return graph_of(molecule().replace(positions=X @ matrix.T, inputs=inputs), dtype)


def parameters(network):
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph_at())
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), shapes)


@cache
def ready(network):
    with jax.enable_x64(True):
        params, run = parameters(network), jax.jit(network.apply)
    return lambda *args, **inputs: np.asarray(run(params, graph_at(*args, **inputs)).array)[:6]


@pytest.mark.parametrize(
    "fields",
    [
        {"provider": "pca", "options": (("group", "SE(3)"),)},
        pytest.param({"provider": "pca"}, marks=pytest.mark.slow),
        pytest.param({"provider": "distances"}, marks=pytest.mark.slow),
        pytest.param({"options": (("pairs", 30),), "chunk": 7}, marks=pytest.mark.slow),
        pytest.param(LEARNED, marks=pytest.mark.slow),
    ],
    ids=["pca-se3", "pca", "distances", "weighted", "learned"],
)
def test_a_backbone_without_symmetry_has_that_of_the_provider(fields, x64):
    """It reads positions and velocities, and puts out a scalar and a vector."""
    network = make(**fields)
    run = ready(network)
    found, after = run(), run(TURN)
    np.testing.assert_allclose(after[:, :1], found[:, :1], atol=1e-10 * np.abs(found).max())
    expected = found[:, 1:] @ TURN.T
    np.testing.assert_allclose(after[:, 1:], expected, atol=1e-10 * np.abs(found).max())
    mirrored = np.abs(run(-np.eye(3))[:, 0] - found[:, 0]).max() < 1e-10 * np.abs(found).max()
    assert mirrored == (network.group == "E(3)")
    assert PLAIN.group == "T(3)"


def test_the_fields_of_backbone_and_provider_are_set_and_told():
    network = make()
    assert network.backbone.irreps_out == "0e+1o" and network.backbone.cutoff == CUTOFF
    assert (network.group, network.conservative, network.nearest) == ("SE(3)", True, None)
    mirror = Symmetrized(backbone=EGNN(velocity="v", charge="q", nearest=3, axes=("n",)))
    assert (mirror.group, mirror.nearest) == ("E(3)", 3)
    assert (mirror.scalars, mirror.vectors) == (("q",), ("v", "n"))
    assert not make(provider="pca", options=(("detach", True),)).conservative
    assert make(**LEARNED).group == "SE(3)"


def test_a_backbone_without_edges_leaves_them_to_its_frames():
    """The contract of point clouds tries one such network."""
    nearest = (("nearest", 4), ("cutoff", np.inf))
    network = Symmetrized(backbone=DGCNN(), provider="learned", options=nearest)
    assert (network.cutoff, network.nearest, network.reads_members) == (np.inf, 4, True)
    assert from_table(to_table(network)) == network
    network = Symmetrized(backbone=DGCNN(), provider="pca")
    assert (network.cutoff, network.nearest) == (0.0, None)
    network = make(provider="learned", options=(("nearest", 4),))
    assert (network.cutoff, network.nearest, network.reads_members) == (CUTOFF, None, False)


def test_options_are_a_table_of_pairs():
    network = make(provider="pca", options=(("group", "SE(3)"), ("detach", True)))
    assert from_table(to_table(network)) == network
    lists = {**to_table(network), "options": [["group", "SE(3)"], ["detach", True]]}
    assert from_table(lists) == network
    assert 'options = [["group", "SE(3)"], ["detach", true]]' in to_toml(to_table(network))
    fitted = fit_to_data(Symmetrized(cutoff=CUTOFF), [])
    assert fitted.backbone.average_neighbors == 1.0


@pytest.mark.slow
def test_a_draw_takes_one_frame_and_its_absence_all(x64):
    network = make(provider="stochastic", options=(("group", "SE(3)"),))
    run = ready(network)
    found = [run(draw=np.full(6, u)) for u in (0.1, 0.3, 0.6, 0.9)]
    np.testing.assert_allclose(np.mean(found, 0), run(), rtol=1e-9)
    assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.slow
def test_a_prior_brings_the_poses_to_those_of_the_data():
    """Of structures that all lie alike, and then they lie alike: R goes to 1."""
    network = make(**LEARNED)
    graphs = [
        graph_of(molecule(seed=k).replace(inputs={"velocity": V}), np.float32) for k in range(4)
    ]
    graph = jax.tree.map(lambda *leaves: jnp.stack(leaves), *graphs)
    params = jax.tree.map(jnp.float32, parameters(network))
    adam = optax.adam(0.02)
    frames = jax.vmap(lambda p, g: network.apply(p, g, method="frames"), (None, 0))
    loss = lambda p: jnp.mean(jax.vmap(pose_loss)(frames(p, graph)))

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = adam.init(params), []
    for _ in range(150):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert losses[-1] < 0.02 < losses[0]


def test_what_cannot_be_is_refused():
    graph = graph_at(dtype=np.float32)
    start = lambda **fields: jax.eval_shape(make(**fields).init, jax.random.key(0), graph)
    with pytest.raises(KeyError, match="no provider of frames 'wieghted'; did you mean"):
        start(provider="wieghted")
    with pytest.raises(KeyError, match="'weighted' has no 'pears'; did you mean 'pairs'"):
        start(options=(("pears", 4),))


@pytest.mark.slow
def test_crystals_are_refused_where_edges_are_numbers():
    """And give NaN inside of programs."""
    graph = graph_at(dtype=np.float32)
    crystal = graph._replace(edges={"shifts": graph.edges["shifts"].at[0, 0].set(1)})
    network = make(provider="pca")
    params = jax.tree.map(jnp.float32, parameters(network))
    with pytest.raises(ValueError, match="which a crystal does not have; got 1 edges"):
        network.apply(params, crystal)
    with jax.debug_nans(False):
        assert np.isnan(jax.jit(network.apply)(params, crystal).array[:6]).all()
