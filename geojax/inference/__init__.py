"""Using a model: predictions, an ASE calculator, and files that run without the model's code."""

import importlib
from typing import TYPE_CHECKING, Any

from geojax.inference.artifact import Artifact, BadArtifact, open_artifact
from geojax.inference.calibration import Calibration, calibrate
from geojax.inference.elasticity import Elasticity, elasticity
from geojax.inference.ensemble import Ensemble
from geojax.inference.export import export, refresh
from geojax.inference.predictor import Predictor, predict
from geojax.inference.registration import register
from geojax.inference.select import Selection, select
from geojax.inference.vibrations import Vibrations, lowest_vibrations, vibrations

if TYPE_CHECKING:
    from geojax.inference.ase import Calculator, calculator
    from geojax.inference.partition import partitioned
    from geojax.inference.receptive import receptive_hops, receptive_radius

LATER = {  # an exported file needs neither ASE nor networks
    "Calculator": "ase",
    "calculator": "ase",
    "partitioned": "partition",
    "receptive_hops": "receptive",
    "receptive_radius": "receptive",
}

__all__ = [
    "Artifact",
    "BadArtifact",
    "Calculator",
    "Calibration",
    "Elasticity",
    "Ensemble",
    "Predictor",
    "Selection",
    "Vibrations",
    "calculator",
    "calibrate",
    "elasticity",
    "export",
    "lowest_vibrations",
    "open_artifact",
    "partitioned",
    "predict",
    "receptive_hops",
    "receptive_radius",
    "refresh",
    "register",
    "select",
    "vibrations",
]


def __getattr__(name: str) -> Any:
    if name in LATER:
        return getattr(importlib.import_module(f"geojax.inference.{LATER[name]}"), name)
    raise AttributeError(f"module 'geojax.inference' has no attribute {name!r}")
