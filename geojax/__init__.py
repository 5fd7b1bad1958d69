"""Equivariant networks on molecules, crystals and point clouds, compiled end to end.

Everything named here is imported when it is first used, so that `import geojax` is quick.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# Whenever a kept program is loaded, XLA warns at length of other processors' instructions, where it
# means preferences of this one (openxla/xla issue 44565). Read once, when jax is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"

_HOME = {
    "Properties": "graphs",
    "Structure": "graphs",
    "Model": "model",
    "Card": "model",
    "Output": "outputs",
    "Optimizer": "training",
    "Options": "training",
    "train": "training",
    "predict": "inference",
    "Predictor": "inference",
    "Ensemble": "inference",
    "calculator": "inference",
    "calibrate": "inference",
    "export": "inference",
    "open_artifact": "inference",
    "refresh": "inference",
    "select": "inference",
    "elasticity": "inference",
    "vibrations": "inference",
    "certify": "checks",
    "load": "zoo",
    "save": "zoo",
}
_PACKAGES = (
    "checks",
    "datasets",
    "graphs",
    "inference",
    "networks",
    "nn",
    "products",
    "so3",
    "training",
)

__all__ = [*_HOME, *_PACKAGES]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from geojax import checks as checks
    from geojax import datasets as datasets
    from geojax import graphs as graphs
    from geojax import inference as inference
    from geojax import networks as networks
    from geojax import nn as nn
    from geojax import products as products
    from geojax import so3 as so3
    from geojax import training as training
    from geojax.checks import certify as certify
    from geojax.graphs import Properties as Properties
    from geojax.graphs import Structure as Structure
    from geojax.inference import Ensemble as Ensemble
    from geojax.inference import Predictor as Predictor
    from geojax.inference import calculator as calculator
    from geojax.inference import calibrate as calibrate
    from geojax.inference import elasticity as elasticity
    from geojax.inference import export as export
    from geojax.inference import open_artifact as open_artifact
    from geojax.inference import predict as predict
    from geojax.inference import refresh as refresh
    from geojax.inference import select as select
    from geojax.inference import vibrations as vibrations
    from geojax.model import Card as Card
    from geojax.model import Model as Model
    from geojax.outputs import Output as Output
    from geojax.training import Optimizer as Optimizer
    from geojax.training import Options as Options
    from geojax.training import train as train
    from geojax.zoo import load as load
    from geojax.zoo import save as save


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"geojax.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"geojax.{_HOME[name]}"), name)
    raise AttributeError(f"module 'geojax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
