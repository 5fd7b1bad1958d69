import numpy as np
from rich.console import Console

from geojax.datasets.formats.labels import Use
from geojax.datasets.formats.report import KeyCount, suspicions, tally
from geojax.graphs import Properties, Structure


def molecule(energy=0.0, force=1.0, stress=None, distance=1.0) -> Structure:
    labels = Properties(energy=energy, forces=np.full((2, 3), force), stress=stress)
    positions = np.array([[0, 0, 0], [0, 0, distance]])
    return Structure(positions, np.array([1, 8]), properties=labels, info={"origin": "a.xyz:1"})


def test_keys_are_counted():
    energy, run = Use("REF_energy", "info", "energy"), Use("run", "info", None, "kept in info")
    report = tally("a.xyz", [molecule()] * 3, [[energy, run], [energy], [energy, run]])
    assert report.frames == 3
    assert report.used == {"energy": 3}
    assert report.ignored == ("run",)
    assert KeyCount("run", "info", None, 2, "kept in info") in report.rows


def test_a_key_that_looks_like_a_missing_label_gets_a_hint():
    uses = [Use(key, "array", None) for key in ("force", "Total_Energy", "dft_virial", "charge")]
    rows = {row.key: row.remark for row in tally("a", [molecule()], [uses]).rows}
    assert rows["force"] == "did you mean forces? keys={'forces': 'force'}"
    assert rows["Total_Energy"] == "did you mean energy? keys={'energy': 'Total_Energy'}"
    assert rows["dft_virial"] == "did you mean virials? keys={'virials': 'dft_virial'}"
    assert rows["charge"] == ""


def test_no_hint_where_the_label_is_there():
    uses = [Use("forces", "array", "forces"), Use("md_force", "array", None)]
    rows = {row.key: row.remark for row in tally("a", [molecule()], [uses]).rows}
    assert rows["md_force"] == ""


def test_plausible_labels_are_not_suspected():
    fine = [molecule(-470.0, 1.0, np.eye(3) * 0.01), molecule(-469.0, -2.0)]
    assert suspicions(fine) == []


def test_unlikely_labels_are_suspected():
    (forces,) = suspicions([molecule(force=120.0)])
    assert "half of the force components exceed 120 eV/Å" in forces
    (energy,) = suspicions([molecule(0.0), molecule(500.0)])
    assert "differ by 250 eV per atom" in energy
    (stress,) = suspicions([molecule(stress=np.eye(3) * 30)])
    assert "largest stress is 30 eV/Å³: is it kbar or GPa" in stress
    (close,) = suspicions([molecule(), molecule(distance=0.2)])
    assert "1 structures have atoms nearer than 0.3 Å; first: a.xyz:1" in close


def test_other_compositions_may_have_other_energies():
    atom = lambda z, e: Structure(np.zeros((1, 3)), np.array([z]), properties=Properties(energy=e))
    assert suspicions([atom(1, -13.6), atom(8, -2040.0)]) == []


def test_points_may_be_close():
    assert suspicions([Structure(np.zeros((3, 3)), np.zeros(3, int))]) == []


def test_the_table_shows_everything():
    uses = [Use("energy", "info", "energy"), Use("[odd] key", "array", None)]
    report = tally("a.xyz", [molecule(force=1000.0)], [uses], ["a.xyz:9 (frame 2): bad [x]"])
    console = Console(width=200, record=True, file=open("/dev/null", "w"))
    with console.file:
        console.print(report.table())
    text = console.export_text()
    for piece in ("a.xyz: 1 structures", "energy", "[odd] key", "ignored", "suspicious"):
        assert piece in text
    assert "left out" in text and "bad [x]" in text
