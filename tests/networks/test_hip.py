"""HIP beyond the contract: its Hessians, what its backbone reads, and that it learns."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geojax.graphs import Budget, Properties, Structure, pad, sample, whole_hessian
from geojax.networks import EGNN, HIP, NequIP, fit_to_data
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.so3 import random_rotation
from geojax.training.losses import term_sums, weighted_loss
from geojax.training.terms import Term

NEAR, FAR = 2.5, 6.0  # cutoffs of backbone and Hessian [Å]
BUDGET = Budget(12, 96, 4)


def molecule(n: int, seed: int, **more) -> Structure:
    rng = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)
    species = np.array([1, 6, 1, 1, 6])[:n]
    return Structure(1.4 * corners[:n] + 0.1 * rng.normal(size=(n, 3)), species, **more)


MOLECULES = [molecule(5, 1), molecule(4, 2)]


def graph_of(*structures, dtype="float64", cutoff=FAR):
    samples = [sample(s, cutoff) for s in structures]
    return jax.tree.map(jnp.asarray, pad(samples, BUDGET, np.dtype(dtype)).graph)


def make(backbone=None, **fields):
    options = {"cutoff": NEAR, "channels": 3, "lmax": 2, "layers": 1, "radial_width": 6}
    backbone = NequIP(**({**options, "parity": False} | (backbone or {})))
    small = {"cutoff": FAR, "channels": 3, "n_basis": 4, "radial_width": 6}
    network = HIP(backbone=backbone, **(small | fields))
    return fit_to_data(network, [sample(s, FAR) for s in MOLECULES])


def parameters(network, graph, scale=1.0):
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(scale=scale, size=x.shape)), shapes)


@cache
def ready(pseudo=False, acoustic=False):
    """Parameters and the jitted pass; `slots` are five."""
    with jax.enable_x64(True):
        network = make({"parity": pseudo, "layers": 1 + pseudo}, pseudo=pseudo, acoustic=acoustic)
        params = parameters(network, graph_of(*MOLECULES))
        run = jax.jit(lambda graph: network.apply(params, graph, 5, method="with_hessian"))
    return network, params, run


def hessians(rows):
    """`[3n, 3n]` of both molecules."""
    parts = [np.asarray(rows)[:5], np.asarray(rows)[5:9]]
    return [whole_hessian(part).reshape(3 * len(part), -1) for part in parts]


@pytest.mark.parametrize("pseudo", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_hessians_are_symmetric_and_turn_with_the_world(pseudo, x64):
    _, _, run = ready(pseudo)
    turn = random_rotation(jax.random.key(3), improper=True, dtype=jnp.float64)
    graph = graph_of(*MOLECULES)
    moved = graph._replace(nodes={**graph.nodes, "positions": graph.nodes["positions"] @ turn.T})
    rows, after = run(graph)[1], run(moved)[1]
    expected = np.einsum("ab,isbc,dc->isad", turn, rows, turn)
    np.testing.assert_allclose(after, expected, atol=1e-12 * np.abs(expected).max())
    for hessian in hessians(rows):
        np.testing.assert_array_equal(hessian, hessian.T)
        assert np.abs(np.linalg.eigvalsh(hessian)).max() > 1e-3
    assert not np.asarray(rows[9:]).any()


def test_a_batch_is_its_molecules_one_by_one(x64):
    _, _, run = ready()
    together = hessians(run(graph_of(*MOLECULES))[1])
    for number, molecule_ in enumerate(MOLECULES):
        rows = np.asarray(run(graph_of(molecule_))[1])[: len(molecule_)]
        alone = whole_hessian(rows).reshape(together[number].shape)
        np.testing.assert_allclose(alone, together[number], atol=1e-12 * np.abs(alone).max())


def test_the_backbone_sees_nothing_beyond_its_own_cutoff(x64):
    """The energies are those of a graph without the far edges; the Hessian reads them."""
    _, _, run = ready()
    (energy, rows), (energy_near, rows_near) = (
        run(graph_of(*MOLECULES, cutoff=c)) for c in (FAR, NEAR)
    )
    np.testing.assert_allclose(energy.array[:9], energy_near.array[:9], rtol=1e-12)
    assert np.abs(rows - rows_near).max() > 1e-4 * np.abs(rows).max()


@pytest.mark.slow
def test_the_sum_rule_holds_where_it_is_asked_for(x64):
    _, _, run = ready(acoustic=True)
    for hessian in hessians(run(graph_of(*MOLECULES))[1]):
        np.testing.assert_array_equal(hessian, hessian.T)
        sums = hessian.reshape(len(hessian), -1, 3).sum(1)
        np.testing.assert_allclose(sums, 0, atol=1e-12 * np.abs(hessian).max())


@pytest.mark.slow
def test_the_parts_of_a_pass_are_those_of_the_whole(x64):
    network, params, run = ready()
    graph = graph_of(*MOLECULES)
    both = run(graph)
    rows = jax.jit(lambda g: network.apply(params, g, 5, method="hessian"))(graph)
    np.testing.assert_allclose(rows, both[1], atol=1e-13)
    energy = jax.jit(network.apply)(params, graph).array
    np.testing.assert_allclose(energy, both[0].array, atol=1e-13)


def test_the_group_and_the_inputs_are_the_backbones():
    assert make().group == "E(3)"
    assert make({"parity": False, "chiral": True}).group == "SE(3)"
    egnn = HIP(backbone=EGNN(cutoff=4.0, velocity="v", charge="q", scalars=("s",)))
    assert (egnn.scalars, egnn.vectors) == (("s", "q"), ("v",))
    assert make().backbone.irreps_out == "3x0e+3x1o+3x2e"
    assert make(pseudo=True).backbone.irreps_out == "3x0e+3x1o+3x2e+3x1e"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cutoff": 2.0}, "its cutoff is 2.5 Å and that of the Hessian 2.0 Å"),
        ({"backbone": {"lmax": 1}}, "raise lmax"),
        ({"irreps_out": "0e+3o"}, "got irreps_out='0e[+]3o' with 3o"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    graph = graph_of(*MOLECULES, dtype="float32")
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(make(**fields).init, jax.random.key(0), graph)


def test_a_number_of_nearest_neighbours_is_no_cutoff():
    network = HIP(backbone=EGNN(nearest=3))
    with pytest.raises(ValueError, match="the backbone reads 3 nearest ones"):
        jax.eval_shape(network.init, jax.random.key(0), graph_of(*MOLECULES, dtype="float32"))


def spring_hessian(x: np.ndarray) -> np.ndarray:
    """Of E = sum over pairs of (r - 1.4)² / 2."""
    n, out = len(x), np.zeros((len(x), 3, len(x), 3))
    for i in range(n):
        for j in range(n):
            if i != j:
                r = np.linalg.norm(x[i] - x[j])
                u = (x[i] - x[j]) / r
                block = np.outer(u, u) + (1 - 1.4 / r) * (np.eye(3) - np.outer(u, u))
                out[i, :, j] -= block
                out[i, :, i] += block
    return out


@pytest.mark.slow
def test_training_lowers_the_error_of_the_hessian():
    known = [
        s.replace(properties=Properties(hessian=spring_hessian(s.positions))) for s in MOLECULES
    ]
    batch = jax.tree.map(jnp.asarray, pad([sample(s, FAR) for s in known], BUDGET, np.float32))
    network = make()
    predict = predict_fn(network, [Output(), Output("hessian", slots=5)])
    terms = (Term("hessian", kind="mae"), Term("hessian", kind="eigenpairs", weight=0.3))
    adam = optax.adam(0.02)

    def loss(params):
        sums = term_sums(predict(params, batch.graph), batch, terms)
        return weighted_loss(sums, terms, jnp.float32(0)), sums["hessian"][0] / sums["hessian"][1]

    @jax.jit
    def step(params, state):
        (_, error), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(params, updates), state, error

    params = jax.tree.map(jnp.float32, parameters(network, batch.graph, scale=0.5))
    state, errors = adam.init(params), []
    for _ in range(120):
        params, state, error = step(params, state)
        errors.append(float(error))
    assert errors[-1] < 0.35 * errors[0]
