"""What can be chosen, and set in what was chosen."""

import pytest

from tests.cli.conftest import run


def test_every_kind_is_listed():
    code, text = run("list")
    assert code == 0
    for kind, name in [("networks", "nequip"), ("products", "cg"), ("datasets", "ethanol")]:
        assert kind in text and name in text
    assert "models: nequip-ethanol" in text and "study: data" in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("networks", ["egnn", "scalars and squared"]),
        ("datasets", ["nbody", "charged"]),
        ("losses", ["huber", "delta"]),
        ("optimizers", ["lion"]),
        ("frames", ["pca", "principal axes"]),
        ("rotation-heads", ["svd"]),
        ("models", ["nequip-ethanol", "PBE"]),
        ("study", ["[train]", "batch_size", "[[outputs]]", "irreps", "E0s"]),
    ],
)
def test_a_kind_is_told_of_line_by_line(kind, words):
    code, text = run("list", kind)
    assert code == 0 and all(word in text for word in words)


def test_one_is_told_of_with_its_settings():
    text = run("list", "networks", "mace")[1]
    assert "Higher order" not in text and "correlation" in text and "four-body" in text
    assert "m_i = W3 [ sum" in text, "its equations"
    assert "learning_rate" in run("list", "study", "optimizer")[1]
    assert "n_points" in run("list", "datasets", "furniture")[1]
    assert "errors" in run("list", "models", "nequip-ethanol")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["netwroks"], "there is no list of 'netwroks'; did you mean 'networks'"),
        (["networks", "mcae"], "networks has no 'mcae'; did you mean 'mace'"),
        (["study", "outputs2"], "study has no 'outputs2'; did you mean 'outputs'"),
    ],
)
def test_other_names_are_refused(arguments, message):
    with pytest.raises(KeyError, match=message):
        run("list", *arguments)
