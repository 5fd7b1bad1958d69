"""Ethanol, bundled: 300, 450 and 600 K, PBE/def2-SVP energies and forces."""

import tomllib

from geojax.assets import folder
from geojax.datasets.dataset import DATASETS, Dataset, of_readings
from geojax.datasets.formats import read
from geojax.elements import atomic_number

__all__ = ["ethanol"]


@DATASETS.register("ethanol")
def ethanol(n_train: int | None = None) -> Dataset:
    """The frames of `data/ethanol`; how they were made is told in its README.

    Args:
        n_train: only the first so many training frames (any prefix is a fair sample of the runs
            and temperatures).

    Raises:
        ValueError: `n_train` is not between 1 and the number of training frames.
    """
    place = folder("data") / "ethanol"
    facts = tomllib.loads((place / "data.toml").read_text())
    count = facts["frames"]["train"]
    if n_train is not None and not 0 < n_train <= count:
        raise ValueError(f"n_train is 1 to {count}, the frames there are; got {n_train}")
    readings = {name: read(place / f"{name}.xyz") for name in ("train", "valid", "test")}
    readings["E0s"] = read(place / "isolated_atoms.xyz")
    train = readings["train"].structures[:n_train]
    data = of_readings("ethanol", readings, _card(facts), train=train)
    stated = {atomic_number(name): energy for name, energy in facts["E0s"].items()}
    if stated != data.card["E0s"]:
        raise ValueError(
            f"data.toml and isolated_atoms.xyz of {place} state different energies of isolated "
            f"atoms; {stated} and {data.card['E0s']} eV; install geojax again"
        )
    return data


def _card(facts: dict) -> dict:
    return {
        "description": facts["description"],
        "licence": facts["license"],
        "level": facts["level"],
        "source": facts["provenance"],
        "citation": "geojax, data/ethanol",
        "units": dict(facts["units"]),
    }
