"""Energies, forces and analytic Hessians of small molecules at RHF/def2-SVP.

Each file is one molecule: thermal samples around its minimum (500 K for training and test, 1500 K
where a file has frames "ood", out of distribution), and the minimum itself with its harmonic
frequencies, which are those of standard atomic weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset, existing, folder, split
from geojax.graphs import Properties, Structure
from geojax.registry import did_you_mean

__all__ = ["hessians", "minima"]

MOLECULES = ("water", "formaldehyde", "methanol")
OPTIONAL = ("ethanol",)  # for tests alone: it has no training frames
SPLITS = ("test", "ood")
CARD = {
    "description": "water, formaldehyde, methanol at 500 K: energies, forces, dipoles, Hessians",
    "licence": "free of licence questions; computed for this collection",
    "level": "RHF/def2-SVP (PySCF), analytic Hessians",
    "source": "folder hessians: its generate.py",
    "units": {
        "length": "Å",
        "energy": "eV",
        "forces": "eV/Å",
        "hessian": "eV/Å²",
        "targets.dipole": "e Å",
    },
    "published": "none",
}


@DATASETS.register("hessians")
def hessians(
    molecules: Sequence[str] | str = MOLECULES,
    test: str = "test",
    valid: float | int = 0.1,
    seed: int = 0,
) -> Dataset:
    """The frames of some molecules; `valid` of the training frames of each are held out.

    Labels are energy, forces, `hessian` and `targets.dipole`; `info` names the molecule and the
    temperature [K].

    Args:
        molecules: of water, formaldehyde and methanol; ethanol, where its file is, is tested only.
        test: "test" (500 K, as the training frames) or "ood" (1500 K).
        valid: a fraction or a number of the training frames of each molecule.
        seed: of that choice.

    Raises:
        KeyError: another molecule or split.
        FileNotFoundError: the files are not on this machine.
        ValueError: no molecule has frames to train on, or to test on.
    """
    names = (molecules,) if isinstance(molecules, str) else tuple(molecules)
    if test not in SPLITS:
        raise KeyError(f"hessians has no test set {test!r}; {did_you_mean(test, SPLITS)}")
    parts: dict[str, list[Structure]] = {"train": [], "valid": [], "test": []}
    for name in names:
        found = _read(name)
        frames = {part: _frames(name, found, part) for part in ("train", test)}
        if frames["train"]:
            train, held = split(frames["train"], [-1, valid], seed)
            parts["train"] += train
            parts["valid"] += held
        parts["test"] += frames[test]
    if not parts["train"] or not parts["test"]:
        raise ValueError(
            f"a study trains and tests; of {', '.join(names)} there are {len(parts['train'])} "
            f"frames for training and {len(parts['test'])} of {test!r}; name other molecules, or "
            "the other test set"
        )
    card = CARD | {"description": f"{', '.join(names)}: energies, forces, dipoles, Hessians"}
    return Dataset("hessians", *map(tuple, parts.values()), card=card)


def minima(molecules: Sequence[str] | str = MOLECULES) -> tuple[Structure, ...]:
    """The minimum of each molecule: energy and Hessian; frequencies [cm⁻¹] in `info`.

    Raises:
        KeyError: another molecule.
        FileNotFoundError: the files are not on this machine.
    """
    names = (molecules,) if isinstance(molecules, str) else molecules
    made = []
    for name in names:
        found = _read(name)
        n_node = len(found["z"])
        labels = Properties(
            energy=found["E_min"],
            forces=np.zeros((n_node, 3)),
            hessian=found["H_min"].reshape(n_node, 3, n_node, 3),
        )
        info = {"molecule": name, "frequencies": found["freq_cm"]}
        made.append(Structure(found["R_min"], found["z"], properties=labels, info=info))
    return tuple(made)


def _read(name: str) -> dict[str, np.ndarray]:
    known = (*MOLECULES, *OPTIONAL)
    if name not in known:
        raise KeyError(f"hessians has no molecule {name!r}; {did_you_mean(name, known)}")
    path = existing(folder("hessians") / f"{name}_rhf_def2svp.npz", "it is optional")
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def _frames(name: str, found: Mapping[str, Any], part: str) -> list[Structure]:
    n_node = len(found["z"])
    return [
        Structure(
            found["R"][i],
            found["z"],
            properties=Properties(
                energy=found["E"][i],
                forces=found["F"][i],
                hessian=found["H"][i].reshape(n_node, 3, n_node, 3),
                targets={"dipole": found["dipole"][i]},
            ),
            info={"molecule": name, "temperature": float(found["temperature"][i]), "index": int(i)},
        )
        for i in np.flatnonzero(found["split"] == part)
    ]
