"""Training that compiles end to end: an epoch is one program, planned before its first step."""

from geojax.signals import Stopped
from geojax.training.augment import AUGMENTATIONS
from geojax.training.loop import Options
from geojax.training.losses import LOSSES
from geojax.training.optimizer import OPTIMIZERS, SCHEDULES, Optimizer
from geojax.training.plan import Compilations
from geojax.training.terms import Term, terms_from_table
from geojax.training.train import train

__all__ = [
    "AUGMENTATIONS",
    "LOSSES",
    "OPTIMIZERS",
    "SCHEDULES",
    "Compilations",
    "Optimizer",
    "Options",
    "Stopped",
    "Term",
    "terms_from_table",
    "train",
]
