"""What was saved comes back bit by bit, or an error names the file: never other numbers.

Bits flip, files are cut off or lost, disks fill up, and two write at once; here to models and
exported files.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geojax import inference, zoo
from geojax.graphs import Budget, Structure, pad, sample
from geojax.inference.artifact import BadArtifact, open_artifact, read_parts
from geojax.model import Card, Model
from geojax.networks import EGNN
from geojax.outputs import Output


def some_or_many(some: int, many: int) -> pytest.MarkDecorator:
    """Runs a test with some flipped bits in every file, and with many among the slow tests."""
    rows = [pytest.param(some, id="some"), pytest.param(many, id="many", marks=pytest.mark.slow)]
    return pytest.mark.parametrize("flips", rows)


def same(a: Any, b: Any) -> bool:
    """Bit by bit, in dtype and shape too."""
    left, right = (list(map(np.asarray, jax.tree.leaves(tree))) for tree in (a, b))
    kind = lambda x: (x.dtype, x.shape, x.tobytes())
    return list(map(kind, left)) == list(map(kind, right))


def flipped(data: bytes, bit: int) -> bytes:
    place, shift = divmod(bit, 8)
    return data[:place] + bytes([data[place] ^ 1 << shift]) + data[place + 1 :]


def damages(folder: Path, flips: int) -> Iterator[tuple[Path, str]]:
    """Damages every file below a folder, or one file, in every way in turn, and mends it again."""
    rng = np.random.default_rng(0)
    files = [folder] if folder.is_file() else [p for p in folder.rglob("*") if p.is_file()]
    for path in sorted(files):
        data = path.read_bytes()
        ways = {f"cut to {n}": data[:n] for n in {0, len(data) // 2, max(len(data) - 1, 0)}}
        for bit in rng.choice(8 * len(data), min(flips, 8 * len(data)), replace=False):
            ways[f"bit {bit}"] = flipped(data, int(bit))
        for way, content in ways.items():
            if content != data:
                path.write_bytes(content)
                yield path, f"{path.name} {way}"
        path.unlink()
        yield path, f"{path.name} lost"
        path.write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def no_room(number: int) -> None:
    """In the place of `os.fsync`: the disk is full."""
    raise OSError(28, "No space left on device")


@pytest.fixture(scope="module")
def model() -> Model:
    """Small and quick to export: one program."""
    points = Structure(np.eye(3), np.zeros(3, int))
    network = EGNN(cutoff=3.0, channels=4, layers=1, average_neighbors=2.0)
    graph = jax.tree.map(jnp.asarray, pad([sample(points, 3.0)], Budget(4, 8, 2)).graph)
    shapes = jax.eval_shape(network.init, jax.random.key(0), graph)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    output = Output("targets.size", scale=0.7, shift=-2.0)
    return Model(network, params, Card("small", outputs=(output,), metrics={"x": 0.1}))


@some_or_many(100, 3000)
def test_an_exported_file_is_right_or_refused(model, tmp_path, flips):
    path = inference.export(model, tmp_path / "x.geojax", platforms=["cpu"])
    parts, refused = read_parts(path), 0
    for _, way in damages(path, flips):
        try:
            open_artifact(path, verify=False)
        except (BadArtifact, FileNotFoundError) as error:
            assert "x.geojax" in str(error), way
            refused += 1
        else:  # the archive's own bookkeeping, such as dates
            assert read_parts(path) == parts, way
    assert refused > 0.9 * flips


@some_or_many(20, 1000)
def test_a_model_folder_is_right_or_refused(model, tmp_path, flips):
    folder, refused = zoo.save(model, tmp_path / "m"), 0
    for path, way in damages(folder, flips):
        if path.name == "README.md":  # for people
            if way.endswith(("lost", "cut to 0")):
                assert zoo.load(folder).card == model.card
            continue
        try:
            found = zoo.load(folder)
        except (ValueError, FileNotFoundError) as error:
            assert path.name in str(error) and "again" in str(error), way
            refused += 1
        else:  # as without the last line end
            assert found.card == model.card and same(found.params, model.params), way
    assert refused > 1.9 * flips
    assert same(zoo.load(folder).params, model.params)


@pytest.mark.slow
def test_an_ensemble_folder_is_right_or_refused(model, tmp_path):
    folder = zoo.save(inference.Ensemble([model, model]), tmp_path / "e")
    whole = zoo.load(folder)
    for path, way in damages(folder, 20):
        if path.name == "README.md":
            continue
        try:
            found = zoo.load(folder)
        except (ValueError, FileNotFoundError) as error:
            assert path.name in str(error) and "again" in str(error), way
        else:
            assert found.card == whole.card and same(found.params, whole.params), way


FULL = "x.* cannot be written .*No space left on device.*(is|are) untouched; make room, "


@pytest.mark.parametrize("kind", ["model", pytest.param("export", marks=pytest.mark.slow)])
def test_a_disk_that_fills_up_leaves_what_was_there(model, tmp_path, monkeypatch, kind):
    folder = tmp_path / "x"

    def write(model: Model) -> None:
        if kind == "model":
            zoo.save(model, folder)
        else:
            inference.export(model, folder / "x.geojax", platforms=["cpu"])

    write(model)
    before = contents(folder)
    with monkeypatch.context() as patch, pytest.raises(OSError, match=FULL):
        patch.setattr(os, "fsync", no_room)
        write(model.replace_card(description="another"))
    assert contents(folder) == before


@pytest.mark.slow
def test_two_writers_of_a_model_folder_leave_one_of_both_or_an_error(model, tmp_path):
    other = Model(model.network, jax.tree.map(lambda x: x + 1, model.params), model.card)
    stop, found = threading.Event(), {"one": 0, "other": 0, "refused": 0}

    def write(which: Model) -> None:
        while not stop.is_set():
            try:
                zoo.save(which, tmp_path / "m")
            except OSError as error:
                assert "cannot be written" in str(error)

    zoo.save(model, tmp_path / "m")
    writers = [threading.Thread(target=write, args=(each,)) for each in (model, other)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(100):
            try:
                params = zoo.load(tmp_path / "m").params
            except (ValueError, OSError):
                found["refused"] += 1
            else:
                found["one" if same(params, model.params) else "other"] += 1
                assert same(params, model.params) or same(params, other.params)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert found["one"] + found["other"]
