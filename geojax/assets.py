"""Where the files that come with geojax are: `models/` and `data/`.

A wheel carries them inside the package, a checkout has them beside it.
"""

from pathlib import Path

from geojax.registry import did_you_mean

__all__ = ["folder"]

PACKAGE = Path(__file__).resolve().parent
FOLDERS = ("data", "models")


def folder(name: str) -> Path:
    """The folder "data" or "models", of the installed package or of the checkout.

    Raises:
        ValueError: geojax comes with no folder of that name.
        FileNotFoundError: the installation is incomplete.
    """
    if name not in FOLDERS:
        raise ValueError(f"geojax comes with no folder {name!r}; {did_you_mean(name, FOLDERS)}")
    places = (PACKAGE / "_share" / name, PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"geojax keeps its {name} inside the package or beside it; there is neither {places[0]} "
        f"nor {places[1]}; install geojax again"
    )
