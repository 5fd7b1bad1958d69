"""LAS and LAZ, which laspy writes for the tests."""

import io

import numpy as np
import pytest

from geojax.datasets.formats import read
from geojax.datasets.formats.las import las_points

laspy = pytest.importorskip("laspy", reason="laspy is an extra of geojax")
X = np.round(np.random.default_rng(0).uniform(0, 50, (40, 3)), 3) + [4e5, 5e6, 100]


def scan(compress: bool = False) -> bytes:
    if compress:
        pytest.importorskip("lazrs", reason="lazrs is an extra of geojax")
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.offsets, header.scales = X.min(0), np.full(3, 1e-3)
    table = laspy.LasData(header)
    table.x, table.y, table.z = X.T
    table.intensity = np.arange(40) * 100
    table.classification = np.arange(40) % 5
    table.red = table.green = table.blue = np.arange(40) * 1600
    stream = io.BytesIO()
    table.write(stream, do_compress=compress)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["las", "laz"])
def test_points_and_their_dimensions(tmp_path, kind):
    (tmp_path / f"a.{kind}").write_bytes(scan(kind == "laz"))
    (cloud,), report = read(tmp_path / f"a.{kind}", keys={"node_targets.label": "classification"})
    assert np.abs(cloud.positions - X).max() < 6e-4  # half a step of the scale, and rounding
    assert np.array_equal(cloud.inputs["intensity"], np.arange(40) * 100)
    assert np.allclose(cloud.inputs["colors"][:, 0], np.arange(40) * 1600 / 65535)
    assert np.array_equal(cloud.properties.node_targets["label"], np.arange(40) % 5)
    assert {"gps_time", "user_data"} <= set(report.ignored)
    (row,) = [row for row in report.rows if row.key == "gps_time"]
    assert row.remark == "not used: zero throughout"


def test_eight_bits_in_words_are_seen():
    data = las_points(scan(), "a")
    assert data.fields["red"].dtype == np.uint16


@pytest.mark.parametrize("compress", [False, True])
def test_files_that_are_cut_off_are_refused(compress):
    with pytest.raises(ValueError, match="^a: laspy cannot read this: .*it is cut off, damaged"):
        las_points(scan(compress)[:-100], "a")


def test_counts_that_no_file_holds_are_refused():
    data = bytearray(scan())
    assert int.from_bytes(data[107:111], "little") == 40
    data[107:111] = (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(ValueError, match="4294967295 points take 146028888030 bytes"):
        las_points(bytes(data), "a")


def test_other_files_are_refused():
    with pytest.raises(ValueError, match="^a: laspy cannot read this"):
        las_points(b"no scan at all", "a")
