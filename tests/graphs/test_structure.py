"""Structures hold checked arrays; properties are found and replaced by name."""

import numpy as np
import pytest

from geojax.graphs import Properties, Structure, is_per_node, leaf, leaves, replace_leaves

X = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]])
Z = np.array([8, 1, 1])
CUBE = np.eye(3) * 4
PERIODIC, SLAB, OPEN = (True, True, True), (True, True, False), (False, False, False)


def test_arrays_are_stored_in_the_right_kind():
    s = Structure(X.astype(np.float32), Z, inputs={"charges": np.array([1, -1, 0])})
    assert s.positions.dtype == np.float32 and s.species.dtype == np.int32
    assert s.inputs["charges"].dtype == np.float64
    assert Structure(X.astype(int), Z).positions.dtype == np.float64
    assert len(s) == 3 and s.cell is None and s.pbc == OPEN and s.volume == 0


def test_an_empty_structure_can_be_held():
    s = Structure(np.zeros((0, 3)), np.zeros(0))
    assert len(s) == 0 and s.species.dtype == np.int32


def test_cells_by_vectors_and_by_sides():
    full = Structure(X, Z, np.diag([2.0, 3, 4]), PERIODIC)
    sides = Structure(X, Z, np.array([2.0, 3, 4]), PERIODIC)
    np.testing.assert_array_equal(full.cell, sides.cell)
    assert full.volume == pytest.approx(24)
    left_handed = Structure(X, Z, np.diag([2.0, 3, 4])[[1, 0, 2]], PERIODIC)
    assert left_handed.volume == pytest.approx(24)


def test_a_missing_vector_is_completed_across_the_others():
    slab = Structure(X, Z, np.array([[3.0, 0, 0], [1, 4, 0], [0, 0, 0]]), SLAB)
    np.testing.assert_allclose(slab.cell[:2], [[3, 0, 0], [1, 4, 0]])
    np.testing.assert_allclose(np.abs(slab.cell[2]), [0, 0, 1], atol=1e-12)
    wire = Structure(X, Z, np.array([[0.0, 0, 0], [1, 2, 2], [0, 0, 0]]), (False, True, False))
    across = wire.cell[[0, 2]]
    np.testing.assert_allclose(across @ across.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(across @ [1, 2, 2], 0, atol=1e-12)


def test_a_zero_cell_is_none_and_an_open_cell_is_kept():
    assert Structure(X, Z, np.zeros((3, 3))).cell is None
    np.testing.assert_array_equal(Structure(X, Z, CUBE).cell, CUBE)


def test_a_structure_is_frozen_and_copied_with_changes():
    s = Structure(X, Z, info={"file": "a.xyz"})
    with pytest.raises(AttributeError):
        s.positions = X  # type: ignore[misc]
    other = s.replace(positions=X + 1)
    np.testing.assert_array_equal(other.positions, X + 1)
    assert other.info == s.info and other.species is not None
    with pytest.raises(ValueError, match="species must have one entry per node"):
        s.replace(positions=X[:2])


BAD = {
    "flat positions": (dict(positions=X[:, :2]), r"positions must have shape \[node, 3\]"),
    "nan": (dict(positions=np.where(X == 2, np.nan, X)), r"entry \[2, 1\] is nan"),
    "infinite": (dict(positions=np.where(X == 2, -np.inf, X)), r"entry \[2, 1\] is -inf"),
    "few species": (dict(species=Z[:2]), r"one entry per node \(3\); got \(2,\)"),
    "no element": (dict(species=np.array([1, 1, 119])), r"1\.\.118, or 0 for a point; got 119"),
    "negative": (dict(species=np.array([1, -1, 1])), "got -1"),
    "no cell": (dict(pbc=SLAB), "a periodic structure needs its cell"),
    "zero cell": (dict(pbc=SLAB, cell=np.zeros((3, 3))), "a periodic structure needs its cell"),
    "parallel": (
        dict(pbc=SLAB, cell=np.array([[1.0, 1, 0], [2, 2, 0], [0, 0, 1]])),
        "the cell is singular",
    ),
    "zero vector": (dict(pbc=PERIODIC, cell=np.diag([4.0, 4, 0])), "the cell is singular"),
    "flat cell": (dict(cell=np.eye(2)), r"cell must have shape \[3, 3\]; got \[2, 2\]"),
    "cell nan": (dict(cell=np.diag([1, np.nan, 1])), "cell must be finite"),
    "short input": (dict(inputs={"q": np.zeros(2)}), r"one row per node \(3\); 'q' has shape"),
    "scalar input": (dict(inputs={"q": np.array(1.0)}), "one row per node"),
    "input nan": (dict(inputs={"q": np.array([0, np.nan, 0])}), r"inputs\['q'\] must be finite"),
    "energy": (dict(properties=Properties(energy=np.zeros(1))), r"energy must have shape \[\]"),
    "forces": (dict(properties=Properties(forces=X[:2])), r"forces must have shape \[3, 3\]"),
    "stress": (dict(properties=Properties(stress=np.zeros(6))), r"stress must have shape \[3, 3\]"),
    "hessian": (dict(properties=Properties(hessian=np.zeros((9, 9)))), "hessian must have shape"),
    "nan label": (dict(properties=Properties(energy=np.nan)), "energy must be finite"),
    "node target": (
        dict(properties=Properties(node_targets={"q": np.zeros(2)})),
        r"node_targets.q must have one row per node \(3\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_arrays_are_refused(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        Structure(**({"positions": X, "species": Z} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(positions=X.astype(complex)), "positions must be real numbers; got dtype complex"),
        (dict(species=Z.astype(float)), "integers; got dtype float64"),
        (dict(species=np.array(["O", "H", "H"])), "integers; got dtype <U1"),
        (dict(inputs={"q": np.array(["a", "b", "c"])}), r"inputs\['q'\] must be real numbers"),
    ],
)
def test_wrong_kinds_are_refused(changes, message):
    with pytest.raises(TypeError, match=message):
        Structure(**({"positions": X, "species": Z} | changes))


def test_labels_become_arrays_and_classes_stay_integers():
    labels = Properties(
        energy=-1.5, forces=X.tolist(), targets={"label": np.int32(3), "dipole": [1, 2, 3.0]}
    )
    found = Structure(X, Z, properties=labels).properties
    assert found.energy.shape == () and found.energy.dtype == np.float64
    assert found.forces.shape == (3, 3)
    assert found.targets["label"].dtype == np.int32
    assert found.targets["dipole"].shape == (3,)


def test_a_part_keeps_what_its_nodes_and_the_whole_are_but_no_energy():
    labels = Properties(
        energy=-1.5,
        forces=X,
        targets={"label": np.int32(3)},
        node_targets={"charge": np.arange(3.0)},
    )
    whole = Structure(X, Z, CUBE, PERIODIC, {"radius": np.arange(3.0)}, labels, {"file": "a.xyz"})
    part = whole.take(np.array([2, 0, 2]))
    np.testing.assert_array_equal(part.positions, X[[2, 0, 2]])
    np.testing.assert_array_equal(part.species, Z[[2, 0, 2]])
    np.testing.assert_array_equal(part.inputs["radius"], [2, 0, 2])
    assert sorted(leaves(part.properties)) == ["node_targets.charge", "targets.label"]
    np.testing.assert_array_equal(part.properties.node_targets["charge"], [2, 0, 2])
    assert part.pbc == whole.pbc and part.info == whole.info
    np.testing.assert_array_equal(part.cell, CUBE)
    assert len(whole.take(Z == Z[0])) == (Z == Z[0]).sum()
    with pytest.raises(IndexError):
        whole.take(np.array([3]))


PROPERTIES = Properties(
    energy=1.0, targets={"mu": 2.0, "alpha": 3.0}, node_targets={"charge": np.zeros(3)}
)


def test_leaves_are_what_is_there_by_name():
    assert list(leaves(PROPERTIES)) == [
        "energy",
        "targets.alpha",
        "targets.mu",
        "node_targets.charge",
    ]
    assert leaves(Properties()) == {}
    assert leaf(PROPERTIES, "targets.mu") == 2.0
    assert leaf(PROPERTIES, "forces") is None and leaf(PROPERTIES, "targets.none") is None
    with pytest.raises(KeyError, match="a property is one of energy, forces, .* got 'energi'"):
        leaf(PROPERTIES, "energi")


def test_leaves_are_replaced_and_the_original_stays():
    new = replace_leaves(PROPERTIES, {"energy": 5.0, "targets.mu": 6.0, "targets.new": 7.0})
    assert leaves(new) | {"node_targets.charge": 0} == {
        "energy": 5.0,
        "targets.alpha": 3.0,
        "targets.mu": 6.0,
        "targets.new": 7.0,
        "node_targets.charge": 0,
    }
    assert PROPERTIES.targets == {"mu": 2.0, "alpha": 3.0}
    everything = leaves(PROPERTIES)
    assert leaves(replace_leaves(Properties(), everything)).keys() == everything.keys()


def test_which_properties_have_a_row_per_node():
    per_node = {"forces", "energies", "node_targets.charge"}
    for name in ("energy", "forces", "stress", "hessian", "energies", "targets.mu", *per_node):
        assert is_per_node(name) == (name in per_node)
