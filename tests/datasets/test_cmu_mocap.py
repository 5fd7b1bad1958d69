"""Subject 35 walking: a body of bones, a gait, samples cut out of trials, and bad archives."""

import io
import tarfile

import numpy as np
import pytest

from geojax.datasets.acclaim import Skeleton
from geojax.datasets.cmu_mocap import LARGEST, RATE, SPLIT, cmu_mocap, read_trials
from tests.datasets.molecules import counts
from tests.datasets.test_acclaim import ARM, STILL, motion


@pytest.fixture(scope="module")
def trials(dataset_folder) -> tuple[Skeleton, dict[str, np.ndarray]]:
    path = dataset_folder / "cmu_mocap_walk" / "subject_35.tar.xz"
    if not path.exists():
        pytest.skip(f"the archive is not here: there is no {path}")
    return read_trials(path)


def archive(path, files):
    with tarfile.open(path, "w:xz", preset=0) as tar:
        for name, text in files.items():
            member, content = tarfile.TarInfo(f"35/{name}"), text.encode()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_an_archive_is_read_where_it_lies_in_metres(tmp_path):
    """The arm's unit is half an inch: its upper bone of length 2 is 4 inches."""
    files = {"arm.asf": ARM, "arm_01.amc": motion(STILL, STILL)}
    skeleton, found = read_trials(archive(tmp_path / "arm.tar.xz", files))
    assert list(found) == ["arm_01"] and found["arm_01"].shape == (2, 3, 3)
    x = found["arm_01"][0]
    np.testing.assert_allclose(np.linalg.norm(x[1] - x[0]), 4 * 0.0254, rtol=1e-12)
    assert [p.name for p in tmp_path.iterdir()] == ["arm.tar.xz"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"arm_01.amc": motion(STILL)}, "one skeleton .*; got 0"),
        ({"a.asf": ARM, "b.asf": ARM}, "one skeleton .*; got 2"),
        ({"arm.asf": ARM, "arm_01.amc": "1\n"}, "arm_01.amc:1: a frame has every joint"),
        ({"arm.asf": ARM + "é"}, "cannot be read: .*codec can't decode"),
        ({"arm.asf": " " * (LARGEST + 1)}, "arm.asf has 16777217 bytes, over 16777216"),
    ],
)
def test_a_malformed_archive_is_refused(files, message, tmp_path):
    path = archive(
        tmp_path / "arm.tar.xz", {k: v.encode().decode("latin1") for k, v in files.items()}
    )
    with pytest.raises(ValueError, match=message):
        read_trials(path)


def test_a_damaged_archive_is_refused(tmp_path):
    path = archive(tmp_path / "arm.tar.xz", {"arm.asf": ARM, "arm_01.amc": motion(STILL)})
    whole = path.read_bytes()
    for content in (b"no archive at all", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="arm.tar.xz: cannot be read: .*; copy it again"):
            read_trials(path)


def test_bones_are_as_long_in_every_frame(trials):
    skeleton, found = trials
    lengths = np.linalg.norm(skeleton.offsets[1:], axis=1) * 0.0254 / skeleton.length
    for x in found.values():
        bones = np.linalg.norm(x[:, 1:] - x[:, skeleton.parents[1:]], axis=-1)
        np.testing.assert_allclose(bones, np.tile(lengths, (len(x), 1)), atol=1e-12)


def test_a_man_walks(trials):
    """Over the floor, upright, at a walking pace, and one foot at a time stands still."""
    skeleton, found = trials
    toes = [skeleton.joints.index(name) for name in ("ltoes", "rtoes")]
    head = skeleton.joints.index("head")
    assert len(found) == 20 and sum(map(len, found.values())) == 7766
    for x in found.values():
        assert x.shape[1:] == (31, 3)
        assert -0.01 < x[..., 1].min() < 0.03
        assert 1.5 < np.median(x[:, head, 1]) < 1.75
        seconds = (len(x) - 1) / RATE
        assert 1.0 < np.linalg.norm(x[-1, 0] - x[0, 0]) / seconds < 1.4
        speed = RATE * np.linalg.norm(np.diff(x[:, toes], axis=0), axis=-1)
        assert np.quantile(speed.min(1), 0.9) < 0.7 and np.median(speed.max(1)) > 2


@pytest.mark.slow
def test_samples_are_cut_out_of_their_trials(real, trials):
    data, (skeleton, found) = real("cmu-mocap"), trials
    assert counts(data) == (952, 93, 276)
    assert data.card["joints"] == list(skeleton.joints)
    parts = {"train": data.train, "valid": data.valid, "test": data.test}
    for part, structures in parts.items():
        assert {s.info["trial"] for s in structures} == {f"35_{n}" for n in SPLIT[part]}
    s = data.train[100]
    x, now = found[s.info["trial"]], s.info["frame"]
    np.testing.assert_array_equal(s.positions, x[now])
    np.testing.assert_allclose(s.inputs["velocity"], 120 * (x[now] - x[now - 1]), atol=1e-12)
    for k in range(10):
        earlier = x[now - 30 + 3 * k] - x[now]
        np.testing.assert_allclose(s.inputs["history"][:, k], earlier, atol=1e-15)
        later = x[now + 3 + 3 * k] - x[now]
        future = s.properties.node_targets["future"][:, 3 * k : 3 * k + 3]
        np.testing.assert_allclose(future, later, atol=1e-15)
    np.testing.assert_array_equal(s.properties.node_targets["last"], x[now + 30] - x[now])
    np.testing.assert_allclose(
        s.inputs["bone"][1:], (x[now] - x[now][list(skeleton.parents)])[1:], atol=1e-15
    )
    assert not s.inputs["bone"][0].any()
    np.testing.assert_array_equal(s.inputs["joint"], np.eye(31))


@pytest.fixture
def arms(tmp_path, monkeypatch):
    """All trials of the split, of an arm that stands still for 25 to 44 frames."""
    lengths = {n: 25 + k for k, n in enumerate(sum(SPLIT.values(), []))}
    files = {f"35_{n}.amc": motion(*[STILL] * count) for n, count in lengths.items()}
    (tmp_path / "cmu_mocap_walk").mkdir()
    path = tmp_path / "cmu_mocap_walk" / "subject_35.tar.xz"
    monkeypatch.setenv("GEOJAX_DATA", str(tmp_path))
    return lengths, lambda *without: archive(
        path, {"35.asf": ARM} | {k: v for k, v in files.items() if k not in without}
    )


def test_windows_lie_within_the_trials(arms):
    """The first and the last frame of a trial are reached, none beyond."""
    lengths, make = arms
    make()
    data = cmu_mocap(past=2, future=1, stride=6, every=1)
    assert len(data.test) == sum(lengths[n] - 18 for n in SPLIT["test"])
    assert data.test[0].info == {"trial": "35_11", "frame": 12}
    assert data.test[-1].info == {"trial": "35_34", "frame": lengths["34"] - 7}
    assert data.test[0].inputs["history"].shape == (3, 2, 3)
    assert data.card["seconds_ahead"] == 6 / 120


def test_fewer_training_samples_are_spread_evenly(arms):
    arms[1]()
    some, whole = (cmu_mocap(past=2, future=2, every=1, n_train=n) for n in (30, None))
    assert len(some.train) == 30 and counts(some)[1:] == counts(whole)[1:]
    assert some.train[0].info == whole.train[0].info
    assert some.train[-1].info == whole.train[-1].info
    assert {s.info["trial"] for s in some.train} == {f"35_{n}" for n in SPLIT["train"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"past": 0}, "past is a count, from 1 on; got 0"),
        ({"every": -1}, "every is a count, from 1 on; got -1"),
        ({}, "no trial of the train part has 61 frames; give fewer, or a shorter stride"),
        ({"stride": 1, "every": 1, "n_train": 0}, "n_train is 1 to 161; got 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message, arms):
    arms[1]()
    with pytest.raises(ValueError, match=message):
        cmu_mocap(**options)


def test_a_trial_that_is_missing_is_named(arms):
    arms[1]("35_31.amc")
    with pytest.raises(ValueError, match="the split names trials; there is no 35_31.amc in it"):
        cmu_mocap(stride=1)


def test_an_archive_that_is_missing_is_named(arms):
    with pytest.raises(FileNotFoundError, match="no subject_35.tar.xz in .*it comes with"):
        cmu_mocap()


def test_constant_velocity_is_a_decimetre_off(real):
    """What networks have to beat: x + v t, 30 frames ahead."""
    data = real("cmu-mocap")
    guess = np.array([s.inputs["velocity"] * 30 / 120 for s in data.test])
    right = np.array([s.properties.node_targets["last"] for s in data.test])
    assert np.mean((guess - right) ** 2) == pytest.approx(0.00896, abs=1e-4)
