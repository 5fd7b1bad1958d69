"""What every network of point clouds promises; see `test_contract` for those of atoms.

A new one is tested with the variants in `cases.CLOUDS`.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irreps

from geojax.graphs import Budget, Graph, Structure, pad, sample
from geojax.networks import fit_to_data, from_table, to_table
from geojax.networks.network import vector_inputs
from geojax.so3 import random_rotation, wigner_d
from tests.networks.cases import CLOUDS, DEAR

BUDGET = Budget(48, 448, 4)
EQUAL = {"float64": 1e-10, "float32": 1e-4}  # relative to the largest entry
VARIANTS = [(name, variant) for name in CLOUDS for variant in CLOUDS[name]]
# `make test` tries the first variant of each network, and `make test-all` every one.
every_variant = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] * (case[1] != next(iter(CLOUDS[case[0]]))))
        for case in VARIANTS
    ],
    ids=["-".join(filter(None, case)) for case in VARIANTS],
)
# Without those that take longest to compile.
most_variants = pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.slow] * (bool(c[1]) or c[0] in DEAR)) for c in VARIANTS],
    ids=["-".join(filter(None, case)) for case in VARIANTS],
)


def cloud(n=20, seed=0) -> Structure:
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(n, 3))
    inputs = {
        "normals": normals / np.linalg.norm(normals, axis=1, keepdims=True),
        "radius": rng.uniform(size=n),
    }
    positions = rng.normal(size=(n, 3))
    inputs |= {"velocity": rng.normal(size=(n, 3)), "history": rng.normal(size=(n, 4, 3))}
    return Structure(positions, np.zeros(n, int), inputs=inputs)


def reads_parts(network) -> bool:
    """Whether it is for pairs of clouds."""
    return getattr(network, "reads_parts", False)


def pair(structure: Structure) -> Structure:
    """Its first half and its second as two clouds."""
    n = len(structure)
    part = structure.inputs.get("part", (np.arange(n) >= n // 2).astype(float))
    return structure.replace(inputs={**structure.inputs, "part": part})


def make(case):
    name, variant = case
    return fit_to_data(from_table({"name": name, **CLOUDS[name][variant]}), [sample(cloud(), 0.0)])


def graph_of(network, *clouds, dtype="float64", budget=BUDGET, members=None) -> Graph:
    nearest = getattr(network, "nearest", None)
    clouds = [pair(c) if reads_parts(network) else c for c in clouds]
    samples = [sample(s, network.cutoff, nearest=nearest, members=members) for s in clouds]
    return jax.tree.map(jnp.asarray, pad(samples, budget, np.dtype(dtype)).graph)


class Run(NamedTuple):
    network: object
    params: object
    apply: object

    def __call__(self, *clouds, **options):
        graph = graph_of(self.network, *clouds, **options)
        return np.asarray(self.apply(self.params, graph).array)


@cache
def ready(case, dtype) -> Run:
    network = make(case)
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph_of(network, cloud()))
    rng = np.random.default_rng(1)
    draw = lambda x: jnp.asarray(rng.normal(scale=0.5, size=x.shape), dtype)
    return Run(network, jax.tree.map(draw, shapes), jax.jit(network.apply))


@pytest.fixture(params=["float64", pytest.param("float32", marks=pytest.mark.slow)])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def close(found, expected, tolerance):
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def turned(structure: Structure, network, matrix) -> Structure:
    """With all that turns, and the polar axis of normals, which a mirror turns too."""
    known = {*vector_inputs(network), *getattr(network, "axes", ())}
    inputs = {k: v @ matrix.T if k in known else v for k, v in structure.inputs.items()}
    return structure.replace(positions=structure.positions @ matrix.T, inputs=inputs)


def turn_of(network):
    """A rotation that it respects, with a reflection where it keeps these: any, or of a few."""
    group = getattr(network, "group", "E(3)")
    if group == "T(3)":
        return np.eye(3)
    if group.startswith("approximately "):
        return network.symmetries[-1]
    improper = group in ("E(3)", "O(3)")
    return np.asarray(random_rotation(jax.random.key(3), improper=improper, dtype=np.float64))


@every_variant
def test_outputs_turn_as_their_irreps_say(case, dtype):
    with jax.enable_x64(True):
        turn = turn_of(ready(case, dtype).network)
    run = ready(case, dtype)
    irreps = Irreps(run.network.irreps_out)
    before, after = run(cloud(), dtype=dtype), run(turned(cloud(), run.network, turn), dtype=dtype)
    with jax.enable_x64(True):
        blocks = [
            np.kron(np.eye(n), wigner_d(jnp.asarray(turn), i.l, pseudo=i.p != (-1) ** i.l)[i.l])
            for n, i in irreps
        ]
    matrix = jax.scipy.linalg.block_diag(*blocks)
    close(after[:20], before[:20] @ np.asarray(matrix).T, EQUAL[dtype])


@every_variant
def test_what_is_not_declared_is_not_kept(case, x64):
    """A rotation where only translations are, a mirror where only rotations."""
    run = ready(case, "float64")
    group = getattr(run.network, "group", "E(3)")
    if group in ("E(3)", "O(3)"):
        pytest.skip("keeps all of E(3)")
    turn = -np.eye(3) if group != "T(3)" else np.asarray(random_rotation(jax.random.key(3)))
    before, after = run(cloud()), run(turned(cloud(), run.network, turn))
    assert np.abs(after - before).max() > 1e-6 * np.abs(before).max()


@every_variant
def test_translations_change_nothing(case, x64):
    run = ready(case, "float64")
    graph = graph_of(run.network, cloud())
    moved = graph.nodes["positions"] + jnp.array([[1e3, -2e3, 3e2]])
    after = run.apply(run.params, graph._replace(nodes={**graph.nodes, "positions": moved}))
    close(after.array[:20], run(cloud())[:20], 1e-9)


@every_variant
def test_the_order_of_points_means_nothing(case, x64):
    run, structure = ready(case, "float64"), cloud()
    order = np.random.default_rng(0).permutation(len(structure))
    if reads_parts(run.network):
        order = order[np.argsort(order >= len(structure) // 2, kind="stable")]
    inputs = {k: v[order] for k, v in structure.inputs.items()}
    other = structure.replace(positions=structure.positions[order], inputs=inputs)
    close(run(other)[:20], run(structure)[order], EQUAL["float64"])


@most_variants
def test_a_cloud_is_the_same_in_any_batch(case, dtype):
    """With other mates, more padding, and places for members given."""
    run = ready(case, dtype)
    alone = run(cloud(), dtype=dtype)[:20]
    mates = run(cloud(13, seed=5), cloud(), dtype=dtype)
    close(mates[13:33], alone, EQUAL[dtype])
    placed = run(cloud(13, seed=5), cloud(), dtype=dtype, members=24)
    close(placed[13:33], alone, EQUAL[dtype])
    roomy = run(cloud(), dtype=dtype, budget=Budget(64, 512, 3))
    close(roomy[:20], alone, EQUAL[dtype])
    assert np.isfinite(roomy).all()


@most_variants
def test_gradients_are_finite_and_stay_in_their_cloud(case, x64):
    """Also where points coincide, and of clouds with fewer points than neighbours."""
    run = ready(case, "float64")
    twice = cloud(13, seed=5)
    twice = twice.replace(positions=np.concatenate([twice.positions[:8], twice.positions[:5]]))
    few = cloud(3, seed=2)
    graph = graph_of(run.network, cloud(), twice, few)

    def total(x, count):
        nodes = {**graph.nodes, "positions": x}
        out = run.network.apply(run.params, graph._replace(nodes=nodes)).array
        return jnp.sum(out * (jnp.arange(len(out)) < count)[:, None])

    gradient = jax.jit(jax.grad(total))
    whole = np.asarray(gradient(graph.nodes["positions"], 36))
    assert np.isfinite(whole).all() and whole[:20].any()
    first = np.asarray(gradient(graph.nodes["positions"], 20))
    assert not first[20:].any()


@every_variant
@pytest.mark.slow
def test_programs_of_any_size_lower_for_every_platform(case):
    run = ready(case, "float32")
    graph = graph_of(run.network, cloud(), dtype="float32")
    program = lambda params, graph: run.network.apply(params, Graph(**graph)).array
    n, e, g = jax.export.symbolic_shape("n, e, g", constraints=["n >= 1", "e >= 1", "g >= 2"])
    sizes = {BUDGET.n_node: n, BUDGET.n_edge: e, BUDGET.n_graph: g}
    symbolic = lambda x: jax.ShapeDtypeStruct((sizes[x.shape[0]], *x.shape[1:]), x.dtype)
    exported = jax.export.export(jax.jit(program), platforms=("cpu", "cuda", "tpu"))(
        run.params, jax.tree.map(symbolic, graph._asdict())
    )
    again = jax.export.deserialize(exported.serialize())
    found = np.asarray(again.call(run.params, graph._asdict()))
    close(found[:20], run(cloud(), dtype="float32")[:20], 1e-4)


@every_variant
def test_tables_round_trip(case):
    network = make(case)
    assert from_table(to_table(network)) == network
