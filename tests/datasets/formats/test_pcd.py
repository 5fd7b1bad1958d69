"""PCD in its three codings; LZF against a packer of the test's own."""

import numpy as np
import pytest

from geojax.datasets.formats import read
from geojax.datasets.formats.pcd import lzf_decompress, pcd_points

RNG = np.random.default_rng(0)
ROW = np.dtype([(n, "<f4") for n in "xyz"] + [("rgb", "<f4"), ("label", "<u2"), ("v", "<f4", (2,))])
HEAD = """# .PCD v0.7
VERSION 0.7
FIELDS x y z rgb label v
SIZE 4 4 4 4 2 4
TYPE F F F F U F
COUNT 1 1 1 1 1 2
WIDTH {count}
HEIGHT 1
VIEWPOINT 1 2 3 1 0 0 0
POINTS {count}
DATA {kind}
"""
COLORS = np.array([[255, 0, 1], [2, 128, 64], [0, 0, 0]], np.uint8)


def table() -> np.ndarray:
    rows = np.zeros(3, ROW)
    for name in "xyz":
        rows[name] = RNG.normal(size=3)
    r, g, b = COLORS.T.astype(np.uint32)
    rows["rgb"] = (r << 16 | g << 8 | b).astype(np.uint32).view(np.float32)
    rows["label"], rows["v"] = [7, 0, 65535], RNG.normal(size=(3, 2))
    return rows


def pack(plain: bytes) -> bytes:
    """LZF with all of its codes: runs as they are, short copies and long ones, also overlapping."""
    out, at, run = bytearray(), 0, bytearray()

    def flush():
        for start in range(0, len(run), 32):
            piece = run[start : start + 32]
            out.extend([len(piece) - 1, *piece])
        run.clear()

    while at < len(plain):
        length, back = 0, 0
        for distance in range(1, min(at, 8192) + 1):
            n = 0
            while at + n < len(plain) and n < 264 and plain[at - distance + n] == plain[at + n]:
                n += 1
            if n > length:
                length, back = n, distance
        if length < 3:
            run.append(plain[at])
            at += 1
            continue
        flush()
        high, low = divmod(back - 1, 256)
        short = length - 2 < 7
        out.extend([(length - 2) << 5 | high, low] if short else [7 << 5 | high, length - 9, low])
        at += length
    flush()
    return bytes(out)


def file(kind: str, rows: np.ndarray) -> bytes:
    head = HEAD.format(count=len(rows), kind=kind).encode()
    if kind == "binary":
        return head + rows.tobytes()
    if kind == "ascii":
        flat = [[*row.tolist()[:5], *row["v"].tolist()] for row in rows]
        return head + "".join(" ".join(map(repr, row)) + "\n" for row in flat).encode()
    plain = b"".join(np.ascontiguousarray(rows[name]).tobytes() for name in ROW.names)
    packed = pack(plain)
    return head + np.array([len(packed), len(plain)], "<u4").tobytes() + packed


@pytest.mark.parametrize("kind", ["ascii", "binary", "binary_compressed"])
def test_all_codings(tmp_path, kind):
    rows = table()
    (tmp_path / "a.pcd").write_bytes(file(kind, rows))
    (cloud,), report = read(tmp_path / "a.pcd")
    assert np.array_equal(cloud.positions, np.stack([rows[n] for n in "xyz"], 1).astype(float))
    assert np.array_equal(cloud.inputs["colors"], COLORS / 255)
    assert cloud.inputs["label"].tolist() == [7, 0, 65535]
    assert np.array_equal(cloud.inputs["v"], rows["v"].astype(float))
    assert np.array_equal(cloud.info["viewpoint"], [1, 2, 3, 1, 0, 0, 0])
    assert report.used.keys() == {"inputs.colors", "inputs.label", "inputs.v"}


@pytest.mark.parametrize("size", [0, 1, 33, 1200])
@pytest.mark.parametrize("kind", ["noise", "steps", "zeros"])
def test_lzf_unpacks_what_was_packed(size, kind):
    plain = {
        "noise": RNG.integers(0, 256, size).astype(np.uint8),
        "steps": (np.arange(size) // 7 % 251).astype(np.uint8),
        "zeros": np.zeros(size, np.uint8),
    }[kind].tobytes()
    assert lzf_decompress(pack(plain), size) == plain


def test_lzf_by_hand():
    """A run of two bytes, then a copy of seven that begins two bytes before."""
    assert lzf_decompress(bytes([1, 97, 98, 5 << 5, 1]), 9) == b"ababababa"


@pytest.mark.parametrize(
    ("packed", "size", "message"),
    [
        (bytes([5, 1, 2]), 6, "damaged at byte 1"),
        (bytes([0, 1, 5 << 5, 7]), 8, "damaged at byte 4"),
        (bytes([0, 1, 7 << 5]), 8, "damaged at byte 3"),
        (bytes([1, 97, 98]), 3, "stands for 3 bytes; it gives 2"),
        (bytes([0, 97, 7 << 5, 255, 0]), 9, "stands for 9 bytes; it gives 265"),
    ],
)
def test_damaged_lzf_is_refused(packed, size, message):
    with pytest.raises(ValueError, match=message):
        lzf_decompress(packed, size)


def test_padding_fields_and_organised_clouds():
    head = "FIELDS x y z _\nSIZE 4 4 4 1\nTYPE F F F U\nCOUNT 1 1 1 4\nWIDTH 2\nHEIGHT 3\n"
    row = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("_", "u1", 4)])
    rows = np.zeros(6, row)
    rows["y"] = np.arange(6)
    points = pcd_points(head.encode() + b"DATA binary\n" + rows.tobytes(), "a")
    assert list(points.fields) == ["x", "y", "z"] and points.fields["y"].tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]


def test_points_without_depth_are_counted(tmp_path):
    rows = table()
    rows["z"][1] = np.nan
    (tmp_path / "a.pcd").write_bytes(file("ascii", rows))
    with pytest.raises(ValueError, match=r"1 of 3 have NaN .* the first at line 13"):
        read(tmp_path / "a.pcd")
    assert len(read(tmp_path / "a.pcd", skip_bad=True).structures[0]) == 2


def edited(kind: str, old: str, new: str) -> bytes:
    data = file(kind, table())
    assert old.encode() in data
    return data.replace(old.encode(), new.encode())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (edited("ascii", "DATA ascii\n", ""), "a:1[0-9]*: a PCD header has lines"),
        (b"VERSION 0.7\n", "a PCD header ends with a line DATA"),
        (edited("ascii", "DATA ascii", "DATA packed"), "a:11: DATA are ascii, binary or"),
        (edited("ascii", "FIELDS x y z", "FIELDS x y"), "one entry for each field; got 5, 6, 6, 6"),
        (edited("ascii", "FIELDS x y z", "FIELDS x y y"), "fields have different names"),
        (edited("ascii", "SIZE 4 4 4 4 2 4", "SIZE 8 4 4 3 2 4"), "SIZE 1 to 8"),
        (edited("ascii", "TYPE F F", "TYPE M F"), "TYPE F, I or U"),
        (edited("ascii", "4 4 4 2 4\nTYPE F F", "8 4 4 2 4\nTYPE F C"), "TYPE is F, I or U"),
        (edited("ascii", "POINTS 3", "POINTS 4"), "POINTS are WIDTH × HEIGHT; got 4 and 3 × 1"),
        (edited("ascii", "HEIGHT 1", "HEIGHT one"), "WIDTH, HEIGHT, POINTS are whole numbers"),
        (edited("ascii", "VIEWPOINT 1 2", "VIEWPOINT 1"), "a:11: every point has 7 numbers; got 6"),
        (edited("ascii", " 65535 ", " 65536 "), "a:14: label is a whole number from 0 to 65535"),
        (
            file("ascii", table())[:-40],
            "a:14: every point has 7|3 points take 3 lines; there are 2",
        ),
        (file("binary", table())[:-1], "3 points take 78 bytes; there are 77"),
        (file("binary", table()) + bytes(26), "3 points take 78 bytes; there are 104"),
        (file("binary_compressed", table())[:-1], "78 said to be packed in .*in the file"),
        (
            edited("binary", "3\nHEIGHT", "99999999999\nHEIGHT").replace(
                b"TS 3", b"TS 99999999999"
            ),
            "99999999999 points take 2599999999974 bytes; there are 78",
        ),
    ],
)
def test_damaged_files_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        pcd_points(data, "a")


def test_a_packed_size_that_lzf_cannot_reach_is_refused():
    head = HEAD.format(count=10**8, kind="binary_compressed").encode()
    sizes = np.array([6, 26 * 10**8], "<u4").tobytes()
    with pytest.raises(ValueError, match="2600000000 said to be packed in 6"):
        pcd_points(head + sizes + bytes(6), "a")
