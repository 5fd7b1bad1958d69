"""The good potential, measured once for all tests of this folder."""

import pytest

from geojax.checks import Certificate, Context, certify
from geojax.checks.context import make_context
from tests.checks.potentials import model


@pytest.fixture(scope="session")
def good() -> Context:
    """The good potential in float64; its programs are compiled at their first use."""
    return make_context(model(), (), dtype="float64", seed=0)


@pytest.fixture(scope="session")
def certificate() -> Certificate:
    """Of the good potential: every check, both precisions."""
    return certify(model())
