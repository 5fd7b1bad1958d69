"""Faults that are planted in clouds are found under their names, and sound clouds have none."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geojax.datasets.check import check_data
from geojax.graphs import Properties, Structure

RNG = np.random.default_rng(0)


def cloud(label: int = 0, size: int = 60, **inputs: np.ndarray) -> Structure:
    x = RNG.normal(size=(size, 3)) * [1.0, 0.7, 0.4 + label]
    labels = Properties(targets={"label": np.array(label)})
    return Structure(x, np.zeros(size, int), inputs=inputs, properties=labels)


def clouds(count: int = 6) -> list[Structure]:
    return [cloud(i % 2) for i in range(count)]


def moved(s: Structure) -> Structure:
    turn = Rotation.random(rng=np.random.default_rng(1)).as_matrix()
    order = np.random.default_rng(2).permutation(len(s))
    return s.replace(positions=(5.0 - s.positions @ turn)[order])


def labelled(s: Structure, label: int) -> Structure:
    return s.replace(properties=Properties(targets={"label": np.array(label)}))


def with_normals(flip: float, length: float = 1.0) -> Structure:
    s = cloud()
    outward = s.positions / np.linalg.norm(s.positions, axis=1, keepdims=True) * length
    return s.replace(inputs={"normals": outward * np.where(RNG.random((60, 1)) < flip, -1, 1)})


def test_sound_clouds_have_no_findings():
    normals = [with_normals(0.0) for _ in range(4)]
    for train in (clouds(), normals):
        found = check_data(train, clouds(4) if train is not normals else ())
        assert found.passed and not found.found and "clouds" in found.looked[0]


A = cloud()
FAULTS = {
    "leak": lambda: (clouds(), [moved(A), cloud(1)], [A]),
    "duplicates": lambda: ([*clouds(), A, moved(A)], clouds()),
    "contradicting labels": lambda: ([*clouds(), A, labelled(moved(A), 1)], clouds()),
    "scale": lambda: ([*clouds(), cloud().replace(positions=RNG.normal(size=(60, 3)) * 1e3)],),
    "scale of splits": lambda: (
        clouds(),
        [s.replace(positions=s.positions * 10) for s in clouds()],
    ),
    "no extent": lambda: ([*clouds(), cloud().replace(positions=np.ones((60, 3)))],),
    "points far away": lambda: (
        [*clouds(), cloud().replace(positions=np.vstack([RNG.normal(size=(59, 3)), [[99, 0, 0]]]))],
    ),
    "points twice": lambda: (
        [*clouds(), cloud().replace(positions=np.repeat(RNG.normal(size=(30, 3)), 2, 0))],
    ),
    "normals": lambda: ([with_normals(0.0, 1.3) for _ in range(4)],),
    "sides of normals": lambda: ([with_normals(0.5) for _ in range(4)],),
    "class not trained": lambda: (clouds(), [*clouds(), cloud(2)]),
    "numbers of classes": lambda: ([labelled(s, 2 * (i % 2)) for i, s in enumerate(clouds())],),
    "rare classes": lambda: ([*[cloud(0) for _ in range(50)], cloud(1)],),
    "partial labels": lambda: ([*clouds(), cloud().replace(properties=Properties())],),
    "no labels": lambda: ([s.replace(properties=Properties()) for s in clouds()],),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_found_under_their_names(kind):
    found = check_data(*FAULTS[kind]())
    also = {"contradicting labels": {"duplicates"}}.get(kind, set())
    assert set(found.kinds()) == {kind} | also
    assert all(f.fix and f.text for f in found.found)


def test_classes_of_points_are_looked_at():
    s = cloud()
    points = Properties(node_targets={"part": np.arange(60) % 3 * 2})
    found = check_data([s.replace(properties=points)])
    (finding,) = found.found
    assert finding.kind == "numbers of classes" and "0 to 4, without [1, 3]" in finding.text
