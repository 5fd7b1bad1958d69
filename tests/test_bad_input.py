"""Every kind of bad input has its test, here or in the file that is named.

A test is named by its function, or by the row of a table that a function runs over.
"""

import ast
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import geojax
from geojax import inference, zoo
from geojax.graphs import Budget, Structure, pad, sample
from geojax.model import Card, Model
from geojax.networks import EGNN
from tests.inference.conftest import crystal, molecule

TESTS = Path(__file__).parent
FILES, GRAPHS, TRAINING = (
    f"{name}/test_bad_input.py" for name in "datasets graphs training".split()
)
CHECK, ARTIFACT = "datasets/check/test_faults.py", "inference/test_artifact.py"
HERE = "test_bad_input.py"
FAULTS, RUNS = "test_faults.py", "training/test_faults.py"
# fmt: off
CATALOGUE: dict[str, list[tuple[str, str]]] = {  # input: file, test
    "NaN or infinite position": [
        (FILES, "NaN position"), (FILES, "infinite position"), (GRAPHS, "NaN position"),
        (GRAPHS, "infinite position"), (HERE, "NaN position")],
    "NaN in labels": [
        (FILES, "NaN in an energy"), (FILES, "NaN in forces"), (GRAPHS, "NaN in labels"),
        (FILES, "test_bad_frames_are_left_out_counted_and_listed_if_asked")],
    "two atoms at one place": [
        (GRAPHS, "two atoms at one place"), (GRAPHS, "two atoms at one place through the lattice"),
        (TRAINING, "two atoms at one place"), (TRAINING, "two atoms at one place in validation"),
        (CHECK, "atoms at one place"), (HERE, "two atoms at one place"),
        ("networks/test_contract.py", "test_coincident_points_have_finite_forces"),
        ("test_arrays.py", "test_padding_does_not_disturb_the_sum_of_gradients")],
    "very close atoms": [
        (FILES, "very close atoms"), (GRAPHS, "atoms nearer than 0.3 Å"),
        ("test_potential.py", "test_zbl_keeps_atoms_apart_and_leaves_the_rest_alone")],
    "isolated atom, single atom, no edges": [
        (GRAPHS, "isolated atom"), (GRAPHS, "test_a_batch_without_any_edge_is_padded"),
        (TRAINING, "test_single_atoms_are_trained_on_without_any_edge"),
        (HERE, "test_atoms_out_of_reach_have_no_forces"),
        ("networks/test_contract.py", "test_an_isolated_atom_puts_out_exactly_nothing")],
    "nothing: no atoms, no data, an empty split": [
        (FILES, "empty Atoms"), (FILES, "empty dataset"), (FILES, "test_an_empty_split_is_refused"),
        (GRAPHS, "empty structure"), (GRAPHS, "no structures"), (TRAINING, "empty training set"),
        (HERE, "no atoms"),
        ("cli/test_command.py", "test_bad_input_ends_with_its_message_and_code_2")],
    "unknown element": [
        (FILES, "unknown element"), (TRAINING, "element in validation only"),
        (TRAINING, "element that the network was not made for"), (HERE, "unknown element"),
        ("inference/test_ase.py", "test_unknown_elements_are_refused")],
    "periodic without a cell": [(FILES, "pbc without cell"), (GRAPHS, "pbc without cell")],
    "a cell of no volume, of NaN, with a zero vector": [
        (FILES, "zero volume"), (FILES, "NaN cell"), (FILES, "one zero vector with pbc in it"),
        (GRAPHS, "zero volume"), (GRAPHS, "NaN cell"), (GRAPHS, "one zero vector with pbc in it"),
        (GRAPHS, "cell of zeros")],
    "a slab with zero c": [
        (GRAPHS, "slab with zero c"), (FILES, "test_single_atoms_and_slabs_are_structures")],
    "small, skewed and left-handed cells": [
        (GRAPHS, "very skewed cell"), (GRAPHS, "left-handed cell"),
        (GRAPHS, "cell smaller than two cutoffs"),
        ("graphs/test_device_neighbors.py", "test_overflows_and_a_narrow_cell_are_seen"),
        ("simulation/jax_md/test_neighbors.py", "test_a_cell_too_narrow_for_its_grid_is_seen")],
    "a molecule spread over 1e7 Å": [
        (GRAPHS, "molecule spread 1e7 Å"), (HERE, "molecule spread 1e7 Å"),
        ("graphs/test_neighbors.py", "test_the_process_survives_what_kills_a_search")],
    "positions far from the origin": [
        (GRAPHS, "offset of 1e4 Å"), (GRAPHS, "offset of 1e6 Å"),
        (GRAPHS, "offset of 1e6 Å in a crystal"),
        (HERE, "test_far_from_the_origin_float32_is_as_good")],
    "labels that are not there, under another key, in the wrong case": [
        (TRAINING, "no forces key"), (TRAINING, "no stress key"), (TRAINING, "no labels"),
        (TRAINING, "no energies in validation"), (FILES, "other key"), (FILES, "wrong case"),
        (FILES, "named key that is not there"), (FILES, "named key of wrong case"),
        (FILES, "test_partial_labels_are_kept_frame_by_frame"),
        (TRAINING, "test_partial_labels_are_masked")],
    "stress or virial, signs, units": [
        (FILES, "stress against virials"), (FILES, "units not stated"), (FILES, "unknown unit"),
        (FILES, "unit of another dimension"), (FILES, "kbar for eV/Å³"),
        (FILES, "forces in other units"), (FILES, "energies of two methods"),
        (CHECK, "virial"), (CHECK, "virial of other sign"), (CHECK, "stress of other sign"),
        (CHECK, "stress in kbar"), (CHECK, "energies in Ha"), (CHECK, "positions in Bohr"),
        (CHECK, "gradients"), (CHECK, "forces in Ha/Bohr")],
    "a file that was cut off": [
        (FILES, "truncated in the atoms"), (FILES, "truncated in the header"),
        (FILES, "truncated gzip")],
    "wrong count, binary, ****, 1.0D+00, duplicate keys, CRLF": [
        (FILES, "too many atoms for the count"), (FILES, "too few atoms for the count"),
        (FILES, "binary file"), (FILES, "****"), (FILES, "1.0D+00 in a column"),
        (FILES, "1.0D+00 in a label"), (FILES, "duplicate keys"),
        (FILES, "test_equal_values_of_one_key_and_windows_line_ends_do_no_harm")],
    "wrong shapes and dtypes": [
        (FILES, "forces Nx2"), (FILES, "positions Nx2"), (FILES, "complex label"),
        (GRAPHS, "forces Nx2"), (GRAPHS, "positions Nx2"), (GRAPHS, "complex positions"),
        (GRAPHS, "integer positions")],
    "energies of atoms: missing, of another method, not to be told apart": [
        (TRAINING, "E0s missing"), (TRAINING, "E0s of some elements"),
        (TRAINING, "E0s from singular compositions"), (TRAINING, "E0 that is not finite"),
        ("training/test_train.py", "test_the_account_of_E0s_is_shown_and_far_ones_are_suspicious"),
        ("datasets/test_e0s.py", "test_on_request_the_smallest_energies_that_fit_are_taken")],
    "more nodes or neighbours than places": [
        (GRAPHS, "node capacity overflow"), (GRAPHS, "neighbour capacity overflow"),
        (GRAPHS, "graph capacity overflow"), (GRAPHS, "table capacity overflow"),
        ("simulation/jax_md/test_potential.py", "test_a_list_that_is_not_complete_gives_nan"),
        ("simulation/jax_md/test_run.py", "test_lists_that_overflow_are_mended_and_change_nothing"),
        ("simulation/jax_md/test_run.py", "test_what_no_list_can_mend_is_an_error")],
    "an index past the end": [
        (GRAPHS, "index past the end"), (GRAPHS, "index before the beginning")],
    "a typo in the configuration": [
        ("test_config.py", "test_typos_are_refused_with_a_suggestion"),
        (TRAINING, "typo in a loss term"), (TRAINING, "typo in the optimizer"),
        (TRAINING, "typo in the dtype"), (FILES, "unknown label")],
    "a corrupt, truncated or foreign export": [
        (ARTIFACT, "test_every_flipped_bit_is_seen"),
        (ARTIFACT, "test_compressed_truncated_and_other_files_are_refused"),
        (ARTIFACT, "test_other_numbers_than_the_stored_ones_are_refused"),
        (FAULTS, "test_an_exported_file_is_right_or_refused")],
    "a corrupt checkpoint or model": [
        (RUNS, "test_a_checkpoint_is_right_or_passed_over"),
        (FAULTS, "test_a_model_folder_is_right_or_refused"),
        ("training/test_settings.py", "test_settings_that_are_damaged_or_missing_are_refused"),
        ("simulation/test_dynamics.py", "test_damaged_files_are_refused_by_name")],
    "pickles": [
        (FILES, "pickle in npz"), (FILES, "pickle named npz"), (HERE, "a pickle for a model"),
        (HERE, "test_nothing_reads_pickles")],
    "an archive that writes elsewhere, holds parts twice, or is a bomb": [
        (ARTIFACT, "test_parts_that_are_missing_added_or_changed_are_refused"),
        (ARTIFACT, "test_compressed_truncated_and_other_files_are_refused")],
    "a full disk, a folder that cannot be written": [
        (TRAINING, "test_a_full_disk_is_said_before_anything_is_written"),
        (TRAINING, "test_a_folder_that_cannot_be_is_refused"),
        (FAULTS, "test_a_disk_that_fills_up_leaves_what_was_there"),
        (RUNS, "test_a_disk_that_fills_up_leaves_the_older_one"), (RUNS, "test_a_small_disk")],
    "SIGINT, SIGTERM, kill -9": [
        ("test_signals.py", "test_the_first_signal_is_remembered_and_the_handlers_go_back"),
        ("training/test_loop.py", "test_resuming_gives_the_run_that_would_have_been"),
        (RUNS, "test_a_run_that_is_told_to_end_goes_on_where_it_was"),
        (RUNS, "test_a_kill_while_saving_leaves_a_checkpoint_that_was_announced")],
    "a loss that is not finite": [
        (TRAINING, "test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch")],
    "errors inside of other programs": [
        ("simulation/test_lammps.py", "test_an_error_of_the_model_ends_the_run"),
        ("simulation/test_lammps.py", "test_what_is_not_finite_ends_the_run"),
        ("simulation/test_openmm.py", "test_what_is_not_finite_ends_the_step"),
        ("simulation/test_ipi.py", "test_a_failure_ends_ipi_too"),
        ("inference/test_predictor.py", "test_a_prediction_that_is_not_finite_is_refused")],
    "locales, spaces, symlinks, ~ and other scripts in paths": [
        (FILES, "test_any_path_is_read"), (FILES, "test_the_locale_does_not_matter"),
        (HERE, "test_models_have_any_path_and_any_text")],
    "two runs in one folder": [
        (TRAINING, "test_two_runs_in_one_folder_are_refused"),
        ("training/test_lock.py", "test_a_killed_process_leaves_the_folder_free"),
        (RUNS, "test_a_second_writer_is_refused_and_the_first_goes_on")],
}
# fmt: on


def named_in(path: str) -> set[str]:
    """Test functions, and the rows of the tables that they run over."""
    found = set()
    for node in ast.walk(ast.parse((TESTS / path).read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found.add(node.name)
        if isinstance(node, ast.Dict):
            found |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
    return found


def test_every_bad_input_has_its_test():
    wanted = [entry for entries in CATALOGUE.values() for entry in entries]
    known = {path: named_in(path) for path in {path for path, _ in wanted}}
    assert not [(path, test) for path, test in wanted if test not in known[path]]
    assert "test_that_is_not_there" not in known[FILES] | known[HERE] | known[FAULTS]


def small(dtype: str = "float32", **changes: Any) -> Model:
    """An energy model of H and C."""
    network = EGNN(cutoff=3.0, channels=4, layers=1, elements=(1, 6), average_neighbors=4.0)
    graph = jax.tree.map(jnp.asarray, pad([sample(molecule(), 3.0)], Budget(6, 32, 2)).graph)
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    card = Card("small", E0s={1: -13.6, 6: -1029.5}, elements=(1, 6), forces=True, dtype=dtype)
    return Model(network, params, card).replace_card(**changes)


def atoms(x: list[list[float]], z: list[int]) -> Structure:
    return Structure(np.array(x, float).reshape(-1, 3), np.array(z, int))


# fmt: off
WRONG = {
    "no atoms": (lambda: atoms([], []), "a structure has at least one node; got an empty one"),
    "NaN position": (
        lambda: atoms([[0, np.nan, 0]], [1]),
        r"positions must be finite; entry \[0, 1\] is nan \(atom 0, axis y\); repair it, or"),
    "two atoms at one place": (
        lambda: atoms([[0, 0, 0], [0, 0, 0]], [1, 1]),
        "two atoms may not be at one place; atoms [01] and [01] are 0 Å apart; remove one of them"),
    "molecule spread 1e7 Å": (
        lambda: atoms([[0, 0, 0], [1e7, 0, 0]], [1, 1]),
        r"positions span at most 1e\+06 Å; atoms 0 and 1 are 1e\+07 Å apart along x; check the"),
    "unknown element": (
        lambda: atoms([[0, 0, 0]], [79]),
        "the elements that it was trained on; structure 1 holds Au and 'small' supports H, C"),
}
# fmt: on


@pytest.mark.parametrize("name", WRONG)
def test_a_structure_is_refused_by_a_model(name):
    make, pattern = WRONG[name]
    with pytest.raises(ValueError, match=pattern):
        inference.predict(small(), [molecule(), make()])


def test_atoms_out_of_reach_have_no_forces():
    one, two = inference.predict(
        small(), [atoms([[0, 0, 0]], [1]), atoms([[0, 0, 0], [0, 0, 9]], [1, 1])]
    )
    assert two.energy == pytest.approx(2 * float(one.energy), rel=1e-6)
    assert not one.forces.any() and not two.forces.any()


@pytest.mark.parametrize("make", [crystal, pytest.param(molecule, marks=pytest.mark.slow)])
def test_far_from_the_origin_float32_is_as_good(make):
    """The same error against float64 as near it, though float32 counts 1e-3 Å steps there."""
    near = make()
    far = near.replace(positions=near.positions + 1e4)
    (exact,) = inference.predict(small("float64"), [near])
    for found in inference.predict(small(), [near, far]):
        assert found.energy == pytest.approx(float(exact.energy), rel=1e-6)
        np.testing.assert_allclose(
            found.forces, exact.forces, atol=1e-5 * np.abs(exact.forces).max()
        )


def test_models_have_any_path_and_any_text(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = small(description='Wässrig, 水 🌊 "\\\x7f\n', data={"a key 水": 'of "any" kind'})
    written = zoo.save(model, "~/with space, wässrig 水")
    assert written == tmp_path / "with space, wässrig 水"
    (tmp_path / "link").symlink_to(written)
    for place in ("~/with space, wässrig 水", tmp_path / "link"):
        assert zoo.load(place).card == model.card
    with pytest.raises(FileNotFoundError, match=re.escape(f"none at {tmp_path / 'x 水.geojax'}")):
        zoo.load("~/x 水.geojax")


# fmt: off
NO_MODELS = {
    "a pickle for a model": ("m.pt", KeyError, "a model has a name, a folder or a .geojax file"),
    "a folder without a model": (".", FileNotFoundError, "holds model.toml .* holds neither; save"),
    "a folder for an export": ("x.geojax", FileNotFoundError, "is a file; there is none at .*x.ge"),
}
# fmt: on


@pytest.mark.parametrize("name", NO_MODELS)
def test_what_is_no_model_is_refused(tmp_path, name):
    file, kind, pattern = NO_MODELS[name]
    (tmp_path / "m.pt").write_bytes(b"\x80\x04.")
    (tmp_path / "x.geojax").mkdir()
    with pytest.raises(kind, match=pattern):
        zoo.load(tmp_path / file)


def test_nothing_reads_pickles():
    code = Path(geojax.__file__).parent.rglob("*.py")
    wrong = [p.name for p in code if re.search(r"import pickle|allow_pickle=True", p.read_text())]
    assert not wrong
