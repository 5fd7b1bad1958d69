"""Exported files give the model's numbers without its code, or an error; never other numbers."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from geojax.inference import BadArtifact, export, open_artifact, predict

from .conftest import crystal, molecule


@pytest.fixture(scope="module")
def path(energy_model, tmp_path_factory) -> Path:
    return export(energy_model(), tmp_path_factory.mktemp("export") / "small.geojax")


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_numbers_are_the_models(energy_model, tmp_path, dtype):
    model = energy_model(dtype)
    opened = open_artifact(export(model, tmp_path / "x.geojax", platforms=["cpu"]))
    for structures in ([molecule(3), molecule(8)], [crystal()]):
        for mine, theirs in zip(opened(structures), predict(model, structures), strict=True):
            limit = {"float32": 1e-5, "float64": 1e-12}[dtype]
            np.testing.assert_allclose(mine.energy, theirs.energy, rtol=limit)
            scale = np.abs(theirs.forces).max()
            np.testing.assert_allclose(mine.forces, theirs.forces, atol=limit * scale)
    np.testing.assert_allclose(mine.stress, theirs.stress, atol=limit * np.abs(theirs.stress).max())


def test_programs_are_lowered_for_every_platform(path):
    import jax

    with zipfile.ZipFile(path) as file:
        programs = [name for name in file.namelist() if name.startswith("programs/")]
        assert len(programs) == 3
        for name in programs:
            exported = jax.export.deserialize(bytearray(file.read(name)))
            assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


def test_the_same_model_gives_the_same_weights_and_no_pickle(path):
    with zipfile.ZipFile(path) as file:
        assert all(b"pickle" not in file.read(n)[:64] for n in file.namelist())
        assert {i.date_time for i in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_opening_and_predicting_needs_neither_networks_nor_flax_nor_ase(path):
    code = (
        "import sys, numpy as np\n"
        "sys.modules['ase'] = None  # as if it were not installed (vesin looks for it)\n"
        "from geojax.graphs import Structure\n"
        "from geojax.inference import open_artifact\n"
        f"model = open_artifact({str(path)!r})\n"
        "model([Structure(np.eye(3) * 1.5, np.array([1, 6, 1]))])\n"
        "bad = {'flax', 'geojax.networks', 'e3nn_jax'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_every_flipped_bit_is_seen(path, tmp_path):
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    broken = tmp_path / "broken.geojax"
    for place in rng.integers(0, len(data), 60):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        broken.write_bytes(flipped)
        try:
            opened = open_artifact(broken, verify=False)
        except BadArtifact:
            continue
        assert _parts_of(broken) == _parts_of(path), place  # only zip's own bookkeeping differs
        assert opened.card.name == "small"


def _parts_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def rewritten(path: Path, new: Path, change) -> Path:
    parts = _parts_of(path)
    change(parts)
    with zipfile.ZipFile(new, "w") as file:
        for name, data in parts.items():
            file.writestr(name, data)
    return new


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("weights.safetensors"), "damaged"),
        (lambda p: p.update({"extra.txt": b""}), "no exported model has"),
        (lambda p: p.update({"programs/../../x.bin": b""}), "no exported model has"),
        (lambda p: p.update({"/programs/x.bin": b""}), "no exported model has"),
        (lambda p: p.update({"programs/more.bin": b""}), "damaged"),
        (lambda p: p.update({"card.json": p["card.json"] + b" "}), "damaged"),
        (lambda p: p.pop("manifest.json"), "not a whole exported model"),
    ],
)
def test_parts_that_are_missing_added_or_changed_are_refused(path, tmp_path, change, message):
    with pytest.raises(BadArtifact, match=message):
        open_artifact(rewritten(path, tmp_path / "x.geojax", change))


def test_compressed_truncated_and_other_files_are_refused(path, tmp_path):
    bomb = tmp_path / "bomb.geojax"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("card.json", b"0" * 10_000_000)
    with pytest.raises(BadArtifact, match="compressed"):
        open_artifact(bomb)
    short = tmp_path / "short.geojax"
    short.write_bytes(path.read_bytes()[:-200])
    for bad in (short, Path(__file__)):
        with pytest.raises(BadArtifact, match="not a whole exported model"):
            open_artifact(bad)
    with pytest.raises(FileNotFoundError, match="there is none at"):
        open_artifact(tmp_path / "none.geojax")


def with_hashes(change):
    """The change, and then a manifest that agrees with it."""

    def whole(parts):
        change(parts)
        manifest = json.loads(parts["manifest.json"])
        for name, entry in manifest["parts"].items():
            entry["sha256"] = hashlib.sha256(parts[name]).hexdigest()
        parts["manifest.json"] = json.dumps(manifest).encode()

    return whole


def test_other_numbers_than_the_stored_ones_are_refused(path, tmp_path):
    @with_hashes
    def change(parts):
        weights = load(parts["weights.safetensors"])
        parts["weights.safetensors"] = save({k: v * 1.01 for k, v in weights.items()})

    with pytest.raises(BadArtifact, match="does not reproduce its test vectors"):
        open_artifact(rewritten(path, tmp_path / "x.geojax", change))
