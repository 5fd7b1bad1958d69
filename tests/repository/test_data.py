"""Every folder of data/ is complete: card, recipe, facts, and files that are what the facts say."""

import hashlib
import tomllib
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.atoms import Atoms

DATA = Path(__file__).resolve().parents[2] / "data"
FOLDERS = sorted(path for path in DATA.iterdir() if path.is_dir())
FACTS = {folder.name: tomllib.loads((folder / "data.toml").read_text()) for folder in FOLDERS}
# Molecules with reference energies and forces, by the table of atomic energies in their facts.
LABELLED = [folder for folder in FOLDERS if "E0s" in FACTS[folder.name]]
NET_FORCE = 1e-3  # [eV/Å] a component; what the integration grid of a good label leaves
ATOMISATION = (2.0, 8.0)  # [eV/atom]; outside, E0s and labels are not of one level of theory

folders = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
labelled = pytest.mark.parametrize("folder", LABELLED, ids=lambda folder: folder.name)


def frames(folder: Path, split: str) -> list[Atoms]:
    found = ase.io.read(folder / f"{split}.xyz", index=":", format="extxyz")
    return found if isinstance(found, list) else [found]


def splits(folder: Path) -> dict[str, list[Atoms]]:
    return {split: frames(folder, split) for split in FACTS[folder.name]["frames"]}


def test_there_is_bundled_data():
    assert "ethanol" in FACTS
    assert LABELLED


@folders
def test_a_folder_has_a_card_a_recipe_and_facts(folder):
    missing = {"README.md", "prepare.py", "data.toml"} - {path.name for path in folder.iterdir()}
    assert not missing
    facts = FACTS[folder.name]
    assert facts["name"] == folder.name
    assert facts["description"] and facts["license"]


@folders
def test_every_data_file_has_its_hash(folder):
    own = {".py", ".md", ".toml"}
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    data = {name: path for name, path in files.items() if path.suffix not in own}
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in data.items()}
    assert hashes == FACTS[folder.name]["sha256"]


def test_the_bundled_data_is_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*.*")) < 5e6


@labelled
def test_the_counts_are_those_of_the_facts(folder):
    counts = {split: len(found) for split, found in splits(folder).items()}
    assert counts == FACTS[folder.name]["frames"]


@labelled
def test_no_frame_is_there_twice(folder):
    found = [atoms for content in splits(folder).values() for atoms in content]
    assert len({atoms.positions.tobytes() for atoms in found}) == len(found)


@labelled
def test_a_run_is_in_one_split(folder):
    runs = {
        split: {atoms.info["run"] for atoms in found} for split, found in splits(folder).items()
    }
    held = FACTS[folder.name]["held_out_runs"]
    assert {split: runs[split] for split in held} == {k: set(v) for k, v in held.items()}
    assert runs["train"].isdisjoint(runs["valid"] | runs["test"])
    assert runs["valid"].isdisjoint(runs["test"])


@labelled
def test_isolated_atoms_are_the_table_of_atomic_energies(folder):
    atoms = frames(folder, "isolated_atoms")
    assert all(len(one) == 1 and one.info["config_type"] == "IsolatedAtom" for one in atoms)
    energies = {one.get_chemical_symbols()[0]: one.info["REF_energy"] for one in atoms}
    assert energies == FACTS[folder.name]["E0s"]


@labelled
def test_labels_are_finite_and_plausible(folder):
    table = FACTS[folder.name]["E0s"]
    for found in splits(folder).values():
        for atoms in found:
            forces, symbols = atoms.arrays["REF_forces"], atoms.get_chemical_symbols()
            assert np.isfinite(forces).all() and np.isfinite(atoms.positions).all()
            assert np.abs(forces.sum(0)).max() < NET_FORCE
            binding = sum(table[symbol] for symbol in symbols) - atoms.info["REF_energy"]
            assert ATOMISATION[0] < binding / len(atoms) < ATOMISATION[1]
            assert not atoms.pbc.any()
            assert atoms.info["temperature"] > 0


@labelled
def test_forces_go_with_energies(folder):
    # Near a minimum both grow with the displacement.
    found = [atoms for content in splits(folder).values() for atoms in content]
    energies = [atoms.info["REF_energy"] for atoms in found]
    squares = [np.square(atoms.arrays["REF_forces"]).sum() for atoms in found]
    assert np.corrcoef(energies, squares)[0, 1] > 0.5
