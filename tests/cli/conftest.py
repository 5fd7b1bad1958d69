"""How commands are tried in this process, and a model for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from geojax import cli
from geojax.graphs import Budget, pad, sample
from geojax.model import Card, Model
from geojax.networks import EGNN
from tests.inference.conftest import molecule


def run(*arguments: str) -> tuple[int, str]:
    """The exit code and what was shown."""
    result = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    return result.exit_code, result.output


@pytest.fixture(scope="session")
def untrained() -> Model:
    """An energy of H and C."""
    network = EGNN(cutoff=3.0, channels=4, layers=1, elements=(1, 6), average_neighbors=4.0)
    graph = jax.tree.map(jnp.asarray, pad([sample(molecule(), 3.0)], Budget(6, 32, 2)).graph)
    params = jax.tree.map(np.asarray, jax.jit(network.init)(jax.random.key(0), graph))
    return Model(network, params, Card(elements=(1, 6), forces=True, stress=True))
