"""QM9: small molecules of C, H, N, O, F with 15 computed properties."""

from collections.abc import Mapping, Sequence

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset, existing, folder
from geojax.graphs import Properties, Structure
from geojax.registry import did_you_mean
from geojax.units import HARTREE

__all__ = ["ATOM_ENERGIES", "UNITS", "qm9"]

UNITS = {  # as they are given here; the file has Hartree where this says eV
    "A": "GHz",
    "B": "GHz",
    "C": "GHz",
    "mu": "Debye",
    "alpha": "Bohr³",
    "homo": "eV",
    "lumo": "eV",
    "gap": "eV",
    "r2": "Bohr²",
    "zpve": "eV",
    "U0": "eV",
    "U": "eV",
    "H": "eV",
    "G": "eV",
    "Cv": "cal/mol/K",
}
# Energies of the atoms [Ha] at the same level, as published with QM9; the order is H C N O F.
ATOM_ENERGIES = {
    "U0": (-0.500273, -37.846772, -54.583861, -75.064579, -99.718730),
    "U": (-0.498857, -37.845355, -54.582445, -75.063163, -99.717314),
    "H": (-0.497912, -37.844411, -54.581501, -75.062219, -99.716370),
    "G": (-0.510927, -37.861317, -54.598897, -75.079532, -99.733544),
}
ELEMENTS = (1, 6, 7, 8, 9)
CARD = {
    "description": "QM9 molecules of up to 9 heavy atoms (C, N, O, F), 15 properties",
    "licence": "MIT (qm9pack), data CC0",
    "level": "B3LYP/6-31G(2df,p)",
    "source": "PyPI qm9pack 1.0.3",
    "citation": "Ramakrishnan, Dral, Rupp, von Lilienfeld, Sci. Data 2014, 1, 140022; Ruddigkeit "
    "et al., JCIM 2012",
    "units": UNITS | {"length": "Å"},
    "published": "test MAE with 100k or 110k training molecules, mu [D] / alpha [Bohr³] / homo / "
    "lumo / gap / U0 [meV]: SchNet .033/.235/41/34/63/14, EGNN .029/.071/29/25/48/11, PaiNN "
    ".012/.045/28/20/46/5.9, Equiformer .011/.046/15/14/30/6.6",
}


@DATASETS.register("qm9")
def qm9(
    targets: Sequence[str] | str | None = None,
    subtract_atoms: bool = False,
    full: bool = False,
    n_train: int | None = None,
    n_test: int = 0,
    energy: str | None = None,
) -> Dataset:
    """10,000 training and 2,000 validation molecules of the EGNN split, or all of QM9.

    The labels are `targets.mu`, `targets.U0`, …, in the units of `UNITS`.

    Args:
        targets: only these of the 15; all by default.
        subtract_atoms: U0, U, H and G relative to the free atoms (atomisation energies, negative).
        full: all 130,831 molecules in the EGNN split of 100,000 / 17,748 / 13,083.
        n_train: only so many training molecules, chosen at random, the same ones every time and
            among those of every larger number.
        n_test: so many of the validation molecules of the small split, which has no test part, as a
            test part.
        energy: U0, U, H or G, as the label `energy` too, with the energies of the free atoms as
            isolated E0s.

    Raises:
        KeyError: an unknown target, or an energy that is none.
        FileNotFoundError: the file is not on this machine.
        ValueError: `n_train` or `n_test` is out of range, or the split has a test part of its own.
    """
    names = tuple(UNITS) if targets is None else (targets,) if isinstance(targets, str) else targets
    for name in names:
        if name not in UNITS:
            raise KeyError(f"QM9 has no target {name!r}; {did_you_mean(name, UNITS)}")
    if energy is not None and energy not in ATOM_ENERGIES:
        raise KeyError(f"QM9 has no energy {energy!r}; {did_you_mean(energy, ATOM_ENERGIES)}")
    part, file = ("qm9_full_optional", "qm9_130831.npz") if full else ("qm9", "qm9_subset_12k.npz")
    with np.load(existing(folder(part) / file, "it is optional"), allow_pickle=False) as archive:
        found = {key: archive[key] for key in archive.files}
    splits = found["split_egnn" if full else "split"]
    train, valid, test = (np.flatnonzero(splits == number) for number in range(3))
    if n_train is not None and not 0 < n_train <= len(train):
        raise ValueError(f"n_train is 1 to {len(train)}; got {n_train}")
    if n_train is not None:  # the file is sorted by size
        train = np.sort(np.random.default_rng(0).permutation(train)[:n_train])
    if n_test and (len(test) or not 0 < n_test < len(valid)):
        raise ValueError(
            f"n_test takes 1 to {len(valid) - 1} validation molecules where there is no test part; "
            f"got n_test={n_test} with {len(test)} test molecules"
        )
    if n_test:
        mixed = np.random.default_rng(0).permutation(valid)
        valid, test = np.sort(mixed[n_test:]), np.sort(mixed[:n_test])
    values = _values(found, names, subtract_atoms)
    card = CARD | {"subtract_atoms": subtract_atoms}
    energies = None
    if energy is not None:
        energies = _values(found, [energy], subtract_atoms=False)[energy]
        atoms = np.multiply(ATOM_ENERGIES[energy], HARTREE).tolist()
        card |= {"energy": energy, "E0s": dict(zip(ELEMENTS, atoms, strict=True))}
    parts = [_structures(found, values, energies, which) for which in (train, valid, test)]
    return Dataset("qm9", *parts, card=card)


def _values(
    found: Mapping[str, np.ndarray], names: Sequence[str], subtract_atoms: bool
) -> dict[str, np.ndarray]:
    """The chosen columns, `[graph]`, in the units of `UNITS`."""
    columns = [str(name) for name in found["target_names"]]
    molecule = np.repeat(np.arange(len(found["n_atoms"])), found["n_atoms"])
    values = {}
    for name in names:
        value = found["targets"][:, columns.index(name)].astype(np.float64)
        if subtract_atoms and name in ATOM_ENERGIES:
            table = np.zeros(max(ELEMENTS) + 1)
            table[list(ELEMENTS)] = ATOM_ENERGIES[name]
            value = value - np.bincount(molecule, table[found["z"]])
        values[name] = value * HARTREE if UNITS[name] == "eV" else value
    return values


def _structures(
    found: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    energies: np.ndarray | None,
    which: np.ndarray,
) -> tuple[Structure, ...]:
    energy = lambda i: None if energies is None else energies[i]
    ends = np.cumsum(found["n_atoms"])
    return tuple(
        Structure(
            found["R"][ends[i] - found["n_atoms"][i] : ends[i]],
            found["z"][ends[i] - found["n_atoms"][i] : ends[i]],
            properties=Properties(
                energy=energy(i), targets={name: value[i] for name, value in values.items()}
            ),
            info={"index": int(found["index"][i])},
        )
        for i in which
    )
