"""Every fault is put into a good potential, and the check that is there for it sees it.

Each faulty model runs through all checks: those that are named must fail, and no others than those
that see the fault's consequences may.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from e3nn_jax import IrrepsArray

from geojax import potential
from geojax.arrays import safe_norm, unit
from geojax.checks import certify, programs
from geojax.checks import context as context_module
from geojax.graphs import (
    batching,
    from_receivers,
    from_senders,
    graph_of_nodes,
    node_mask,
    to_receivers,
)
from geojax.outputs import Output
from tests.checks.potentials import Good, model

# Networks


class ReadsComponents(Good):
    """A layer that takes the x component of a vector for a scalar."""

    def energies(self, params, graph):
        r = self.vectors(graph)
        u = self.envelope(jnp.minimum(safe_norm(r) / self.cutoff, 1))
        return super().energies(params, graph) + 1e-6 * to_receivers(u * r[:, 0] ** 2, graph)


class TellsMirrorImages(Good):
    """A triple product of three sums over neighbours."""

    def energies(self, params, graph):
        r = self.vectors(graph)
        d = safe_norm(r)
        u = self.envelope(jnp.minimum(d / self.cutoff, 1))[:, None]
        z = from_senders(graph.nodes["species"].astype(r.dtype), graph)[:, None]
        a, b, c = (to_receivers(r * u * w, graph) for w in (1, d[:, None] ** 2, z))
        triple = jnp.sum(a * jnp.cross(b, c), -1)
        return super().energies(params, graph) + 1e-6 * triple


class HardCutoff(Good):
    def envelope(self, x):
        return jnp.where(x < 1, 1.0, 0.0).astype(x.dtype)


class LinearCutoff(Good):
    """Continuous energies, but forces that jump."""

    def envelope(self, x):
        return 1 - x


class QuadraticCutoff(Good):
    """Continuous forces, but a derivative of forces that jumps."""

    def envelope(self, x):
        return (1 - x) ** 2


class LongArms(Good):
    """Messages from beyond the cutoff, if there is an edge."""

    def energies(self, params, graph):
        r = self.vectors(graph)
        return super().energies(params, graph) + 1e-9 * to_receivers(jnp.exp(-safe_norm(r)), graph)


class CountsNeighbors(Good):
    """A mean over neighbours: their number jumps when one crosses the cutoff."""

    def energies(self, params, graph):
        edges = to_receivers(jnp.ones_like(graph.senders, graph.nodes["positions"].dtype), graph)
        return super().energies(params, graph) / jnp.maximum(edges, 1)


class ForgetsShifts(Good):
    """Vectors to the atoms as listed, not to their periodic images."""

    def vectors(self, graph):
        x = graph.nodes["positions"]
        return from_receivers(x, graph) - from_senders(x, graph)


class MeanOfTheBatch(Good):
    """A normalisation over all real nodes of the batch."""

    def energies(self, params, graph):
        energies = super().energies(params, graph)
        real = node_mask(graph)
        mean = jnp.where(real, energies, 0).sum() / real.sum()
        return energies + 1e-9 * mean


class SeesPadding(Good):
    """A mean over all rows, the size of the padding included."""

    def energies(self, params, graph):
        return super().energies(params, graph) * (1 + 1e-6 / len(graph.nodes["species"]))


class NumbersItsAtoms(Good):
    """The index of a node in its structure as a feature."""

    def energies(self, params, graph):
        energies = super().energies(params, graph)
        first = jnp.cumsum(graph.n_node) - graph.n_node
        index = jnp.arange(len(energies)) - first[graph_of_nodes(graph)]
        return energies * (1 + 1e-6 * index.astype(energies.dtype))


class NumbersItsEdges(Good):
    """Each atom's first neighbour counts a little more."""

    def energies(self, params, graph):
        r = self.vectors(graph)
        u = self.envelope(jnp.minimum(safe_norm(r) / self.cutoff, 1))
        before = jnp.concatenate([graph.receivers[:1] - 1, graph.receivers[:-1]])
        first = (graph.receivers != before).astype(u.dtype)
        return super().energies(params, graph) + 1e-6 * to_receivers(u * first, graph)


class CountsEmptySlots(Good):
    """A sum along edges without `graphs.messages`."""

    def energies(self, params, graph):
        rows = jnp.ones_like(graph.senders, graph.nodes["positions"].dtype)
        count = jax.ops.segment_sum(rows, graph.receivers, len(graph.nodes["species"]))
        return super().energies(params, graph) * (1 + 1e-6 * count)


class DetachedPath(Good):
    """A part of the energy whose gradient is stopped."""

    def energies(self, params, graph):
        energies = super().energies(params, graph)
        return energies + 1e-4 * jax.lax.stop_gradient(energies)


class BiasedReadout(Good):
    def energies(self, params, graph):
        return super().energies(params, graph) + 1e-3


class MeanEnergy(Good):
    """Mean pooling: the energy per atom in place of the energy."""

    def energies(self, params, graph):
        energies = super().energies(params, graph)
        return energies / jnp.maximum(graph.n_node, 1)[graph_of_nodes(graph)]


class ReadsPositions(Good):
    """Distances from the origin, which is where the structure was centred."""

    def energies(self, params, graph):
        far = jnp.sum(graph.nodes["positions"] ** 2, -1)
        return super().energies(params, graph) * (1 + 1e-6 * far)


class Angles(Good):
    """An angle by arccos: its derivative is not finite where atoms stand in line."""

    def energies(self, params, graph):
        r = self.vectors(graph)
        u = self.envelope(jnp.minimum(safe_norm(r) / self.cutoff, 1))
        charge = graph.nodes["species"].astype(r.dtype)
        one = unit(to_receivers(u[:, None] * unit(r), graph))
        other = unit(to_receivers((u * from_senders(charge, graph))[:, None] * unit(r), graph))
        cosine = jnp.sum(one * other, -1)
        # Clipped for the value's sake, as one often sees.
        angle = jnp.arccos(jnp.clip(cosine, -1, 1))
        return super().energies(params, graph) + 1e-3 * jnp.where(cosine == 0, 0, angle)


class Random(Good):
    """Another result at every call."""

    def energies(self, params, graph):
        kind = jax.ShapeDtypeStruct((), graph.nodes["positions"].dtype)
        noise = jax.pure_callback(lambda: np.random.default_rng().normal(), kind)
        return super().energies(params, graph) * (1 + 1e-7 * jax.lax.stop_gradient(noise))


# Each fault, the checks that are there for it, and those that see its consequences.
PACKING = {"rotation", "inversion", "equivariance", "images", "supercell"}
NETWORKS = [
    (ReadsComponents, {"rotation", "equivariance", "balance"}, {"inversion"}),
    (TellsMirrorImages, {"inversion", "equivariance"}, set()),
    (HardCutoff, {"cutoff"}, set()),
    (LinearCutoff, {"cutoff"}, set()),
    (QuadraticCutoff, {"cutoff"}, set()),
    (CountsNeighbors, {"cutoff", "skin"}, set()),
    (LongArms, {"beyond the cutoff", "skin"}, set()),
    (ForgetsShifts, {"images", "supercell"}, {"offset", "skin"}),
    # Checks that predict more structures at once than the reference pack other batches.
    (MeanOfTheBatch, {"batch", "cross gradient"}, PACKING),
    (SeesPadding, {"padding"}, {"layouts"}),
    (NumbersItsAtoms, {"permutation"}, {"supercell", "extensivity"}),
    (NumbersItsEdges, {"edge order"}, {"permutation", "supercell", "skin"}),
    (CountsEmptySlots, {"layouts"}, {"skin"}),
    (DetachedPath, {"forces", "stress"}, set()),
    (BiasedReadout, {"isolated atom"}, set()),
    (MeanEnergy, {"extensivity"}, {"supercell"}),
    # Positions are those after wrapping and centring, which have no part in the gradient.
    (
        ReadsPositions,
        {"translation", "offset", "balance"},
        {"images", "supercell", "forces", "extensivity"},
    ),
    (Angles, {"finite"}, {"cutoff"}),
]


def assert_caught(certificate, names, also=()):
    """The named checks failed, no others than those that may, and each says what that means."""
    failed = set(certificate.failed)
    assert names <= failed <= names | set(also)
    for measurement in certificate.measurements:
        if not measurement.passed:
            meaning, _, figures = measurement.detail.partition(" (")
            assert len(meaning) > 40 and figures


# Some of them in `make test`, all in `make test-all`.
OFTEN = {ReadsComponents, HardCutoff, ForgetsShifts, SeesPadding, BiasedReadout}


@pytest.mark.parametrize(
    ("fault", "names", "also"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case[0] not in OFTEN)) for case in NETWORKS],
    ids=[fault.__name__ for fault, *_ in NETWORKS],
)
def test_a_fault_in_the_network_is_caught(fault, names, also):
    assert_caught(certify(model(fault(), dtype="float64")), names, also)


def test_chance_is_caught():
    """Every check that compares two calls sees it; this one is there for it."""
    assert_caught(certify(model(Random(), dtype="float64"), checks=["repeat"]), {"repeat"})


# Potentials and graphs


def changed(monkeypatch, change):
    """Every prediction goes through `change`, after it was computed rightly."""
    right = programs.predict_fn

    def wrong(*args, **options):
        predict = right(*args, **options)
        return lambda params, graph: change(predict(params, graph))

    monkeypatch.setattr(programs, "predict_fn", wrong)


def test_a_wrong_sign_of_the_stress_is_caught(monkeypatch):
    flip = lambda found: found if found.stress is None else found._replace(stress=-found.stress)
    changed(monkeypatch, flip)
    assert_caught(certify(model(dtype="float64")), {"stress"})


def test_a_strain_that_leaves_the_cell_alone_is_caught(monkeypatch):
    """The stress then depends on the images that are given, too."""
    right = potential.strained
    wrong = lambda graph, strain: right(graph, strain)._replace(globals=graph.globals)
    monkeypatch.setattr(potential, "strained", wrong)
    assert_caught(certify(model(dtype="float64")), {"stress"}, {"images", "offset"})


def test_forces_that_are_no_gradient_are_caught(monkeypatch):
    """As of a network with a head for forces: nearly right, not conservative."""
    scale = lambda found: (
        found if found.forces is None else found._replace(forces=1.001 * found.forces)
    )
    changed(monkeypatch, scale)
    assert_caught(certify(model(dtype="float64")), {"forces"}, {"padding"})


def test_rows_of_padding_that_are_not_zero_are_caught(monkeypatch):
    every = lambda graph: jnp.ones(len(graph.nodes["species"]), bool)
    monkeypatch.setattr(potential, "node_mask", every)
    faulty = model(BiasedReadout(), dtype="float64")
    assert_caught(certify(faulty), {"padded rows", "isolated atom"})


def test_digits_lost_far_from_the_origin_are_caught(monkeypatch):
    """Positions that are cast to float32 where they stand."""
    monkeypatch.setattr(batching, "_near_origin", lambda s, edges: (s.positions.copy(), edges))
    certificate = certify(model(), checks=["offset"])
    assert_caught(certificate, {"offset"})
    assert [m.dtype for m in certificate.measurements if not m.passed] == ["float32"]


def test_images_that_are_missing_from_the_graph_are_caught(monkeypatch):
    """A neighbour list that knows no periodic images."""
    right = context_module.sample

    def wrong(structure, *args, **options):
        return right(structure.replace(pbc=(False,) * 3), *args, **options)

    monkeypatch.setattr(context_module, "sample", wrong)
    assert_caught(certify(model(dtype="float64")), {"images", "supercell"})


def test_a_missing_reference_energy_is_caught():
    faulty = model(E0s={1: -13.6, 6: -1027.5}, dtype="float64")
    assert_caught(certify(faulty), {"isolated atom"})


def test_a_vector_of_the_wrong_parity_is_caught():
    """A pseudo-vector that is announced as a vector."""

    @dataclass(frozen=True)
    class Pseudo(Good):
        irreps_out: str = "1o"

        def apply(self, params, graph):
            r = self.vectors(graph)
            d = safe_norm(r)
            u = self.envelope(jnp.minimum(d / self.cutoff, 1))[:, None]
            a, b = (to_receivers(r * u * w, graph) for w in (1, d[:, None] ** 2))
            return IrrepsArray("1o", jnp.cross(a, b))

    outputs = (Output("node_targets.moment", "1o"),)
    faulty = model(Pseudo(), outputs=outputs, dtype="float64")
    assert_caught(certify(faulty), {"equivariance"})
    sound = model(
        Pseudo(irreps_out="1e"), outputs=(Output("node_targets.moment", "1e"),), dtype="float64"
    )
    assert certify(sound, checks=["equivariance"]).passed


def test_the_good_potential_passes_every_check(certificate):
    assert certificate.failed == ()
