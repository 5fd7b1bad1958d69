"""Steerable Transformer: what distinguishes its fields; the contract is in `test_contract`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.graphs import Budget, Structure, pad, sample
from geojax.networks import SteerableTransformer
from geojax.so3 import random_rotation

RNG = np.random.default_rng(0)
X, V, Q = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 3)), RNG.choice([-1.0, 1.0], 6)
SMALL = SteerableTransformer(
    channels=4,
    lmax=1,
    layers=1,
    heads=2,
    factor=2,
    radial_width=4,
    elements=(0,),
    scalars=("charges",),
    vectors=("velocities",),
    irreps_out="0e+1o",
)


def graph_of(network, x=X, v=V):
    structure = Structure(x, np.zeros(6, int), inputs={"velocities": v, "charges": Q})
    one = sample(structure, network.cutoff, nearest=network.nearest)
    return jax.tree.map(jnp.asarray, pad([one], Budget(7, 32, 2), np.float64).graph)


def ready(network):
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph_of(network))
    params = jax.tree.map(lambda a: jnp.asarray(RNG.normal(size=a.shape)), shapes)
    apply = jax.jit(network.apply)
    return params, lambda *inputs: np.asarray(apply(params, graph_of(network, *inputs)).array)[:6]


def applied(network, params):
    return np.asarray(jax.jit(network.apply)(params, graph_of(network)).array)[:6]


@pytest.mark.parametrize("nearest", [None, 3])
def test_inputs_turn_with_positions_over_all_pairs_or_the_nearest(nearest, x64):
    turn = np.asarray(random_rotation(jax.random.key(1), improper=True, dtype=jnp.float64))
    _, apply = ready(SMALL.clone(nearest=nearest))
    before, after = apply(), apply(X @ turn.T + 3, V @ turn.T)
    assert np.abs(before).min() > 1e-4
    np.testing.assert_allclose(after[:, :1], before[:, :1], atol=1e-10)
    np.testing.assert_allclose(after[:, 1:], before[:, 1:] @ turn.T, atol=1e-10)


def test_nearest_neighbours_need_no_number_of_neighbours(x64):
    """They end at no radius: a cutoff beyond all of them changes nothing, and has no envelope."""
    params, apply = ready(SMALL.clone(nearest=3))
    within = SMALL.clone(nearest=3, cutoff=50.0)
    np.testing.assert_allclose(applied(within, params), apply(), atol=1e-12)
    finite = SMALL.clone(cutoff=50.0)
    with pytest.raises(ValueError, match="average_neighbors"):
        jax.eval_shape(finite.init, jax.random.key(0), graph_of(finite))


def test_attention_is_part_of_it(x64):
    """Without the attention's last matrix the answer is another one."""
    params, apply = ready(SMALL)
    own = params["params"]
    none = jax.tree.map(jnp.zeros_like, own["attention_0"]["mix"])
    without = {**own, "attention_0": {**own["attention_0"], "mix": none}}
    assert np.abs(applied(SMALL, {"params": without}) - apply()).max() > 1e-2


def test_outputs_beyond_its_degrees_are_refused():
    network = SMALL.clone(irreps_out="2e")
    with pytest.raises(ValueError, match="irreps inside, 0e, 1o; got irreps_out='2e'"):
        jax.eval_shape(network.init, jax.random.key(0), graph_of(network))
