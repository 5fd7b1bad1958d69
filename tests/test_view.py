"""Pages to look at: every point is in a trace, in its colour, and the page needs no network."""

import base64
import json
import re

import numpy as np
import plotly.offline
import pytest

from geojax import view as module
from geojax.datasets import broken_shape, formats, load, partial_pair
from geojax.graphs import Properties, Structure
from geojax.view import paint, read_pose, view

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
CODES = {"f4": "<f4", "f8": "<f8", "i1": "i1", "u1": "u1"}
HALF_TURN = np.diag([-1.0, -1, 1])


def numbers(value) -> np.ndarray:
    """A list of a page, plain or packed by plotly."""
    if isinstance(value, dict):
        return np.frombuffer(base64.b64decode(value["bdata"]), CODES[value["dtype"]])
    return np.array([np.nan if v is None else v for v in value], float)


def pictures(path) -> tuple[list[dict], dict, str]:
    """The traces and the layout of a page's figure, and its text without plotly's script."""
    text = path.read_text().replace(plotly.offline.get_plotlyjs(), "")
    start = re.search(r'Plotly\.newPlot\(\s*"[^"]+",\s*', text).end()
    traces, end = json.JSONDecoder().raw_decode(text, start)
    start = re.compile(r"\s*,\s*").match(text, end).end()
    return traces, json.JSONDecoder().raw_decode(text, start)[0], text


def points(trace) -> np.ndarray:
    return np.stack([numbers(trace[axis]) for axis in "xyz"], 1)


def cloud(**inputs) -> Structure:
    return Structure(X, np.zeros(200, int), inputs=inputs)


@pytest.fixture
def shown(tmp_path):
    """The page of a structure, by way of a file."""

    def make(structure: Structure, **options):
        kind = "xyz" if structure.species.any() else "ply"
        formats.write(tmp_path / f"a.{kind}", [structure])
        return pictures(view(tmp_path / f"a.{kind}", tmp_path / "a.html", **options))

    return make


def test_every_point_is_shown_and_the_page_is_alone(shown):
    traces, layout, text = shown(cloud(ring=X[:, 0]), color="ring")
    (trace,) = traces
    assert np.array_equal(points(trace), X.astype(np.float32))
    assert np.array_equal(numbers(trace["marker"]["color"]), X[:, 0].astype(np.float32))
    assert layout["coloraxis"]["colorbar"]["title"]["text"] == "ring"
    assert layout["scene"]["aspectmode"] == "data"
    assert "http" not in text and not re.findall(r"\b(?:src|href)=", text)
    assert "200 points" in text and "inputs" in text


def test_labels_are_traces_of_their_own(shown):
    label = np.arange(200) % 3
    traces, layout, _ = shown(cloud(label=label, intensity=X[:, 1]))
    assert [trace["name"] for trace in traces] == ["label 0", "label 1", "label 2"]
    for i, trace in enumerate(traces):
        assert np.array_equal(points(trace), X[label == i].astype(np.float32))
    assert len({trace["marker"]["color"] for trace in traces}) == 3


def test_normals_and_colours_are_painted(shown):
    axes = np.eye(3)[np.arange(200) % 3]
    (trace,), *_ = shown(cloud(normals=2 * axes), color="normals")
    assert trace["marker"]["color"][:3] == ["#ff8080", "#80ff80", "#8080ff"]
    (trace,), *_ = shown(cloud(colors=axes))
    assert trace["marker"]["color"][:3] == ["#ff0000", "#00ff00", "#0000ff"]


def test_large_clouds_are_thinned_and_the_page_says_so(shown, monkeypatch):
    monkeypatch.setattr(module, "MOST", 50)
    (trace,), _, text = shown(cloud())
    assert len(points(trace)) == 50
    there = {tuple(row) for row in X.astype(np.float32).tolist()}
    assert {tuple(row) for row in points(trace).tolist()} <= there
    assert "200 points; shown are 50 of 200, chosen at random" in text


def test_atoms_have_their_colours_and_the_cell_its_edges(shown):
    cell = np.array([[4.0, 0, 0], [1, 5, 0], [0, 0, 6]])
    salt = Structure(np.eye(3), np.array([11, 17, 11]), cell=cell, pbc=(True,) * 3)
    traces, _, text = shown(salt)
    atoms = {t["name"]: t for t in traces if t["mode"] == "markers"}
    assert np.array_equal(points(atoms["Na"]), [[1, 0, 0], [0, 0, 1]])
    assert atoms["Cl"]["marker"]["color"] != atoms["Na"]["marker"]["color"]
    (edges,) = [t for t in traces if t["mode"] == "lines"]
    ends = points(edges).reshape(12, 3, 3)
    assert np.isnan(ends[:, 2]).all()
    sides = np.sort(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1))
    assert np.allclose(sides, np.sort(np.tile(np.linalg.norm(cell, axis=1), 4)))
    assert "Na2 Cl1" in text
    molecule = load("ethanol").test[0]
    assert {t["name"] for t in shown(molecule)[0]} == {"H", "C", "O"}
    (trace,), layout, _ = shown(molecule, color="forces")
    size = np.linalg.norm(molecule.properties.forces, axis=1)
    assert np.allclose(numbers(trace["marker"]["color"]), size, rtol=1e-6)
    assert layout["coloraxis"]["colorbar"]["title"]["text"] == "|forces|"


def test_a_pair_is_shown_before_and_after(tmp_path, monkeypatch):
    pair = partial_pair(cloud(), RNG, overlap=1.0)
    monkeypatch.setattr(module, "structure_of", lambda *_, **__: pair)
    traces, layout, text = pictures(view("pairs", tmp_path / "a.html"))
    assert [(t["name"], t["scene"]) for t in traces] == [
        ("source", "scene"),
        ("target", "scene"),
        ("source", "scene2"),
        ("target", "scene2"),
    ]
    assert [len(points(t)) for t in traces] == [100] * 4
    assert [a["text"] for a in layout["annotations"]] == ["before", "after"]
    targets = pair.properties.targets
    moved = points(traces[0]) @ targets["rotation"].T + targets["translation"]
    assert np.allclose(points(traces[2]), moved, atol=1e-5)
    assert np.array_equal(points(traces[1]), points(traces[3]))
    assert "median distance to the target, after" in text


def test_pieces_are_shown_apart_and_together(tmp_path, monkeypatch):
    pieces = broken_shape(cloud(), RNG, n_parts=3)
    monkeypatch.setattr(module, "structure_of", lambda *_, **__: pieces)
    traces, layout, _ = pictures(view("pieces", tmp_path / "a.html"))
    assert [t["name"] for t in traces] == ["part 0", "part 1", "part 2"] * 2
    assembled = pieces.properties.node_targets["assembled"]
    after = np.concatenate([points(t) for t in traces[3:]])
    assert np.allclose(after, assembled, atol=1e-6)
    traces, *_ = pictures(view("pieces", tmp_path / "a.html", color="error"))
    error = np.linalg.norm(pieces.positions - assembled, axis=1)
    assert np.allclose(numbers(traces[0]["marker"]["color"]), error, atol=1e-5)


@pytest.fixture
def two_files(tmp_path):
    """A cloud, the same turned and shifted, and the pose between them."""
    shift = np.array([10.0, 0, 0])
    formats.write(tmp_path / "first.ply", [cloud()])
    moved = X @ HALF_TURN.T + shift
    formats.write(tmp_path / "second.ply", [Structure(moved, np.zeros(200, int))])
    pose = {"rotation": HALF_TURN.tolist(), "translation": shift.tolist()}
    (tmp_path / "pose.json").write_text(json.dumps(pose))
    return tmp_path


def test_two_files_and_a_pose(two_files):
    files = {"second": two_files / "second.ply", "pose": two_files / "pose.json"}
    traces, _, text = pictures(view(two_files / "first.ply", two_files / "a.html", **files))
    before, target, after, _ = map(points, traces)
    assert np.allclose(after, target, atol=1e-5) and not np.allclose(before, target, atol=1)
    assert re.search(r"median distance to the target, after</td><td>[\d.]+e-1\d<", text)
    traces, *_ = pictures(
        view(two_files / "first.ply", two_files / "a.html", color="error", **files)
    )
    assert np.abs(numbers(traces[0]["marker"]["color"])).max() < 1e-6


def test_two_files_without_a_pose(two_files):
    traces, *_ = pictures(
        view(two_files / "first.ply", two_files / "a.html", second=two_files / "second.ply")
    )
    assert {t["scene"] for t in traces} == {"scene"} and len(traces) == 2


def test_a_pose_of_a_pair_is_measured_against_its_own(tmp_path, monkeypatch):
    """Two degrees and 0.3 beside the truth."""
    pair = partial_pair(cloud(), RNG, overlap=1.0)
    monkeypatch.setattr(module, "structure_of", lambda *_, **__: pair)
    angle = np.radians(2)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    targets = pair.properties.targets
    wrong = np.column_stack([turn @ targets["rotation"], targets["translation"] + [0, 0, 0.3]])
    np.save(tmp_path / "pose.npy", wrong)
    options = {"pose": tmp_path / "pose.npy", "color": "error"}
    traces, _, text = pictures(view("pairs", tmp_path / "a.html", **options))
    assert "rotation error [degree]</td><td>2<" in text
    assert "translation error</td><td>0.3<" in text
    source = pair.positions[pair.inputs["part"] == 0] @ targets["rotation"].T
    error = np.linalg.norm(source @ (turn - np.eye(3)).T + [0, 0, 0.3], axis=1)
    assert np.allclose(numbers(traces[0]["marker"]["color"])[:100], error, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], r"a finite matrix 3 × 4.*got shape \[3, 3\]"),
        (np.diag([1, 1, 1, 2]).tolist(), "the last row 0 0 0 1"),
        (np.diag([2, 2, 2, 1]).tolist(), "R Rᵀ differs from 1 by 3,"),
        (np.diag([1, 1, -1, 1]).tolist(), "the determinant is -1"),
        ({"rotation": HALF_TURN.tolist()}, "KeyError"),
        ("text", "a pose is a matrix"),
    ],
)
def test_what_is_no_pose_is_refused(tmp_path, content, message):
    (tmp_path / "pose.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"pose.json: .*{message}"):
        read_pose(tmp_path / "pose.json")


def test_poses_have_three_forms(tmp_path):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = HALF_TURN, [1, 2, 3]
    np.save(tmp_path / "a.npy", matrix)
    (tmp_path / "b.json").write_text(json.dumps(matrix[:3].tolist()))
    for name in ("a.npy", "b.json"):
        rotation, translation = read_pose(tmp_path / name)
        assert np.array_equal(rotation, HALF_TURN) and translation.tolist() == [1, 2, 3]
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(ValueError, match="c.json: a pose is a matrix"):
        read_pose(tmp_path / "c.json")


def test_what_cannot_be_shown_is_refused(two_files):
    show = lambda **options: view(two_files / "first.ply", two_files / "a.html", **options)
    with pytest.raises(KeyError, match="coloured by what each of them has; did you mean 'height'"):
        show(color="heigth")
    with pytest.raises(KeyError, match="known: height"):
        show(color="error")  # there is nothing to compare with
    with pytest.raises(ValueError, match="a pose moves the first of two clouds"):
        show(pose=two_files / "pose.json")
    with pytest.raises(ValueError, match="first.ply has 1 structures; got index 3"):
        show(index=3)


def test_the_first_that_says_most_is_painted():
    assert paint(cloud()).name == "height"
    assert paint(cloud(normals=X)).name == "normals"
    assert paint(cloud(normals=X, part=np.ones(200))).name == "part"
    labelled = cloud(part=np.ones(200)).replace(
        properties=Properties(node_targets={"label": np.arange(200)})
    )
    found = paint(labelled)
    assert found.name == "label" and found.classes is None  # 200 classes are numbers
