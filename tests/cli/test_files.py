"""Commands about files and registries."""

from pathlib import Path

from tests.cli.conftest import run


def test_list_names_what_is_registered():
    code, text = run("list")
    assert code == 0
    for kind, name in [("networks", "nequip"), ("products", "cg"), ("datasets", "ethanol")]:
        assert kind in text and name in text
    assert "egnn" in run("list", "networks")[1]


def test_a_cloud_is_told_of_and_shown(tmp_path: Path):
    cloud = tmp_path / "cloud.csv"
    cloud.write_text("x,y,z,ring\n0,0,0,1\n1,0,0,2\n0,2,0,2\n")
    code, text = run("data", str(cloud))
    assert code == 0 and "points" in text and "inputs.ring" in text
    page = tmp_path / "page.html"
    code, text = run("view", str(cloud), "--to", str(page), "--color", "ring")
    assert code == 0 and str(page) in text.replace("\n", "")
    assert "ring 2" in page.read_text()
