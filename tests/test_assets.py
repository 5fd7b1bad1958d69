from pathlib import Path

import pytest

from geojax import assets

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", assets.FOLDERS)
def test_a_checkout_is_found_beside_the_package(name):
    assert assets.folder(name) == ROOT / name


def test_the_folder_inside_the_package_comes_first(tmp_path, monkeypatch):
    for place in ("geojax/_share/data", "data", "models"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.setattr(assets, "PACKAGE", tmp_path / "geojax")
    assert assets.folder("data") == tmp_path / "geojax" / "_share" / "data"
    assert assets.folder("models") == tmp_path / "models"


def test_an_unknown_folder_gets_a_suggestion():
    with pytest.raises(ValueError, match="did you mean 'models'"):
        assets.folder("model")


def test_an_incomplete_installation_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "PACKAGE", tmp_path / "geojax")
    with pytest.raises(FileNotFoundError, match="install geojax again"):
        assets.folder("data")
