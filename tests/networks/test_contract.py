"""What every registered network promises, with the tolerances of float64 and float32.

A new network is tested from the day it is registered, with the variants in `cases.CASES`.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import Irreps

from geojax.graphs import Budget, Graph, Structure, pad, sample
from geojax.networks import NETWORKS, fit_to_data, from_table, to_table
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.so3 import random_rotation, wigner_d
from tests.networks.cases import (
    APPROXIMATE,
    CASES,
    CHIRAL_CRYSTALS,
    CLOUDS,
    CUTOFF,
    DEAR,
    INNER,
    NOT_ZERO_ALONE,
    SPREAD,
    TENSORS,
)

BUDGET = Budget(16, 128, 4)
EQUAL = {"float64": (1e-12, 1e-11), "float32": (1e-5, 5e-5)}  # energy, forces; relative to largest

NAMES = [name for name in NETWORKS if name in CASES or name not in CLOUDS]
VARIANTS = [(name, variant) for name in NAMES for variant in CASES.get(name, {"": {}})]


def cases(names, slow):
    marked = [pytest.param(case, marks=[pytest.mark.slow] * slow(case)) for case in names]
    return pytest.mark.parametrize("case", marked, ids=["-".join(filter(None, c)) for c in names])


# `make test` tries each network as it is by default, and `make test-all` every variant.
every_variant = cases(VARIANTS, lambda case: bool(case[1]))
# Without those that take longest to trace, where the variant before says nearly as much.
most_networks = cases([(name, "") for name in NAMES], lambda case: case[0] in DEAR)
every_network = cases([(name, "") for name in NAMES], lambda case: False)


def molecule(n=7, seed=0):
    """Atoms about 1.2 Å apart, of three elements."""
    rng = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)
    species = np.array([1, 6, 8, 1, 6, 1, 1, 8])
    return Structure(1.2 * corners[:n] + 0.1 * rng.normal(size=(n, 3)), species[:n])


def graph_of(*structures, dtype="float64", budget=BUDGET, **options) -> Graph:
    samples = [sample(s, CUTOFF, **options) for s in structures]
    return jax.tree.map(jnp.asarray, pad(samples, budget, np.dtype(dtype)).graph)


def moved(graph: Graph, positions) -> Graph:
    return graph._replace(nodes={**graph.nodes, "positions": positions})


def make(case, **fields):
    name, variant = case
    table = {"name": name, "cutoff": CUTOFF, **CASES.get(name, {}).get(variant, {}), **fields}
    return fit_to_data(from_table(table), [sample(molecule(8), CUTOFF)])


def parameters(network, graph, dtype="float64"):
    """Drawn by numpy: to compile every initialiser would take longer than a test."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    normal, spread = np.random.default_rng(1).normal, SPREAD.get(to_table(network)["name"], 1.5)
    return jax.tree.map(lambda x: jnp.asarray(normal(scale=spread, size=x.shape), dtype), shapes)


class Run(NamedTuple):
    network: object
    params: object
    predict: object  # (params, graph) -> Properties
    apply: object  # (params, graph) -> the outputs of nodes

    def __call__(self, graph):
        """Energies and forces of nodes: sums over nodes may cancel, and then have fewer digits."""
        found = self.predict(self.params, graph)
        return np.asarray(found.energies), np.asarray(found.forces)


def ready(case, dtype="float64") -> Run:
    return compiled(case, dtype)


@cache  # by position: keywords and defaults would be other keys
def compiled(case, dtype) -> Run:
    network = make(case)
    params = parameters(network, graph_of(molecule(), dtype=dtype), dtype)
    predict = jax.jit(predict_fn(network, [Output()], forces=True))
    return Run(network, params, predict, jax.jit(network.apply))


def close(found, expected, tolerance):
    """Equal, relative to the largest entry."""
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


@pytest.fixture(params=["float64", pytest.param("float32", marks=pytest.mark.slow)])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def keeps_mirrors(network):
    """Whether it declares that it does not tell mirror images apart."""
    return getattr(network, "group", "E(3)").split()[-1] == "E(3)"


def kept_turn(network):
    """A rotation that it respects, with a reflection where it keeps these: any, or of a few."""
    mirror = keeps_mirrors(network)
    if to_table(network)["name"] not in APPROXIMATE:
        return np.asarray(random_rotation(jax.random.key(3), improper=mirror, dtype=np.float64))
    assert network.group.startswith(("approximately ", "T(3)"))
    turns = network.symmetries
    return turns[np.linalg.det(turns) * (-1 if mirror else 1) > 0][-1]


@every_variant
def test_energies_do_not_turn_and_forces_do(case, dtype):
    """Rotations, with inversion where the network keeps E(3)."""
    run = ready(case, dtype)
    structure = molecule()
    with jax.enable_x64(True):
        turn = kept_turn(run.network)
    other = structure.replace(positions=structure.positions @ turn.T)
    energy, forces = run(graph_of(structure, dtype=dtype))
    energy_after, forces_after = run(graph_of(other, dtype=dtype))
    close(energy_after, energy, EQUAL[dtype][0])
    close(forces_after, forces @ turn.T, EQUAL[dtype][1])


@pytest.mark.parametrize("name", APPROXIMATE)
def test_other_rotations_change_little(name, x64):
    """And they change something, else the network need not declare it."""
    run, structure = ready((name, "")), molecule()
    run = run._replace(params=jax.tree.map(lambda x: x / 5, run.params))
    _, forces = run(graph_of(structure))
    shares = []
    for turn in np.asarray(random_rotation(jax.random.key(1), (4,), dtype=jnp.float64)):
        _, after = run(graph_of(structure.replace(positions=structure.positions @ turn.T)))
        shares.append(np.abs(after - forces @ turn.T).max() / np.abs(forces).max())
    assert 1e-6 < max(shares) < APPROXIMATE[name], shares


@every_variant
def test_handedness_is_seen_only_where_it_is_declared(case, x64):
    run = ready(case)
    energy, _ = run(graph_of(molecule()))
    mirrored, _ = run(graph_of(molecule().replace(positions=-molecule().positions)))
    if keeps_mirrors(run.network) or case[0] in CHIRAL_CRYSTALS:
        close(mirrored, energy, EQUAL["float64"][0])
    else:
        assert np.abs(mirrored - energy).max() > 1e-6 * np.abs(energy).max()


@most_networks
def test_outputs_turn_as_their_irreps_say(case, x64):
    if case[0] not in TENSORS:
        pytest.skip("puts out scalars only")
    network = make(case, **TENSORS[case[0]])
    graph = graph_of(molecule())
    params = parameters(network, graph)
    turn = jnp.asarray(kept_turn(network))
    apply = jax.jit(network.apply)
    after = apply(params, moved(graph, graph.nodes["positions"] @ turn.T)).array[:7]
    before, columns = apply(params, graph), []
    assert before.irreps == Irreps(network.irreps_out)
    for (multiplicity, irrep), part in zip(before.irreps, before.chunks, strict=True):
        pseudo = irrep.p != (-1) ** irrep.l
        matrix = wigner_d(turn, irrep.l, pseudo=pseudo)[irrep.l]
        assert part is not None and part.shape[1] == multiplicity
        assert np.abs(part[:7]).max() > 1e-4
        columns.append(jnp.einsum("ab,ncb->nca", matrix, part[:7]).reshape(7, -1))
    expected = np.concatenate(columns, -1)
    close(after, expected, 1e-11)


@every_network
def test_translation_changes_nothing(case, x64):
    run = ready(case)
    graph = graph_of(molecule())
    shifted = moved(graph, graph.nodes["positions"] + jnp.array([[1e4, -2e4, 3e3]]))
    for after, before in zip(run(shifted), run(graph), strict=True):
        close(after[:7], before[:7], 1e-9)


@every_variant
def test_the_order_of_nodes_and_edges_means_nothing(case, dtype):
    run, structure = ready(case, dtype), molecule()
    energy, forces = run(graph_of(structure, dtype=dtype))
    order = np.random.default_rng(0).permutation(len(structure))
    other = Structure(structure.positions[order], structure.species[order])
    energy_after, forces_after = run(graph_of(other, dtype=dtype))
    close(energy_after[:7], energy[order], EQUAL[dtype][0])
    close(forces_after[:7], forces[order], EQUAL[dtype][1])

    graph = graph_of(structure, dtype=dtype)
    shuffled = np.random.default_rng(0).permutation(BUDGET.n_edge)
    shuffled = shuffled[np.argsort(np.asarray(graph.receivers)[shuffled], kind="stable")]
    edges = jax.tree.map(lambda a: a[shuffled], (graph.edges, graph.senders, graph.receivers))
    graph = graph._replace(edges=edges[0], senders=edges[1], receivers=edges[2])
    for after, before, tolerance in zip(run(graph), (energy, forces), EQUAL[dtype], strict=True):
        close(after, before, tolerance)


@pytest.mark.slow
@every_variant
def test_padding_changes_nothing(case, dtype):
    run = ready(case, dtype)
    tolerance = {"float64": 1e-13, "float32": 2e-5}[dtype]
    energy, forces = run(graph_of(molecule(), dtype=dtype))
    roomy = graph_of(molecule(), dtype=dtype, budget=Budget(29, 300, 3))
    more_energy, more_forces = run(roomy)
    close(more_energy[:7], energy[:7], tolerance)
    close(more_forces[:7], forces[:7], tolerance)
    assert not energy[7:].any() and not more_energy[7:].any()
    assert not forces[7:].any() and not more_forces[7:].any()
    assert np.isfinite(run.apply(run.params, roomy).array).all()


@pytest.mark.slow
@every_network
def test_many_padding_edges_do_not_overflow(case):
    """They all join one node to itself; what they add up to there must stay a number."""
    run = ready(case, "float32")
    found = run(graph_of(molecule(), dtype="float32", budget=Budget(9, 20_000, 2)))
    expected = run(graph_of(molecule(), dtype="float32"))
    for value, exact in zip(found, expected, strict=True):
        close(value[:7], exact[:7], 2e-5)
        assert np.isfinite(value).all()


@every_variant
def test_a_batch_is_its_graphs_one_by_one(case, dtype):
    run = ready(case, dtype)
    first, second = molecule(7, seed=1), molecule(5, seed=2)
    energy, forces = run(graph_of(first, second, dtype=dtype))
    for structure, rows in [(first, slice(7)), (second, slice(7, 12))]:
        alone, alone_forces = run(graph_of(structure, dtype=dtype))
        close(energy[rows], alone[: len(structure)], EQUAL[dtype][0])
        close(forces[rows], alone_forces[: len(structure)], EQUAL[dtype][1])


@pytest.mark.slow
@every_network
def test_graphs_of_a_batch_do_not_touch_each_other(case, x64):
    run = ready(case)
    graph = graph_of(molecule(7, seed=1), molecule(5, seed=2))
    energy = lambda x: predict_fn(run.network, [Output()])(run.params, moved(graph, x)).energy[0]
    gradient = np.asarray(jax.jit(jax.grad(energy))(graph.nodes["positions"]))
    assert gradient[:7].any() and not gradient[7:].any()


@pytest.mark.slow
@every_variant
def test_nothing_jumps_at_the_cutoff(case, x64):
    """An atom leaves the neighbourhood of a bonded pair: energy, force and its derivative.

    A jump stays as it is while one comes closer to the cutoff; all else falls at least linearly.
    """
    run = ready(case)
    graph = graph_of(Structure(np.array([[0, 0, 0], [0, 1.2, 0], [1, 0, 0]]), np.array([6, 8, 1])))

    def energy(d):
        x = graph.nodes["positions"].at[2].set(graph.nodes["positions"][0] + jnp.eye(3)[0] * d)
        return run.network.apply(run.params, moved(graph, x)).array[:3].sum()

    slope = jax.grad(energy)
    figures = jax.jit(lambda d: jnp.stack([energy(d), slope(d), jax.grad(slope)(d)]))
    outside, control = figures(CUTOFF + 1e-7), np.abs(figures(CUTOFF / 2))
    far, near = (np.abs(figures(CUTOFF - d) - outside) for d in (1e-7, 1e-8))
    assert (control[1:] > 0).all()
    assert ((near <= 1e-6 * control) | (near <= 0.15 * far)).all(), (near, far, control)
    assert not getattr(run.network, "local", True) or (outside[1] == 0 and outside[2] == 0)


LINE = np.array([[0.0, 0, 0], [1.1, 0, 0], [2.2, 0, 0], [3.3, 0, 0]])
SHAPES = {
    "collinear": LINE,
    "planar": np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]),
    "single neighbour": LINE[:2] @ np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, 1]]),
    "alone": LINE[:1],
    "at the cutoff": LINE[:2] * CUTOFF / 1.1,
}


@pytest.mark.slow
@every_variant
def test_derivatives_are_finite_to_third_order(case, x64):
    """Also of padding edges, whose length is zero: they are in every one of these graphs."""
    run = ready(case)

    def third(graph, direction):
        def gradient(x):
            return jax.grad(lambda x: run.network.apply(run.params, moved(graph, x)).array.sum())(x)

        along = lambda f: lambda x: jax.jvp(f, (x,), (direction,))[1]
        x = graph.nodes["positions"]
        return gradient(x), along(gradient)(x), along(along(gradient))(x)

    direction = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)))
    third = jax.jit(third)
    for positions in SHAPES.values():
        structure = Structure(positions, np.full(len(positions), 6))
        for derivative in third(graph_of(structure), direction):
            assert np.isfinite(derivative).all()


@every_network
@pytest.mark.slow
def test_coincident_points_have_finite_forces(case, x64):
    points = {"backbone": {**INNER[case[0]], "elements": [0]}} if case[0] in INNER else {}
    network = fit_to_data(from_table({"name": case[0], "cutoff": CUTOFF, **points}), [])
    if "elements" in to_table(network):
        network = network.clone(elements=(0,))
    if "average_neighbors" in to_table(network):
        network = network.clone(average_neighbors=2.0)
    graph = graph_of(Structure(np.zeros((3, 3)), np.zeros(3, int)))
    params = parameters(network, graph)
    forces = predict_fn(network, [Output()], forces=True)(params, graph).forces
    assert np.isfinite(forces).all()


@pytest.mark.slow
@every_variant
def test_both_layouts_of_edges_give_the_same(case, x64):
    run = ready(case)
    lists = graph_of(molecule(), molecule(5, seed=2))
    table = graph_of(molecule(), molecule(5, seed=2), slots=8)
    for found, expected in zip(run(table), run(lists), strict=True):
        close(found, expected, 1e-12)


@every_network
@pytest.mark.slow
def test_programs_of_any_size_lower_for_every_platform(case):
    network = make(case)
    graph = graph_of(molecule(), dtype="float32")
    params = parameters(network, graph, "float32")
    run = jax.jit(predict_fn(network, [Output()], forces=True))
    program = jax.jit(lambda params, graph: run(params, Graph(**graph))[:2])
    n, e, g = jax.export.symbolic_shape("n, e, g", constraints=["n >= 1", "e >= 1", "g >= 2"])
    sizes = {16: n, 128: e, 4: g}
    symbolic = lambda x: jax.ShapeDtypeStruct((sizes[x.shape[0]], *x.shape[1:]), x.dtype)
    exported = jax.export.export(program, platforms=("cpu", "cuda", "tpu"))(
        params, jax.tree.map(symbolic, graph._asdict())
    )
    again = jax.export.deserialize(exported.serialize())
    for budget in (BUDGET, Budget(9, 60, 2)):
        graph = graph_of(molecule(), dtype="float32", budget=budget)
        outputs = again.call(params, graph._asdict()), run(params, graph)[:2]
        for found, expected in zip(*outputs, strict=True):
            close(found, expected, 1e-5)


@most_networks
def test_the_dtype_is_that_of_the_positions(case, x64):
    network = make(case)
    for dtype, other in [("float32", "float64"), ("float64", "float32")]:
        graph = graph_of(molecule(), dtype=dtype)
        params = parameters(network, graph, other)
        found = jax.eval_shape(predict_fn(network, [Output()], forces=True), params, graph)
        assert found.energy.dtype == found.forces.dtype == dtype


@every_variant
def test_tables_round_trip(case):
    network = make(case)
    assert from_table(to_table(network)) == network


@every_network
def test_an_unknown_field_gets_a_suggestion(case):
    with pytest.raises(KeyError, match="did you mean 'cutoff'"):
        from_table({"name": case[0], "cutof": 4.0})


@every_variant
def test_an_isolated_atom_puts_out_exactly_nothing(case, x64):
    if case[0] in NOT_ZERO_ALONE:
        pytest.skip("its nodes have an energy of their own")
    run = ready(case)
    pair = Structure(np.array([[0.0, 0, 0], [CUTOFF * 1.5, 0, 0]]), np.array([1, 8]))
    assert not np.asarray(run.apply(run.params, graph_of(pair)).array).any()
