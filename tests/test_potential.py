"""Derivatives against finite differences and a closed form; outputs mean what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import IrrepsArray

from geojax.arrays import safe_norm
from geojax.graphs import Budget, Structure, edge_vectors, pad, sample, to_receivers
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.so3 import from_6d, from_9d

RNG = np.random.default_rng(0)
CELL = np.array([[4.0, 0.3, 0.0], [0.2, 4.2, 0.5], [-0.4, 0.1, 3.9]])


class Springs:
    """E_i = k/4 sum_j (r_ij - 1)² u(r_ij): a network whose derivatives are known."""

    cutoff, irreps_out = 3.0, "0e"

    def apply(self, params, graph):
        r = safe_norm(edge_vectors(graph))
        x = jnp.minimum(r / self.cutoff, 1)
        energies = to_receivers(params * (r - 1) ** 2 * (1 - x**3 * (10 - x * (15 - 6 * x))), graph)
        return IrrepsArray("0e", energies[:, None] / 4)


@pytest.fixture
def crystal(x64):
    structure = Structure(RNG.uniform(0, 4, (5, 3)), np.full(5, 14), CELL, (True,) * 3)
    return structure


def graph_of(structure, dtype=np.float64):
    budget = Budget(len(structure) + 3, 256, 2)
    return jax.tree.map(jnp.asarray, pad([sample(structure, 3.0)], budget, dtype).graph)


def predict(structure, **options):
    run = jax.jit(predict_fn(Springs(), [Output()], **options))
    return run(jnp.float64(2.0), graph_of(structure))


def test_forces_are_minus_the_gradient(crystal):
    forces = predict(crystal, forces=True).forces
    for atom, axis in [(0, 0), (2, 1), (4, 2)]:
        step = np.zeros((5, 3))
        step[atom, axis] = 1e-5
        up, down = (
            predict(crystal.replace(positions=crystal.positions + s)).energy[0]
            for s in (step, -step)
        )
        np.testing.assert_allclose(forces[atom, axis], -(up - down) / 2e-5, rtol=1e-7, atol=1e-9)
    assert not np.asarray(forces[5:]).any()


def test_stress_is_the_strain_derivative_per_volume(crystal):
    stress = predict(crystal, stress=True).stress[0]
    np.testing.assert_allclose(stress, stress.T, atol=1e-14)
    for i, j in [(0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2)]:
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += sign * 5e-6
            strain[j, i] += sign * 5e-6
            deformation = np.eye(3) + strain
            moved = crystal.replace(
                positions=crystal.positions @ deformation, cell=CELL @ deformation
            )
            energies.append(predict(moved).energy[0])
        slope = (energies[0] - energies[1]) / 2e-5 / crystal.volume
        np.testing.assert_allclose(stress[i, j], slope, rtol=1e-6, atol=1e-9)


def test_an_isolated_atom_has_no_interaction_energy_whatever_the_shift():
    output = Output(shift=-5.0)
    run = predict_fn(Springs(), [output], forces=True)
    alone = Structure(np.zeros((1, 3)), np.array([14]))
    pair = Structure(np.array([[0.0, 0, 0], [1.1, 0, 0]]), np.array([14, 14]))
    far = Structure(np.array([[0.0, 0, 0], [3.0001, 0, 0]]), np.array([14, 14]))
    energies = [
        run(jnp.float32(2.0), graph_of(s, np.float32)).energy[0] for s in (alone, far, pair)
    ]
    assert energies[0] == 0 and energies[1] == 0
    np.testing.assert_allclose(energies[2], -10 * (1 - np.exp(-4 * 0.6)), atol=1.5)


class Columns:
    """Every node's output is its row of a fixed array."""

    cutoff = 3.0

    def __init__(self, irreps, values):
        self.irreps_out, self.values = irreps, values

    def apply(self, params, graph):
        return IrrepsArray(self.irreps_out, self.values * params)


def test_dipoles_and_their_norms():
    structure = Structure(np.array([[0.0, 0, 0], [0, 0, 2.0]]), np.array([1, 1]))
    graph = graph_of(structure, np.float32)
    values = jnp.zeros((len(graph.nodes["species"]), 8), jnp.float32)
    values = (
        values.at[0, :4].set(jnp.array([3.0, 1, 0, 0])).at[0, 4:].set(jnp.array([3.0, 0, 4, 0]))
    )
    outputs = [
        Output("targets.dipole", "0e+1o", pool="dipole"),
        Output("targets.mu", "0e+1o", pool="dipole", norm=True, scale=2.0),
    ]
    found = predict_fn(Columns("0e+1o+0e+1o", values), outputs)(jnp.float32(1), graph)
    np.testing.assert_allclose(found.targets["dipole"][0], [1, 0, -3], atol=1e-6)
    np.testing.assert_allclose(found.targets["mu"], [10, 0], atol=1e-5)


def test_outputs_take_slices_in_order():
    structure = Structure(RNG.normal(size=(2, 3)), np.array([1, 1]))
    values = jnp.arange(5 * 8, dtype=jnp.float32).reshape(5, 8)
    outputs = [
        Output("targets.q", "0e", scale=2.0, shift=1.0),
        Output("node_targets.dipole", "1o"),
        Output("targets.kinds", "4x0e", pool="mean"),
    ]
    run = predict_fn(Columns("0e+1o+4x0e", values), outputs)
    found = run(jnp.float32(1), graph_of(structure, np.float32))
    np.testing.assert_allclose(found.targets["q"], [2 * 8 + 1, 0])
    np.testing.assert_allclose(found.node_targets["dipole"][:2], values[:2, 1:4])
    assert not np.asarray(found.node_targets["dipole"][2:]).any()
    np.testing.assert_allclose(found.targets["kinds"][0], values[:2, 4:].mean(0))


@pytest.mark.slow
def test_numbers_become_rotations(x64):
    values = jnp.asarray(RNG.normal(size=(5, 15)))
    structure = Structure(RNG.normal(size=(2, 3)), np.array([1, 1]))
    outputs = [
        Output("targets.pose", "2x1o", pool="mean", rotation="6d"),
        Output("node_targets.turn", "9x0e", rotation="svd", scale=2.0),
    ]
    found = predict_fn(Columns("2x1o+9x0e", values), outputs)(jnp.float64(1), graph_of(structure))
    pose, turns = found.targets["pose"][0], found.node_targets["turn"]
    np.testing.assert_allclose(pose, from_6d(values[:2, :6].mean(0)), atol=1e-12)
    np.testing.assert_allclose(turns[:2], from_9d(values[:2, 6:]), atol=1e-12)
    np.testing.assert_allclose(jnp.linalg.det(turns), 1, atol=1e-12)
    assert (outputs[0].result, outputs[1].result) == ("3x1o", "9x0e")


class Direct(Springs):
    """Springs, and a Hessian that is the number of each node's slot."""

    def with_hessian(self):
        raise NotImplementedError  # apply calls it by name

    def apply(self, params, graph, slots=None, *, method=None):
        out = super().apply(params, graph)
        if method is None:
            return out
        slots = len(graph.species) if slots is None else slots
        rows = jnp.arange(slots, dtype=jnp.float64)[None, :, None, None]
        n_node = graph.nodes["positions"].shape[0]
        return out, jnp.broadcast_to(rows, (n_node, slots, 3, 3)) * params


def test_direct_hessians_stand_beside_the_energy_with_scale_and_slots(crystal):
    outputs = [Output(), Output("hessian", scale=3.0, slots=5)]
    graph = graph_of(crystal)
    run = predict_fn(Direct(), outputs, forces=True, stress=True)
    found = jax.jit(run)(jnp.float64(2.0), graph)
    np.testing.assert_allclose(found.hessian[0, :, 0, 0], 6 * np.arange(5))
    plain = predict(crystal, forces=True, stress=True)
    for name in ("energy", "forces", "stress"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), atol=1e-13)
    assert plain.hessian is None
    alone = jax.jit(predict_fn(Direct(), outputs))(jnp.float64(2.0), graph)
    np.testing.assert_array_equal(alone.hessian, found.hessian)


def test_an_output_that_is_a_hessian_has_its_unit_and_no_irreps():
    output = Output("hessian")
    assert (output.irreps, output.unit, output.slots) == ("", "eV/Å²", None)
    assert Output(**vars(output)) == output


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Output("mu"), "targets.<name>"),
        (lambda: Output("energy", "1o"), "one scalar"),
        (lambda: Output("hessian", "2e"), "no slice of irreps_out"),
        (lambda: Output("energy", slots=3), "only a hessian has slots"),
        (lambda: predict_fn(Springs(), [Output(), Output("hessian")]), "such as hip; got Springs"),
        (lambda: Output("targets.mu", "2e", pool="dipole"), "'0e\\+1o'; got '2e'"),
        (lambda: Output("targets.mu", "0e", norm=True), "a norm is that of one pooled vector"),
        (lambda: Output("targets.mu", "1o", norm=True, shift=1.0), "a norm is not shifted"),
        (lambda: Output("targets.mu", pool="median"), "sum, mean, max"),
        (lambda: Output("targets.mu", relative_to="positions"), "node_targets"),
        (
            lambda: Output("targets.r", "5x0e", rotation="6d"),
            "2x1o or 6x0e.*got 'targets.r' with '5",
        ),
        (lambda: Output("targets.r", "6x0e", rotation="6d", shift=1.0), "no norm, shift"),
        (lambda: Output("targets.gap", pool="mean", atomrefs={"H": 1.0}), "summed over atoms"),
        (lambda: Output(atomrefs={"H": 1.0}), "E0s of an energy are the model's"),
        (lambda: predict_fn(Springs(), [Output("targets.mu", "1o")]), "irreps_out"),
        (lambda: predict_fn(Springs(), [Output("targets.mu")], forces=True), "derivatives"),
    ],
)
def test_outputs_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_zbl_keeps_atoms_apart_and_leaves_the_rest_alone(x64):
    plain, safe = (
        jax.jit(predict_fn(Springs(), [Output(zbl=z)], forces=True)) for z in (False, True)
    )
    near, far = (
        graph_of(Structure(np.array([[0, 0, 0], [0, 0, r]]), np.full(2, 14))) for r in (0.2, 2.8)
    )
    assert safe(2.0, near).energy[0] > plain(2.0, near).energy[0] + 500
    assert safe(2.0, near).forces[0, 2] < -1000
    jax.tree.map(np.testing.assert_array_equal, safe(2.0, far), plain(2.0, far))


def test_only_an_energy_has_zbl():
    with pytest.raises(ValueError, match="only an energy has zbl repulsion added; got 'targets.a'"):
        Output("targets.a", zbl=True)
