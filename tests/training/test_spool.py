"""What was appended comes back bit for bit, and training from a file is the ordinary training."""

import os
import signal
import tracemalloc
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

import geojax.training.loop as loop
from geojax.datasets import Dataset
from geojax.datasets.packed import Packed, pack
from geojax.graphs import sample
from geojax.networks import EGNN
from geojax.signals import Stopped
from geojax.training import Options, train
from geojax.training.chunks import Chunks
from geojax.training.spool import Spool
from tests.training.conftest import samples, springs
from tests.training.test_chunks import limit_of


def test_samples_come_back(tmp_path: Path):
    found, kept = Spool(tmp_path), samples(springs(7))
    bare = kept[2]._replace(labels=kept[2].labels._replace(forces=None))
    kept[2] = bare
    for one in kept:
        found.append(one)
    assert len(found) == 7 and list(tmp_path.iterdir()) == []
    for a, b in zip(found, kept, strict=True):
        assert a.labels.energy == b.labels.energy
        assert (a.labels.forces is None) == (b.labels.forces is None)
        for name in ("positions", "species"):
            x, y = a.graph.nodes[name], b.graph.nodes[name]
            assert x.dtype == y.dtype and x.tobytes() == y.tobytes()
        np.testing.assert_array_equal(a.graph.senders, b.graph.senders)
    assert found[-1].graph.n_node == kept[-1].graph.n_node


def test_arrays_of_any_kind_come_back(tmp_path: Path):
    found = Spool(tmp_path)
    trees = [
        {"a": np.zeros((0, 3), np.float32), "b": (np.int64(3), True)},
        {"a": np.arange(6.0).reshape(2, 3), "b": (np.int64(-1), False)},
    ]
    for tree in trees:
        found.append(tree)
    assert found[0]["a"].shape == (0, 3) and found[0]["a"].dtype == np.float32
    assert found[1]["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and found[1]["b"] == (-1, False)
    assert len(found[0:2]) == 2
    with pytest.raises(IndexError, match="2 records; got index 2"):
        found[2]


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = Spool(tmp_path)

    class Full:
        def write(self, record):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(found, "_file", Full())
    with pytest.raises(OSError, match="make room"):
        found.append([np.ones(3)])


def network() -> EGNN:
    return EGNN(cutoff=6.0, channels=4, layers=1)


def dataset(tmp_path: Path, packed: bool) -> Dataset:
    structures = tuple(springs(22))
    if packed:
        pack(tmp_path / "springs.h5", structures)
        structures = Packed(tmp_path / "springs.h5")
    return Dataset("springs", structures, tuple(springs(4, seed=1)))


def run(data: Dataset, folder: Path, epochs: int = 3, limit: float | None = None):
    options = Options(
        epochs=epochs,
        batch_size=4,
        devices=1,
        data_limit=limit,
        call_seconds=1e-9,
        validate_every=3,
    )
    return train(network(), data, options=options, folder=folder, console=Console(quiet=True))


def weights(model) -> np.ndarray:
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(model.params)])


def test_one_chunk_from_a_file_is_the_ordinary_run_bit_by_bit(tmp_path: Path):
    ordinary = run(dataset(tmp_path, packed=False), tmp_path / "ordinary")
    streamed = run(dataset(tmp_path, packed=True), tmp_path / "streamed")
    np.testing.assert_array_equal(weights(streamed), weights(ordinary))
    assert streamed.card.E0s == ordinary.card.E0s
    assert streamed.card.outputs == ordinary.card.outputs
    assert streamed.card.data == ordinary.card.data
    assert streamed.card.metrics == ordinary.card.metrics


@pytest.mark.slow
def test_a_run_in_chunks_that_was_stopped_within_a_pass_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data, limit = dataset(tmp_path, packed=True), limit_of(3)
    put, sizes, calls = loop.put, [], []

    def counting(tree, mesh):
        if hasattr(tree, "node_start"):
            sizes.append(sum(np.asarray(x).nbytes for x in jax.tree.leaves(tree)))
        return put(tree, mesh)

    monkeypatch.setattr(loop, "put", counting)
    whole = run(data, tmp_path / "whole", limit=limit)
    plan = whole.card.training["plan"]
    assert plan["chunks"] == 3
    assert whole.card.training["steps"] == 3 * plan["steps_per_epoch"]
    # memory: two chunks at most are on the device, and each crosses over once for a pass
    assert max(sizes) <= 1.5 * limit / 2  # the largest of three chunks of seven structures
    assert len(sizes) <= 3 * plan["chunks"] + 2

    part = loop._next_part

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == plan["steps_per_epoch"] + 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return part(*arguments)

    monkeypatch.setattr(loop, "_next_part", stopping)
    with pytest.raises(Stopped):
        run(data, tmp_path / "parts", limit=limit)
    assert not (tmp_path / "parts" / "metrics.jsonl").read_text()
    monkeypatch.setattr(loop, "_next_part", part)
    again = run(data, tmp_path / "parts", limit=limit)
    np.testing.assert_array_equal(weights(again), weights(whole))
    assert not [p for p in (tmp_path / "parts").iterdir() if "tmp" in p.name]


def test_the_host_holds_one_chunk_and_not_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is held at once does not grow with the data."""
    monkeypatch.setattr("geojax.datasets.packed.BLOCK", 10)
    peaks = {}
    for count in (40, 160):
        structures = springs(count, sizes=(25,))
        pack(tmp_path / f"{count}.h5", structures)
        whole = sum(x.nbytes for s in samples(structures[:1]) for x in jax.tree.leaves(s)) * count
        del structures
        limit = whole / (count // 10)  # chunks of ten structures, in half the precision
        tracemalloc.start()
        spool = Spool(tmp_path)
        for structure in Packed(tmp_path / f"{count}.h5"):
            spool.append(sample(structure, 6.0))
        chunks = Chunks(spool, limit=limit)
        for i in range(len(chunks)):
            chunks[i]
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(chunks) == count // 10
    assert peaks[160] < 1.3 * peaks[40]
    assert peaks[160] < whole / 2
