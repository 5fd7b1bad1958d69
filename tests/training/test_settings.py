"""A run goes on with the settings that it began with, or not at all."""

import json

import pytest

from geojax.training.settings import remember

SETTINGS = {"network": {"name": "egnn"}, "options": {"epochs": 3, "call_seconds": 10.0}}


def test_the_same_settings_go_on_and_how_often_is_free(tmp_path):
    remember(tmp_path, SETTINGS)
    remember(tmp_path, SETTINGS | {"options": {"epochs": 3, "call_seconds": 1.0}})
    assert json.loads((tmp_path / "settings.json").read_text()) == SETTINGS


def test_a_setting_that_an_earlier_version_did_not_know_is_the_same_where_it_is_empty(tmp_path):
    remember(tmp_path, SETTINGS)
    network = SETTINGS["network"]
    for empty in ([], None, 0, False):
        remember(tmp_path, SETTINGS | {"network": network | {"freeze": empty}})
    with pytest.raises(ValueError, match="other settings for network"):
        remember(tmp_path, SETTINGS | {"network": network | {"freeze": ["w"]}})


def test_nothing_and_zero_differ(tmp_path):
    remember(tmp_path, SETTINGS | {"network": {"clip": 0.0}})
    with pytest.raises(ValueError, match="other settings for network"):
        remember(tmp_path, SETTINGS | {"network": {"clip": None}})


def test_other_settings_are_named(tmp_path):
    remember(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="was started with other settings for network; choose"):
        remember(tmp_path, SETTINGS | {"network": {"name": "mace"}})


@pytest.mark.parametrize("content", [b"", b'{"network"', b"[]", b"{}", b'{"options": 1}', b"\xff"])
def test_settings_that_are_damaged_or_missing_are_refused(tmp_path, content):
    remember(tmp_path, SETTINGS)
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="settings.json is damaged .*; put it back as it was, or"):
        remember(tmp_path, SETTINGS)
    path.unlink()
    (tmp_path / "checkpoints" / "last" / "4").mkdir(parents=True)
    with pytest.raises(ValueError, match="settings.json is missing and there are checkpoints; put"):
        remember(tmp_path, SETTINGS)
