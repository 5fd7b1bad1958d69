"""Scalars apart from other natural tensors."""

import pytest
from e3nn_jax import Irrep

from geojax.nn import natural_outputs


def test_scalars_come_apart():
    assert natural_outputs("2x0e+1o+0e+3x2e", 2) == (3, {Irrep("1o"): 1, Irrep("2e"): 3})
    assert natural_outputs("1o", 1) == (0, {Irrep("1o"): 1})


@pytest.mark.parametrize("irreps", ["1e", "0o", "0e+3o"])
def test_others_are_refused(irreps):
    with pytest.raises(ValueError, match="0e, 1o, 2e; got irreps_out="):
        natural_outputs(irreps, 2)
