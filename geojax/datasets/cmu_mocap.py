"""CMU motion capture, subject 35 walking: from a quarter second to the next one.

A sample is the 31 joints of one body at the present frame, with what is known of the past, and
where the joints will be. The published split (GMN; 200 / 600 / 600 samples, 30 frames ahead) cannot
be had: it needs trials of 331 frames, and ours were cut to their walking part. So this is the same
task with a split of our own, by trials.
"""

import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from geojax.datasets.acclaim import Skeleton, joint_positions, read_motion, read_skeleton
from geojax.datasets.dataset import DATASETS, Dataset, existing, folder
from geojax.graphs import Properties, Structure

__all__ = ["cmu_mocap", "read_trials"]

RATE = 120.0  # frames a second
INCH = 0.0254  # [m]
LARGEST = 2**24  # bytes of a file in the archive
SPLIT = {
    "train": "02 05 08 09 10 12 13 14 15 16 28 29 30 32".split(),
    "valid": "01 07".split(),
    "test": "11 31 33 34".split(),
}
CARD = {
    "description": "CMU motion capture, 20 walks of subject 35, 31 joints, 120 frames/s",
    "licence": "CMU Graphics Lab: free for all uses, not to be resold as such",
    "source": "github KseniiaCheloshkina/amc cc0ee08, data/ (trials cut to their walking part)",
    "citation": "CMU Graphics Lab Motion Capture Database, mocap.cs.cmu.edu, NSF EIA-0196217; "
    "Bzhikhatlov, Cheloshkina, Abramchuk, 2019; Huang et al., ICLR 2022 (the task)",
    "units": {"length": "m", "velocity": "m/s", "history": "m", "future": "m", "last": "m"},
    "published": "another split and unit, MSE x 1e-2 at 30 frames, from memory: GNN 67.3, TFN "
    "66.9, SE(3)-Transformer 60.9, EGNN 59.1, GMN 43.9, EGHN 8.5",
}


@DATASETS.register("cmu-mocap")
def cmu_mocap(
    past: int = 10, future: int = 10, stride: int = 3, every: int = 5, n_train: int | None = None
) -> Dataset:
    """Bare points (species 0), one for each joint, positions in metres.

    Inputs: `velocity` `[node, 3]` [m/s], from the frame before to the present one; `history`
    `[node, past, 3]`, earlier positions relative to the present one, the earliest first; `bone`
    `[node, 3]`, from the parent joint (zero for the root); `joint` `[node, 31]`, which joint it is,
    one-hot.

    Labels: `node_targets.future` `[node, 3 * future]`, later positions relative to the present one,
    that is "10x1o"; `node_targets.last`, the last of them.

    Args:
        past, future: how many earlier and later positions.
        stride: frames from each to the next, of 1/120 s; the last is `future * stride` ahead.
        every: frames from the present of one sample to that of the next, within a trial.
        n_train: only so many training samples, spread evenly.

    Raises:
        FileNotFoundError: the archive is not on this machine.
        ValueError: an argument is out of range; a file is malformed or missing in the archive.
    """
    counts = {"past": past, "future": future, "stride": stride, "every": every}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is a count, from 1 on; got {value}")
    path = existing(folder("cmu_mocap_walk") / "subject_35.tar.xz", "it comes with the data set")
    skeleton, trials = read_trials(path)
    parts: dict[str, list[Structure]] = {}
    for part, numbers in SPLIT.items():
        names = [f"35_{number}" for number in numbers]
        if lacking := [name for name in names if name not in trials]:
            raise ValueError(f"{path}: the split names trials; there is no {lacking[0]}.amc in it")
        parts[part] = [
            _sample(skeleton, trials[name], now, name, past, future, stride)
            for name in names
            for now in range(past * stride, len(trials[name]) - future * stride, every)
        ]
    if empty := [part for part, found in parts.items() if not found]:
        raise ValueError(
            f"a sample spans past, present and future; no trial of the {empty[0]} part has "
            f"{(past + future) * stride + 1} frames; give fewer, or a shorter stride"
        )
    train = parts["train"]
    if n_train is not None:
        if not 0 < n_train <= len(train):
            raise ValueError(f"n_train is 1 to {len(train)}; got {n_train}")
        train = [train[i] for i in np.linspace(0, len(train) - 1, n_train).round().astype(int)]
    more = {"joints": list(skeleton.joints), "parents": list(skeleton.parents)}
    card = CARD | more | {"seconds_ahead": future * stride / RATE}
    return Dataset("cmu-mocap", tuple(train), tuple(parts["valid"]), tuple(parts["test"]), card)


def read_trials(path: Path) -> tuple[Skeleton, dict[str, np.ndarray]]:
    """The skeleton in an archive, and for each trial the joints `[frame, joint, 3]` [m].

    Read where it lies: nothing is unpacked.

    Raises:
        ValueError: the archive or a file in it is malformed; there is not one skeleton.
    """
    files = dict(_texts(path))
    skeletons = [name for name in files if name.endswith(".asf")]
    if len(skeletons) != 1:
        raise ValueError(f"{path}: an archive holds one skeleton (.asf); got {len(skeletons)}")
    skeleton = read_skeleton(files[skeletons[0]], f"{path}/{skeletons[0]}")
    trials = {}
    for name, text in files.items():
        if name.endswith(".amc"):
            motion = read_motion(text, skeleton, f"{path}/{name}")
            meters = INCH / skeleton.length
            trials[name.removesuffix(".amc")] = meters * joint_positions(skeleton, motion)
    return skeleton, trials


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each plain file in the archive."""
    try:
        with tarfile.open(path, "r:xz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is None:
                    continue
                if member.size > LARGEST:
                    raise ValueError(f"{member.name} has {member.size} bytes, over {LARGEST}")
                yield PurePosixPath(member.name).name, file.read().decode("ascii")
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {error}; copy it again") from error


def _sample(
    skeleton: Skeleton, x: np.ndarray, now: int, name: str, past: int, future: int, stride: int
) -> Structure:
    here = x[now]
    earlier = x[now - past * stride : now : stride] - here
    later = x[now + stride : now + future * stride + 1 : stride] - here
    parents = np.array(skeleton.parents)
    bone = np.where(parents[:, None] < 0, 0, here - here[parents])
    count = len(parents)
    return Structure(
        here,
        np.zeros(count, np.int32),
        inputs={
            "velocity": RATE * (here - x[now - 1]),
            "history": earlier.swapaxes(0, 1),
            "bone": bone,
            "joint": np.eye(count),
        },
        properties=Properties(
            node_targets={"future": later.swapaxes(0, 1).reshape(count, -1), "last": later[-1]}
        ),
        info={"trial": name, "frame": now},
    )
