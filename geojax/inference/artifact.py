"""Open an exported file: hashes first, then test vectors, then predictions. No network code.

Every byte is checked against the manifest before anything is parsed: a StableHLO program with a
flipped bit may run and return wrong numbers, or end the process.
"""

import hashlib
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load as read_tensors

from geojax.graphs import Graph, Properties, Structure, replace_leaves
from geojax.inference.engine import Engine, deviating
from geojax.inference.predictor import Predictor
from geojax.model import Card
from geojax.outputs import Output

__all__ = ["Artifact", "BadArtifact", "open_artifact"]

LARGEST = 2 << 30  # bytes of all parts together
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
FIXED = ("manifest.json", "card.json", "network.json", "weights.safetensors", "vectors.safetensors")


class BadArtifact(ValueError):
    """The file is damaged, not ours, or does not reproduce its own test vectors."""


class Artifact:
    """An opened file: predicts like a `Predictor`, and a calculator takes it.

    Attributes:
        engine: what predicts.
        card: of the model.
        facts: everything in `card.json`: units, versions, dates.
        network: the table that the network can be rebuilt from.
        params: by path.
    """

    def __init__(
        self, facts: Mapping[str, Any], network: Mapping[str, Any], params: Any, programs: Any
    ):
        self.facts, self.network, self.params = facts, network, params
        card = card_of(facts["card"])

        @cache
        def loaded(name: str) -> Callable[..., Any]:
            return jax.jit(jax.export.deserialize(bytearray(programs[name])).call)

        def program(forces: bool, stress: bool, deviations: bool) -> Callable[[Graph], Properties]:
            name = "stress" if stress else "forces" if forces else "energy"
            if deviations and f"{name}_std" in programs:
                name = f"{name}_std"
            run = loaded(name if name in programs else "outputs")
            return lambda graph: replace_leaves(Properties(), run(params, graph._asdict()))

        cutoff = facts["cutoff"]
        reach = math.inf if cutoff is None else cutoff
        deviations = deviating(card, every="members" in facts)
        self.engine = Engine(card, reach, facts["nearest"], False, program, deviations=deviations)
        self.card = card
        self._predictor = Predictor(self.engine)

    def __call__(
        self, structures: Sequence[Structure], properties: Sequence[str] | None = None
    ) -> list[Properties]:
        """See `Predictor`."""
        return self._predictor(structures, properties)


def open_artifact(path: str | Path, *, verify: bool = True) -> Artifact:
    """Open a file that `export` wrote.

    Args:
        path: of the file.
        verify: compute its test vectors and compare.

    Raises:
        FileNotFoundError: there is no such file.
        BadArtifact: it is not an exported model, a part is missing, damaged, too large or not in
            the manifest, its programs cannot be loaded by this jax, or its numbers are not those
            that were stored.
    """
    path = Path(path).expanduser()
    parts = read_parts(path)
    facts = json.loads(parts["card.json"])
    params = read_tensors(parts["weights.safetensors"])
    programs = {
        name.removeprefix("programs/").removesuffix(".bin"): data
        for name, data in parts.items()
        if name.startswith("programs/")
    }
    artifact = Artifact(facts, json.loads(parts["network.json"]), params, programs)
    if verify:
        try:
            reproduce(path, artifact.engine, read_tensors(parts["vectors.safetensors"]))
        except BadArtifact:
            raise
        except Exception as error:
            raise BadArtifact(
                f"the programs of {path} cannot run here ({error}); they were written by jax "
                f"{facts['versions']['jax']} and hold until {facts['programs_expire']}; this is "
                f"jax {jax.__version__}; write them again from its weights: geojax.refresh"
            ) from error
    return artifact


def read_parts(path: Path) -> dict[str, bytes]:
    """All parts, each compared with the manifest before anything is parsed but the manifest.

    Raises: as `open_artifact`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"an exported model is a file; there is none at {path}")
    try:
        with zipfile.ZipFile(path) as file:
            names = [entry.filename for entry in file.infolist()]
            sizes = sum(entry.file_size for entry in file.infolist())
            if len(set(names)) != len(names):
                raise BadArtifact(f"{path} holds a part twice; it was not written by export")
            if any(not _ours(name) for name in names):
                bad = next(name for name in names if not _ours(name))
                raise BadArtifact(f"{path} holds {bad!r}, which no exported model has")
            if any(e.compress_type != zipfile.ZIP_STORED for e in file.infolist()):
                raise BadArtifact(f"{path} is compressed; export writes stored parts")
            if sizes > LARGEST:
                raise BadArtifact(f"{path} claims {sizes} bytes; models have {LARGEST} at most")
            raw = {name: file.read(name) for name in names}
        manifest = json.loads(raw.pop("manifest.json"))["parts"]
        wrong = sorted(set(manifest) ^ set(raw)) or [
            name
            for name, data in raw.items()
            if hashlib.sha256(data).hexdigest() != manifest[name]["sha256"]
        ]
    except BadArtifact:
        raise
    except Exception as error:
        raise BadArtifact(f"{path} is not a whole exported model ({error})") from error
    if wrong:
        raise BadArtifact(
            f"{path} is damaged: {', '.join(wrong)} is not what its manifest says; get it again"
        )
    return raw


def _ours(name: str) -> bool:
    known = name in FIXED or (name.startswith("programs/") and name.endswith(".bin"))
    return known and ".." not in name and "\\" not in name and name.count("/") <= 1


def reproduce(path: Path, engine: Engine, stored: Mapping[str, np.ndarray]) -> None:
    """Run the stored graphs and compare with the stored numbers.

    Raises:
        BadArtifact: a number is not what it was.
    """
    for i in sorted({name.split("/")[0] for name in stored}):
        given: dict[str, Any] = {}
        expected = {}
        for name, value in stored.items():
            if name.startswith(f"{i}/in/"):
                *path_in, last = name.split("/")[2:]
                place = given
                for key in path_in:
                    place = place.setdefault(key, {})
                place[last] = value
            elif name.startswith(f"{i}/out/"):
                expected[name.split("/", 2)[2]] = value
        with jax.enable_x64(engine.card.dtype == "float64"):
            found = engine.program("energy" in expected, False, False)(Graph(**given))
        for name, want in expected.items():
            value = _leaf(found, name)
            error = np.abs(np.asarray(value, np.float64) - want).max()
            limit = TOLERANCE[engine.card.dtype] * max(np.abs(want).max(), 1.0)
            if not error <= limit:
                raise BadArtifact(
                    f"{path} does not reproduce its test vectors here: {name} is {error:.2g} off, "
                    f"the limit is {limit:.2g}; run geojax doctor"
                )


def _leaf(properties: Properties, name: str) -> Any:
    group, _, key = name.partition(".")
    value = getattr(properties, group)
    return value[key] if key else value


def card_of(table: Mapping[str, Any]) -> Card:
    """The card from its plain values (see `dataclasses.asdict`)."""
    values = dict(table)
    values["E0s"] = {int(z): float(e) for z, e in values["E0s"].items()}
    values["outputs"] = tuple(Output(**output) for output in values["outputs"])
    values["elements"] = tuple(values["elements"])
    return Card(**values)
