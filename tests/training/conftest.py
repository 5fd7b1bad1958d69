"""A small training problem: springs between all atoms of random molecules, labelled exactly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from geojax.graphs import Properties, Sample, Structure, sample
from geojax.networks.egnn import EGNN
from geojax.outputs import Output
from geojax.potential import predict_fn
from geojax.training.loop import Fit, Options, fit
from geojax.training.optimizer import Optimizer
from geojax.training.plan import Compilations
from geojax.training.prepare import Prepared, prepare
from geojax.training.terms import Term

TERMS = (Term("energy", per_atom=True), Term("forces", weight=2.0))


def springs(count: int, seed: int = 0, sizes: tuple[int, ...] = (3, 4, 5)) -> list[Structure]:
    """Molecules of `sizes` atoms in turn, with E = sum over pairs of (r - 1)² / 2."""
    rng = np.random.default_rng(seed)
    structures = []
    for i in range(count):
        n = sizes[i % len(sizes)]
        x = rng.normal(size=(n, 3))
        difference = x[:, None] - x[None]
        r = np.linalg.norm(difference, axis=-1) + np.eye(n)
        energy = 0.25 * np.sum((r - 1) ** 2)
        forces = -np.sum(((r - 1) / r)[..., None] * difference, 1)
        labels = Properties(energy=energy, forces=forces)
        structures.append(Structure(x, rng.choice([1, 8], n), properties=labels))
    return structures


def samples(structures: list[Structure], **options) -> list[Sample]:
    return [sample(s, 6.0, **options) for s in structures]


class Problem:
    """The pieces of a run on springs, each of which a test may replace."""

    def __init__(self, count: int = 11):
        self.network = EGNN(
            cutoff=6.0, channels=4, layers=1, elements=(1, 8), average_neighbors=3.0
        )
        self.predict = predict_fn(self.network, [Output()], forces=True)
        self.train = samples(springs(count))
        self.valid = samples(springs(4, seed=1))
        self.terms = TERMS
        self.optimizer = Optimizer(learning_rate=0.01)

    def prepare(self, **changes) -> Prepared:
        """Compiled; `changes` are fields of `Options`."""
        options = self.options(**changes)
        return prepare(
            self.network.init,
            self.predict,
            self.train,
            self.valid,
            self.terms,
            self.optimizer,
            options,
        )

    def options(self, **changes) -> Options:
        return Options(**{"epochs": 3, "batch_size": 4, "devices": 1} | changes)

    def fit(self, folder: Path, **changes) -> Fit:
        with Compilations() as seen:
            run = self.prepare(**changes)
            return fit(run, self.options(**changes), folder, Console(quiet=True), seen)


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """Makes a `Problem`."""
    return Problem
