"""`python -m geojax_lammps convert MODEL FOLDER` and `python -m geojax_lammps build [PLUGIN]`."""

import argparse
import sys
from pathlib import Path

from geojax_lammps.build import build
from geojax_lammps.convert import convert


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0, or 2 with the error in a sentence."""
    parser = argparse.ArgumentParser(prog="geojax-lammps", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    converting = commands.add_parser("convert", help="write a model as a folder for LAMMPS")
    converting.add_argument("model", help="name, folder or .geojax file")
    converting.add_argument("folder", type=Path, help="new")
    building = commands.add_parser("build", help="compile the pair style")
    building.add_argument("plugin", nargs="?", type=Path, default=Path("geojaxplugin.so"))
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "convert":
            print(convert(chosen.model, chosen.folder))
        else:
            print(build(chosen.plugin))
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        text = error.args[0] if isinstance(error, KeyError) else error
        print(f"error: {text}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
