"""The command `geojax`; nothing heavy is imported before a command runs."""

from geojax.cli import models, simulation  # isort: skip  (the order of commands in the help)
from geojax.cli import files, names, scans  # isort: skip
from geojax.cli.command import app, main

__all__ = ["app", "files", "main", "models", "names", "scans", "simulation"]
