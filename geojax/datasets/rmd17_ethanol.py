"""Ethanol of rMD17: 1000 training frames of the BOTNet data sets (not the official splits)."""

from geojax.datasets.dataset import DATASETS, Dataset, existing, folder, of_readings, split
from geojax.datasets.formats import read
from geojax.registry import did_you_mean

__all__ = ["rmd17_ethanol"]

CARD = {
    "description": "Ethanol C2H6O: frames of rMD17 (500 K), DFT energies and forces",
    "licence": "MIT",
    "level": "PBE/def2-SVP (ORCA 4.2), very tight SCF",
    "source": "github davkovacs/BOTNet-datasets 29e6d46, dataset_ethanol",
    "citation": "Christensen & von Lilienfeld, MLST 2020, 1, 045018; Batatia et al., "
    "arXiv:2205.06643",
    "units": {"length": "Å", "energy": "eV", "forces": "eV/Å"},
    "published": "rMD17 ethanol, 950 + 50 frames, MAE E [meV] / F [meV/Å]: FCHL19 0.9/6.2, ACE "
    "1.2/7.3, NequIP 0.4/2.8, BOTNet 0.4/3.2, Allegro 0.4/2.1, MACE 0.4/2.1; the official splits "
    "are others than this one",
}


@DATASETS.register("rmd17-ethanol")
def rmd17_ethanol(
    test: str | None = None, n_valid: int = 50, n_test: int = 0, seed: int = 0
) -> Dataset:
    """1000 frames, of which `n_valid` are for validation and `n_test` for a test of one's own.

    Args:
        test: "MD" reads the 1000 test frames, where their file is there.
        n_valid, n_test: held out of the 1000 at random.
        seed: of that choice.

    Raises:
        KeyError: another test set.
        FileNotFoundError: the file is not on this machine.
    """
    if test not in (None, "MD"):
        raise KeyError(f"rmd17-ethanol has no test set {test!r}; {did_you_mean(str(test), ['MD'])}")
    place = folder("rmd17_ethanol")
    readings = {"train": read(place / "train.xyz"), "E0s": read(place / "isolated_atoms.xyz")}
    train, valid, tested = split(readings["train"].structures, [-1, n_valid, n_test], seed)
    if test == "MD":
        path = existing(place / "test_MD.xyz", "hold frames out with n_test instead")
        readings["test"] = read(path)
        tested = (*tested, *readings["test"].structures)
    return of_readings("rmd17-ethanol", readings, CARD, train=train, valid=valid, test=tested)
