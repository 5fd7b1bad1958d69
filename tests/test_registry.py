"""Names are taken once, listed in order, and a wrong one gets the nearest known ones."""

import pytest

from geojax.registry import Registry, did_you_mean


def colours() -> Registry[str]:
    found: Registry[str] = Registry("colour")
    for name in ("red", "green", "blue"):
        found.register(name)(name.upper())
    return found


def test_a_registry_is_a_mapping_in_alphabetical_order():
    registry = colours()
    assert list(registry) == ["blue", "green", "red"]
    assert len(registry) == 3 and "red" in registry and "pink" not in registry
    assert dict(registry) == {"blue": "BLUE", "green": "GREEN", "red": "RED"}
    assert registry.get("pink") is None
    assert len(Registry("colour")) == 0


def test_the_decorator_returns_what_it_registers():
    registry = colours()

    @registry.register("pink")
    def pink():
        return 1

    assert pink() == 1 and registry["pink"] is pink


def test_nothing_can_be_put_in_or_taken_out_but_by_registering():
    registry = colours()
    with pytest.raises(TypeError):
        registry["red"] = "other"  # type: ignore[index]
    with pytest.raises(TypeError):
        del registry["red"]  # type: ignore[attr-defined]


def test_no_name_is_taken_twice():
    registry = colours()
    message = "a colour is registered once; 'red' is 'RED' already and 'SCARLET' came second"
    with pytest.raises(ValueError, match=message):
        registry.register("red")("SCARLET")
    assert registry["red"] == "RED"


def test_an_unknown_name_gets_the_nearest_and_all_that_are_known():
    message = "there is no colour 'gren'; did you mean 'green'.* known: blue, green, red"
    with pytest.raises(KeyError, match=message):
        colours()["gren"]


def test_a_name_like_no_other_gets_no_guess():
    assert did_you_mean("xyz", ["red", "blue"]) == "known: blue, red"
    assert did_you_mean("xyz", []) == "known: none"


def test_the_guess_is_near_and_there_are_at_most_three():
    known = [f"egnn{i}" for i in range(9)] + ["mace"]
    assert did_you_mean("egnn", known).count(" or ") == 2
    assert did_you_mean("mce", iter(["mace", "nequip"])).startswith("did you mean 'mace'? ")
