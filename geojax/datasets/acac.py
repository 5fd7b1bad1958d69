"""Acetylacetone (AcAc), 15 atoms: the extrapolation benchmark of the BOTNet paper."""

from geojax.datasets.dataset import DATASETS, Dataset, existing, folder, of_readings, split
from geojax.datasets.formats import read
from geojax.registry import did_you_mean

__all__ = ["acac"]

TEMPERATURES = ("300K", "600K")
TESTS = {
    "300K": "test_MD_300K.xyz",
    "600K": "test_MD_600K.xyz",
    "dihedral": "test_dihedral.xyz",
    "H_transfer": "test_H_transfer.xyz",
}
CARD = {
    "description": "Acetylacetone C5H8O2: MD frames at 300 K (or 600 K), DFT energies and forces",
    "licence": "MIT",
    "level": "PBE-D3/def2-SVP (ORCA 5)",
    "source": "github davkovacs/BOTNet-datasets 29e6d46, dataset_acac",
    "citation": "Batatia et al., arXiv:2205.06643",
    "units": {"length": "Å", "energy": "eV", "forces": "eV/Å"},
    "published": "test RMSE E [meV] / F [meV/Å], trained on 300 K; at 300 K: BOTNet 0.89/6.3, "
    "NequIP 0.81/5.90, MACE 0.9/5.1; at 600 K: BOTNet 6.2/29.8, NequIP 6.04/27.8, MACE 4.6/22.4",
}


@DATASETS.register("acac")
def acac(train: str = "300K", test: str = "300K", n_valid: int = 50, seed: int = 0) -> Dataset:
    """500 frames at one temperature, `n_valid` of them for validation, and a test set.

    Args:
        train: "300K" or "600K".
        test: "300K", "600K" (650 MD frames each), "dihedral" or "H_transfer" (energies only).
        n_valid: held out of the 500 at random.
        seed: of that choice.

    Raises:
        KeyError: another temperature or test set.
        FileNotFoundError: the file is not on this machine.
    """
    for value, known in ((train, TEMPERATURES), (test, tuple(TESTS))):
        if value not in known:
            raise KeyError(f"acac has no part {value!r}; {did_you_mean(value, known)}")
    place = folder("acac")
    readings = {
        "train": read(place / f"train_{train}.xyz"),
        "test": read(existing(place / TESTS[test], "choose a test set that is")),
        "E0s": read(place / "isolated_atoms.xyz"),
    }
    parts = split(readings["train"].structures, [-1, n_valid], seed)
    return of_readings("acac", readings, CARD, train=parts[0], valid=parts[1])
