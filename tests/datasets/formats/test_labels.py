import numpy as np
import pytest

from geojax.datasets.formats.labels import Entry, Record, Use, build, full_stress, rules
from geojax.graphs import Structure

FORCES = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
STRESS = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]]) * 1e-2


def record(*entries: tuple, cell=None) -> Record:
    """Two atoms; entries are (key, value) or (key, value, kind)."""
    found = tuple(Entry(e[0], e[2] if len(e) > 2 else "info", e[1]) for e in entries)
    pbc = cell is not None
    return Record("a.xyz:1", [[0, 0, 0], [0, 0, 1.5]], [1, 8], cell, pbc, found)


def crystal(*entries: tuple) -> Record:
    return record(*entries, cell=np.diag([2.0, 3.0, 4.0]))


def read(frame: Record, *args, **options) -> Structure:
    return build(frame, rules(*args, **options))[0]


def uses(frame: Record, *args, **options) -> dict[str, Use]:
    return {use.key: use for use in build(frame, rules(*args, **options))[1]}


def test_nothing_is_invented():
    structure = read(record(("temperature", 300.0)))
    assert structure.properties.energy is None
    assert structure.properties.forces is None
    assert structure.properties.stress is None
    assert structure.info == {"origin": "a.xyz:1", "temperature": 300.0}


def test_plain_keys_are_labels():
    found = read(record(("energy", -3), ("forces", FORCES, "array"))).properties
    assert found.energy == -3.0 and found.energy.shape == () and found.energy.dtype == np.float64
    assert np.array_equal(found.forces, FORCES)


def test_REF_goes_before_plain_and_the_report_says_so():
    frame = record(("energy", -1.0), ("REF_energy", -2.0))
    assert read(frame).properties.energy == -2.0
    assert uses(frame)["energy"] == Use(
        "energy", "info", None, "not used: REF_energy goes before it"
    )
    assert uses(frame)["REF_energy"].label == "energy"


def test_one_label_in_two_places_agrees_or_is_refused():
    same = record(("energy", -1.0), ("energy", -1.0, "result"))
    assert read(same).properties.energy == -1.0
    with pytest.raises(ValueError, match="energy is there twice .* -1 against -1.5"):
        read(record(("energy", -1.0), ("energy", -1.5, "result")))


def test_virials_are_minus_volume_times_stress():
    found = read(crystal(("virials", -24.0 * STRESS))).properties
    assert np.allclose(found.stress, STRESS, rtol=0, atol=1e-15)
    both = crystal(("REF_virials", -24.0 * STRESS), ("REF_stress", STRESS))
    assert np.allclose(read(both).properties.stress, STRESS)
    with pytest.raises(ValueError, match="stress is there twice"):
        read(crystal(("REF_virials", 24.0 * STRESS), ("REF_stress", STRESS)))


@pytest.mark.parametrize(
    "value",
    [STRESS, STRESS.ravel(), np.array([1.0, 2.0, 3.0, 0.3, 0.2, 0.1]) * 1e-2],
    ids=["3x3", "9", "xx yy zz yz xz xy"],
)
def test_a_stress_has_three_forms(value):
    assert np.array_equal(full_stress(value), STRESS)
    assert np.array_equal(read(crystal(("stress", value))).properties.stress, STRESS)


def test_a_stress_is_symmetric():
    skew = STRESS.copy()
    skew[0, 1] += 1e-3
    with pytest.raises(ValueError, match="symmetric; stress differs from its transpose by 0.001"):
        full_stress(skew)
    with pytest.raises(ValueError, match=r"6 numbers .* shape \[5\]"):
        full_stress(np.zeros(5))


def test_no_stress_without_three_lattice_vectors_that_repeat():
    frame = record(("stress", STRESS))
    assert read(frame).properties.stress is None
    assert "lattice vectors that repeat" in uses(frame)["stress"].remark


def test_named_keys_take_the_place_of_the_usual_ones():
    frame = record(("dft", -7.0), ("energy", -1.0), ("mu", [1, 2, 3.0]), ("q", [1, 2], "array"))
    keys = {"energy": "dft", "targets.dipole": "mu", "node_targets.charge": "q"}
    found = read(frame, keys).properties
    assert found.energy == -7.0
    assert found.targets["dipole"].tolist() == [1, 2, 3]
    assert found.node_targets["charge"].tolist() == [1, 2]
    assert uses(frame, keys)["energy"].label is None


def test_a_minus_turns_the_sign():
    frame = record(("gradient", -FORCES, "array"))
    assert np.array_equal(read(frame, {"forces": "-gradient"}).properties.forces, FORCES)


def test_class_labels_stay_whole_numbers():
    frame = record(("phase", 3))
    assert read(frame, {"targets.phase": "phase"}).properties.targets["phase"].dtype.kind == "i"


def test_words_are_numbers_of_classes():
    keys, classes = {"targets.phase": "phase"}, ("liquid", "solid")
    found = read(record(("phase", "solid")), keys, classes=classes).properties.targets["phase"]
    assert found.shape == () and found.dtype.kind == "i" and int(found) == 1
    parts = record(("part", np.array(["leg", "seat"]), "array"))
    found = read(parts, {"node_targets.part": "part"}, classes=("seat", "leg"))
    assert found.properties.node_targets["part"].tolist() == [1, 0]
    found = read(record(("phase", 1.0)), keys, classes=classes).properties.targets["phase"]
    assert found.dtype.kind == "i" and int(found) == 1
    for wrong in (2, -1, 0.5):
        with pytest.raises(ValueError, match="phase is a class, one of 2 from 0 to 1; got"):
            read(record(("phase", wrong)), keys, classes=classes)
    with pytest.raises(ValueError, match="phase is a class; did you mean 'solid'"):
        read(record(("phase", "sold")), keys, classes=classes)
    with pytest.raises(ValueError, match=r"classes have numbers; phase has words.*classes=\["):
        read(record(("phase", "solid")), keys)
    with pytest.raises(ValueError, match="a class is named once"):
        rules(classes=("a", "a"))


def test_named_virials():
    frame = crystal(("w", -24.0 * STRESS))
    assert np.allclose(read(frame, {"virials": "w"}).properties.stress, STRESS)


def test_units_are_converted():
    units = {"positions": "Bohr", "energy": "Ha", "forces": "Ha/Bohr", "stress": "GPa"}
    frame = crystal(("energy", 1.0), ("forces", FORCES), ("stress", STRESS))
    structure = read(frame, None, units)
    assert np.isclose(structure.positions[1, 2], 1.5 * 0.529177210903, rtol=1e-12)
    assert np.isclose(structure.cell[2, 2], 4 * 0.529177210903, rtol=1e-12)
    assert np.isclose(structure.properties.energy, 27.211386245988, rtol=1e-12)
    assert np.allclose(structure.properties.forces, FORCES * 51.42206747, rtol=1e-8)
    assert np.allclose(structure.properties.stress, STRESS * 0.006241509074, rtol=1e-9)


def test_without_units_numbers_are_untouched():
    assert np.array_equal(read(record(("forces", FORCES))).properties.forces, FORCES)


def test_one_number_of_the_structure_is_an_input_of_every_node():
    structure = read(record(("total_charge", -1)), inputs={"charge": "total_charge"})
    assert structure.inputs["charge"].tolist() == [-1.0] * len(structure)


def test_inputs_are_read_by_name():
    frame = record(("initial_charges", [1.0, -1.0], "array"))
    structure = read(frame, inputs={"charges": "initial_charges"})
    assert structure.inputs["charges"].tolist() == [1.0, -1.0]
    assert "initial_charges" not in structure.info
    assert uses(frame, inputs={"charges": "initial_charges"})["initial_charges"].label == (
        "inputs.charges"
    )


def test_long_remarks_are_not_kept():
    structure = read(record(("history", np.zeros(1000)), ("short", np.arange(3))))
    assert set(structure.info) == {"origin", "short"}


@pytest.mark.parametrize(
    ("keys", "units", "message"),
    [
        ({"force": "f"}, None, "no label 'force'; did you mean 'forces'"),
        ({"targets": "f"}, None, "no label 'targets'; did you mean 'targets.NAME'"),
        (None, {"energies_": "eV"}, "did you mean 'energies'"),
        (None, {"energy": "kcal"}, "did you mean 'kcal/mol'"),
    ],
)
def test_unknown_words_are_refused_with_a_suggestion(keys, units, message):
    with pytest.raises(KeyError, match=message):
        rules(keys, units)


def test_a_unit_of_another_dimension_is_refused():
    with pytest.raises(ValueError, match="units of one dimension.*'GPa'.*'eV'"):
        rules(units={"energy": "GPa"})
