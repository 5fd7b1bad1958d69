"""Commands about files and registries."""

from pathlib import Path

import numpy as np

from geojax import datasets
from tests.cli.conftest import run
from tests.datasets.check.samples import ethanol


def test_a_cloud_is_told_of_and_shown(tmp_path: Path):
    cloud = tmp_path / "cloud.csv"
    cloud.write_text("x,y,z,ring\n0,0,0,1\n1,0,0,2\n0,2,0,2\n")
    code, text = run("data", str(cloud))
    assert code == 0 and "points" in text and "inputs.ring" in text
    page = tmp_path / "page.html"
    code, text = run("view", str(cloud), "--to", str(page), "--color", "ring")
    assert code == 0 and str(page) in text.replace("\n", "")
    assert "ring 2" in page.read_text()


def test_data_are_checked_and_errors_end_with_one(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda name: ethanol())
    code, text = run("check", "ethanol")
    assert code == 0 and "0 errors" in text and "200 structures, 3 isolated atoms" in text
    frame = "2\nProperties=species:S:1:pos:R:3 energy={}\nO 0 0 0\nH 0 0 {}\n"
    good, bad = tmp_path / "good.xyz", tmp_path / "bad.xyz"
    good.write_text("".join(frame.format(-1 - d, 1 + d) for d in (0.01, 0.02, 0.03)))
    bad.write_text(frame.format(-1.01, 1.01) + frame.format("nan", 1))
    assert run("check", str(good))[0] == 0
    code, text = run("check", str(good), "--valid", str(bad), "--json", str(tmp_path / "a.json"))
    assert code == 1 and "unreadable" in text and "leak" in text
    assert '"kind": "leak"' in (tmp_path / "a.json").read_text()
    assert run("check", str(good), "--units", "positions=Bohr")[0] == 1


def test_files_are_converted_to_a_packed_one(tmp_path: Path):
    from geojax.datasets import fingerprint, formats
    from geojax.datasets.packed import Packed
    from tests.training.conftest import springs

    formats.write(tmp_path / "a.xyz", springs(3))
    formats.write(tmp_path / "b.xyz", springs(2, seed=1))
    parts = [str(tmp_path / name) for name in ("a.xyz", "b.xyz")]
    assert run("convert", *parts, str(tmp_path / "all.h5"))[0] == 0
    found = Packed(tmp_path / "all.h5")
    assert fingerprint(found) == fingerprint([*springs(3), *springs(2, seed=1)])


def test_clouds_are_checked_with_the_classes_of_the_first_files(tmp_path: Path):
    rng = np.random.default_rng(0)
    for kind, count in (("bed", 3), ("sofa", 3)):
        (tmp_path / "train" / kind).mkdir(parents=True)
        for i in range(count):
            np.savetxt(tmp_path / "train" / kind / f"{i}.xyz", rng.normal(size=(20, 3)))
    (tmp_path / "valid" / "sofa").mkdir(parents=True)
    np.savetxt(tmp_path / "valid" / "sofa" / "0.xyz", rng.normal(size=(20, 3)))
    patterns = [str(tmp_path / part / "*" / "*.xyz") for part in ("train", "valid")]
    told = ["check", patterns[0], "--valid", patterns[1], "--keys", "targets.label=*"]
    code, text = run(*told)
    words = " ".join(text.split())
    assert code == 0 and "0 errors" in words and "7 clouds" in words
    (tmp_path / "valid" / "lamp").mkdir()
    np.savetxt(tmp_path / "valid" / "lamp" / "0.xyz", rng.normal(size=(20, 3)))
    code, text = run(*told)
    assert code == 1 and "unreadable" in text, "its class is not one of the first files'"
