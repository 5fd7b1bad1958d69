"""What the names of fields mean, in which unit colours come, and what is refused."""

import numpy as np
import pytest

from geojax.datasets.formats.fields import Points, record, role

X = np.arange(12.0).reshape(4, 3)


def fields(**more: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": X[:, 0], "y": X[:, 1], "z": X[:, 2], **more}


def found(**more: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """Input -> (key, value)."""
    got = record("a.ply", Points(fields(**more), "vertex"))
    values = {entry.key: entry.value for entry in got.entries}
    return {name: (key, values[key]) for name, key in got.inputs.items()}


def test_positions_are_float64_and_points_have_no_element():
    got = record("a.ply", Points({k: v.astype(np.float32) for k, v in fields().items()}, "vertex"))
    assert got.positions.dtype == np.float64 and np.array_equal(got.positions, X)
    assert not got.species.any() and got.cell is None and got.inputs == {}
    assert got.notes == ("points of the vertex fields x y z",)


@pytest.mark.parametrize("names", [("nx", "ny", "nz"), ("Normal_X", "Normal_Y", "Normal_Z")])
def test_normals_have_several_names(names):
    normals = dict(zip(names, X.T / 10, strict=True))
    assert found(**normals)["normals"][0] == " ".join(names)
    assert np.array_equal(found(**normals)["normals"][1], X / 10)


@pytest.mark.parametrize(
    ("colors", "unit"),
    [
        (np.array([[0, 1, 255]] * 4, np.uint8), 255),
        (np.array([[0, 1, 1]] * 4, np.uint8), 255),
        (np.array([[0, 0.25, 1]] * 4), 1),
        (np.array([[0, 128, 255.0]] * 4), 255),
        (np.array([[0, 128, 255]] * 4, np.uint16), 255),
        (np.array([[0, 600, 65535]] * 4, np.uint16), 65535),
    ],
    ids=["bytes", "dark bytes", "parts", "real bytes", "bytes in words", "words"],
)
def test_colours_are_from_zero_to_one(colors, unit):
    key, value = found(red=colors[:, 0], green=colors[:, 1], blue=colors[:, 2])["colors"]
    assert key == "red green blue" and np.allclose(value, colors / unit, atol=1e-15)


def test_opacity_is_left_aside():
    rgba = np.array([[255, 0, 0, 7]] * 4, np.uint8)
    assert np.array_equal(found(rgba=rgba)["colors"][1], [[1, 0, 0]] * 4)


def test_others_keep_their_name_and_components_are_joined():
    ring = np.arange(4)
    got = found(ring=ring, Reflectance=ring, v_0=X[:, 0], v_1=X[:, 1], v_2=X[:, 2], w_1=ring)
    assert got.keys() == {"ring", "intensity", "v", "w_1"}
    assert np.array_equal(got["v"][1], X) and got["ring"][1].dtype == np.int64
    assert got["intensity"][0] == "Reflectance"


def test_what_cannot_be_an_input_is_listed():
    got = record("a", Points(fields(species=X[:, 0], name=np.array(list("abcd"))), "field"))
    assert {(e.key, e.remark) for e in got.entries} == {
        ("species", "not used: the name is taken"),
        ("name", "not used: no numbers"),
    }
    assert got.inputs == {}


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (Points({"u": X[:, 0]}, "field"), "has fields x, y, z .*; there are: u"),
        (Points({"points": X[:, :2]}, "field"), r"three coordinates; got shape \[4, 2\]"),
        (Points({"points": X[:0]}, "field"), r"one point or more .* shape \[0, 3\]"),
        (Points(fields(normals=X[:, :2]), "field"), r"normals have shape \[4, 3\]; got \[4, 2\]"),
        (Points(fields(t=X[:3, 0]), "field"), "for each of 4 points; 't' has 3"),
        (Points(fields(color=X - 1), "field"), "colours are from 0 to 1.*; got -1 to 10"),
        (Points(fields(color=X * 1e3), "field"), "colours are from 0 to 1.*; got 0 to 11000"),
    ],
)
def test_bad_fields_are_refused(points, message):
    with pytest.raises(ValueError, match=f"^a.ply: .*{message}"):
        record("a.ply", points)


def test_points_that_are_not_finite_are_counted_refused_or_left_out():
    broken = X.copy()
    broken[1, 2], broken[3, 0] = np.nan, np.inf
    points = Points({"points": broken, "t": np.array([0, 1, 2, np.nan])}, "field")
    with pytest.raises(ValueError, match="2 of 4 have NaN or infinite positions, .* at point 1"):
        record("a.ply", points)
    with pytest.raises(ValueError, match="1 of 4 have NaN or infinite t, the first at line 9"):
        record("a.ply", Points({"points": X, "t": points.fields["t"]}, "field", [6, 7, 8, 9]))
    kept = record("a.ply", points, skip_bad=True)
    assert np.array_equal(kept.positions, X[[0, 2]])
    assert kept.entries[0].value.tolist() == [0, 2]
    assert kept.notes[1] == "2 of 4 points are not finite and were left out"
    with pytest.raises(ValueError, match="none of the 4 points is"):
        record("a.ply", Points({"points": X * np.nan}, "field"), skip_bad=True)


def test_roles_are_found_by_name_alone():
    assert role(["Z", "X", "Y", "NX"], "positions") == ("X", "Y", "Z")
    assert role(["nx", "ny"], "normals") is None
