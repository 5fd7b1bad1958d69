"""Every folder of models/ is complete, loads, and does what its card says."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path for path in (ROOT / "models").iterdir() if path.is_dir())
LIMIT = 10 * 2**20  # bytes, all models together

each_model = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def load(folder: Path):
    zoo = pytest.importorskip("geojax.zoo", reason="not there yet", exc_type=ImportError)
    return zoo.load(folder.name)


def test_there_is_a_model_and_all_fit_in_the_wheel():
    assert FOLDERS
    files = [path for folder in FOLDERS for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LIMIT


@each_model
def test_the_folder_is_complete(folder):
    names = {path.name for path in folder.iterdir()}
    assert {"README.md", "model.toml", "weights.safetensors"} <= names


@each_model
def test_the_model_loads_and_its_card_is_filled(folder):
    card = load(folder).card
    empty = [
        name
        for name in ("description", "licence", "elements", "data", "training", "metrics")
        if not getattr(card, name)
    ]
    assert card.name == folder.name
    assert empty == []
    assert card.certificate, f"run: geojax certify {folder.name}"


@each_model
def test_the_page_tells_what_the_card_tells(folder):
    text, card = (folder / "README.md").read_text(), load(folder).card
    assert card.licence in text
    assert str(card.data["name"]) in text


@each_model
def test_the_errors_of_the_card_are_reached_again(folder):
    """On another version of jax or another processor float32 sums differ in the last digits."""
    datasets = pytest.importorskip("geojax.datasets", reason="not there yet", exc_type=ImportError)
    from geojax.config import evaluate

    model = load(folder)
    name = model.card.data["name"]
    try:
        structures = datasets.load(name).test
    except FileNotFoundError as error:
        pytest.skip(f"the model's data are not here: {error}")
    claimed = {key: value for key, value in model.card.metrics.items() if key.startswith("test.")}
    reached = {f"test.{key}": value for key, value in evaluate(model, structures).items()}
    assert claimed
    assert reached == pytest.approx(claimed, rel=1e-3)
