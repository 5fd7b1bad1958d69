"""Net force and torque: what rounding leaves is let through."""

import numpy as np

from geojax.datasets.check.forces import large_forces, net_forces
from geojax.graphs import Structure
from tests.datasets.check.samples import crystals, ethanol, labelled


def named(mask: np.ndarray) -> tuple[str, ...]:
    return tuple(map(str, np.flatnonzero(mask)))


def rounded(s: Structure) -> Structure:
    return labelled(s, forces=lambda f: np.round(f, 2))


def test_forces_of_an_energy_have_neither():
    given = [*ethanol().train[:20], *crystals()[:20]]
    assert net_forces(given, named) == []
    assert net_forces([rounded(s) for s in given], named) == []


def test_torque_counts_only_where_nothing_repeats():
    turn = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    turned = lambda s: labelled(s, forces=lambda f: f @ turn)
    assert net_forces([turned(s) for s in crystals()[:10]], named) == []
    (one,) = net_forces([*ethanol().train[:9], turned(ethanol().train[9])], named)
    assert one.kind == "net torque" and one.severity == "warning" and one.structures == ("9",)


def test_a_field_is_a_warning_and_fixed_atoms_everywhere_an_error():
    field = [labelled(s, forces=lambda f: f + 0.05) for s in ethanol().train[:10]]
    assert [f.severity for f in net_forces(field, named)] == ["warning"]
    fixed = [labelled(s, forces=lambda f: f * (np.arange(9) > 4)[:, None]) for s in field]
    assert [f.severity for f in net_forces(fixed, named)] == ["error"]


def test_a_wide_range_of_forces_is_no_outlier():
    given = [labelled(s, forces=lambda f, k=k: f * k / 10) for k, s in enumerate(ethanol().train)]
    assert large_forces(given, named) == []
    (one,) = large_forces([*given, labelled(given[0], forces=lambda f: f + 90.0)], named)
    assert one.structures == (str(len(given)),)
