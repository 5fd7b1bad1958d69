"""Groups are groups; grids are charges at rest, evenly spread, with the symmetry they state."""

import numpy as np
import pytest

from geojax.nn import grid_symmetries, orientation_grid, rotation_group

# The least energy of n unit charges on a sphere (Thomson's problem).
LEAST = {
    4: 3.674234614,
    5: 6.474691495,
    6: 9.985281374,
    12: 49.165253058,
    16: 92.911655302,
    22: 185.287536149,
    24: 223.347074052,
    32: 412.261274651,
}
SYMMETRIES = {4: 24, 6: 48, 8: 48, 12: 120, 16: 12, 20: 120, 24: 24, 30: 120, 32: 120, 60: 60}


@pytest.mark.parametrize("order", [1, 4, 12, 24, 60])
def test_rotations_form_a_group(order):
    group = rotation_group(order)
    assert group.shape == (order, 3, 3)
    np.testing.assert_array_equal(group[0], np.eye(3))
    assert np.abs(group @ group.transpose(0, 2, 1) - np.eye(3)).max() < 1e-14
    np.testing.assert_allclose(np.linalg.det(group), 1)
    overlap = np.einsum("axy,byz,cxz->abc", group, group, group)  # of a b with c: 3 if equal
    np.testing.assert_allclose(overlap.max(-1), 3)
    assert ((overlap > 3 - 1e-9).sum(-1) == 1).all()


@pytest.mark.parametrize(("large", "small"), [(4, 1), (12, 4), (24, 12), (60, 12)])
def test_smaller_groups_are_inside(large, small):
    same = np.einsum("axy,bxy->ab", rotation_group(small), rotation_group(large)) > 3 - 1e-9
    assert same.any(1).all()


@pytest.mark.parametrize("n", LEAST)
def test_charges_are_at_rest(n):
    points = orientation_grid(n)
    assert points.shape == (n, 3)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    energy = sum(1 / np.linalg.norm(p - q) for i, p in enumerate(points) for q in points[:i])
    assert abs(energy - LEAST[n]) < 1e-8 * energy


@pytest.mark.parametrize("n", SYMMETRIES)
def test_symmetries_permute_the_grid(n):
    points, matrices = orientation_grid(n), grid_symmetries(n)
    assert len(matrices) == SYMMETRIES[n]
    moved = matrices @ points.T
    found = np.sort(np.round(moved.transpose(0, 2, 1) @ [1, np.pi, np.e**2], 9), -1)
    np.testing.assert_allclose(found, np.broadcast_to(found[:1], found.shape), atol=1e-8)
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(points.T @ points / n, np.eye(3) / 3, atol=1e-14)


def test_grids_are_the_same_each_time():
    before = orientation_grid(28)
    orientation_grid.cache_clear()
    np.testing.assert_array_equal(orientation_grid(28), before)


def test_what_there_is_not_is_refused():
    with pytest.raises(ValueError, match="4 orientations or more; got 3"):
        orientation_grid(3)
    with pytest.raises(ValueError, match="1, 4, 12, 24, 60 rotations; got 8"):
        rotation_group(8)
