import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax.checks import layout
from geojax.checks.context import CHECKS
from geojax.graphs import edge_vectors, graph_of_nodes, node_mask
from tests.checks.potentials import ruled

SIZES = {"molecule": 7, "crystal": 5, "slab": 4}


def test_these_are_the_examples(good):
    assert {name: len(s) for name, s in good.generated.items()} == SIZES


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("edge order", "A4"),
        ("layouts", "A4"),
        ("images", "A6"),
        ("supercell", "A6"),
        ("repeat", "A7"),
        ("padding", "A8"),
        ("padded rows", "A8"),
        ("batch", "A9"),
        ("cross gradient", "A9"),
        ("skin", "A13"),
    ],
)
def test_the_good_potential_passes(good, name, figure):
    found = CHECKS[name](good)
    assert found.passed and found.figure == figure


def test_other_images_of_the_atoms_have_the_same_vectors(good, x64):
    one = good.sample(good.generated["crystal"])
    moves = np.array([[2, 0, -1], [0, 0, 0], [-2, 1, 1], [0, -1, 0], [1, 1, 1]])
    other = layout._imaged(one, moves)
    assert np.abs(other.graph.nodes["positions"] - one.graph.nodes["positions"]).max() > 1
    before, after = (edge_vectors(jax.tree.map(jnp.asarray, s.graph)) for s in (one, other))
    np.testing.assert_allclose(after, before, atol=1e-13)


def test_the_table_has_room_for_every_neighbour(good):
    """All pairs of the molecule are within the cutoff or not: count by hand."""
    x = good.generated["molecule"].positions
    near = np.linalg.norm(x[:, None] - x[None], axis=-1) < good.cutoff
    assert layout._most_neighbors(good.sample(good.generated["molecule"])) == near.sum(1).max() - 1


def ones(graph):
    return jnp.ones_like(graph.nodes["positions"][:, 0])


def test_the_figure_of_padding():
    """E_i = 1 / rows: the smaller of the two batches has the larger energies."""
    context = ruled(lambda graph: ones(graph) / len(graph.nodes["species"]))
    large, small = context.programs.budget.n_node, context.programs.small.n_node
    found = CHECKS["padding"](context)
    assert found.value == pytest.approx(large / small - 1, rel=1e-12)
    assert found.detail.startswith("an output depends on how much padding")


def test_the_figure_of_a_batch():
    """E_i = nodes in the batch: 7, 5, 4 alone, 32 together; (32 - 4) / 7 is the largest."""
    found = CHECKS["batch"](ruled(lambda graph: ones(graph) * node_mask(graph).sum()))
    assert found.value == pytest.approx((2 * sum(SIZES.values()) - 4) / 7, rel=1e-12)


def test_the_figure_of_a_cross_gradient():
    """E_i = sum of x² over the batch: E of the 7 atoms feels every stranger's x by 2 x 7."""

    def rule(graph):
        x = jnp.where(node_mask(graph), graph.nodes["positions"][:, 0], 0)
        return ones(graph) * jnp.sum(x**2)

    context = ruled(rule)
    x = {n: context.sample(s).graph.nodes["positions"][:, 0] for n, s in context.generated.items()}
    want = max(
        2 * size * np.abs(x[other]).max()
        for own, size in SIZES.items()
        for other in SIZES
        if other != own
    )
    found = CHECKS["cross gradient"](context)
    assert found.value == pytest.approx(want, rel=1e-12)
    assert found.unit == "eV/Å"


def test_the_figure_of_a_supercell():
    """E_i = atoms of the structure: 40 in place of 5 in the repeated crystal, (40 - 5) / 5."""
    rule = lambda graph: ones(graph) * graph.n_node[graph_of_nodes(graph)]
    assert CHECKS["supercell"](ruled(rule)).value == pytest.approx(7, rel=1e-12)


def test_without_periodic_examples_there_is_nothing_to_repeat():
    points = ruled(ones, cutoff=np.inf)
    assert CHECKS["supercell"](points) is None
    assert CHECKS["images"](points) is None
    assert CHECKS["skin"](points) is None
