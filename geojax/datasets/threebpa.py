"""3BPA, 27 atoms, flexible: 3-(benzyloxy)pyridin-2-amine at 300, 600 and 1200 K."""

import numpy as np

from geojax.datasets.dataset import DATASETS, Dataset, existing, folder, of_readings, split
from geojax.datasets.formats import read
from geojax.graphs import Structure
from geojax.registry import did_you_mean

__all__ = ["threebpa"]

PUBLISHED_TESTS = ("300K", "600K", "1200K", "dih")
CARD = {
    "description": "3BPA C12H12N2O: MD frames at 300 K, DFT energies and forces",
    "licence": "MIT",
    "level": "ωB97X/6-31G(d) (ORCA)",
    "source": "github davkovacs/BOTNet-datasets 29e6d46, dataset_3BPA",
    "citation": "Kovács et al., JCTC 2021, 17, 7696; Batatia et al., arXiv:2205.06643",
    "units": {"length": "Å", "energy": "eV", "forces": "eV/Å"},
    "published": "RMSE E [meV] / F [meV/Å] on the full test sets, trained on 300 K; 300 K: ACE "
    "7.1/27.1, NequIP 3.3/10.8, BOTNet 3.1/11.0, MACE 3.0/8.8; 600 K: NequIP 11.2/26.4, MACE "
    "9.7/21.8; 1200 K: NequIP 38.5/76.2, MACE 29.8/62.0",
}


@DATASETS.register("3bpa")
def threebpa(test: str = "stand-in", n_valid: int = 50, seed: int = 0) -> Dataset:
    """500 frames at 300 K, `n_valid` of them for validation, and a test set.

    The stand-in test set is not the published one: it is the 300 K block of the mixed-temperature
    training file without the frames that the 300 K training file also holds.

    Args:
        test: "stand-in", or "300K", "600K", "1200K", "dih" where the published files are there.
        n_valid: held out of the 500 at random.
        seed: of that choice.

    Raises:
        KeyError: another test set.
        FileNotFoundError: the file is not on this machine.
    """
    known = ("stand-in", *PUBLISHED_TESTS)
    if test not in known:
        raise KeyError(f"3bpa has no test set {test!r}; {did_you_mean(test, known)}")
    place = folder("3bpa")
    readings = {"train": read(place / "train_300K.xyz"), "E0s": read(place / "iso_atoms.xyz")}
    frames = readings["train"].structures
    if test == "stand-in":
        readings["test"] = read(place / "train_mixedT_first167.xyz")
        tested = _new(readings["test"].structures, frames)
    else:
        path = existing(place / f"test_{test}.xyz", "take test='stand-in'")
        readings["test"] = read(path)
        tested = readings["test"].structures
    train, valid = split(frames, [-1, n_valid], seed)
    card = CARD | {"test": "stand-in, not the published test set" if test == "stand-in" else test}
    return of_readings("3bpa", readings, card, train=train, valid=valid, test=tested)


def _new(structures: tuple[Structure, ...], known: tuple[Structure, ...]) -> tuple[Structure, ...]:
    """The structures whose positions are not among those known (compared to 1e-6 Å)."""
    seen = {np.round(s.positions, 6).tobytes() for s in known}
    return tuple(s for s in structures if np.round(s.positions, 6).tobytes() not in seen)
