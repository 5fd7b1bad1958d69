"""The order of shear entries: that of other programs is found, the right one is not doubted."""

import numpy as np
import pytest

from geojax.datasets.check.shear import shear_order
from geojax.datasets.formats.labels import full_stress
from tests.datasets.check.samples import crystals, ethanol, labelled

WRITTEN = {  # indices into xx yy zz yz xz xy
    "VASP": (0, 1, 2, 5, 3, 4),
    "LAMMPS": (0, 1, 2, 5, 4, 3),
}


def six(stress: np.ndarray) -> np.ndarray:
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


@pytest.mark.parametrize("program", WRITTEN)
def test_the_order_of_another_program_is_found(program):
    order = list(WRITTEN[program])
    given = [labelled(s, stress=lambda v: full_stress(six(v)[order])) for s in crystals()]
    (one,) = shear_order(given)
    assert one.kind == "stress order" and program in one.text and one.severity == "error"


def test_the_right_order_is_not_doubted():
    assert shear_order(crystals()) == []
    assert shear_order(ethanol().train[:5]) == []
