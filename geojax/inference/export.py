"""Write a model as one file that runs without the model's code.

A zip without compression: `card.json`, `network.json` (to rebuild the network from its code),
`weights.safetensors` (the lasting half), `programs/*.bin` (StableHLO by `jax.export`, with
symbolic numbers of nodes, edges and graphs, lowered for cpu, cuda and tpu: the fast half),
`vectors.safetensors` (inputs and outputs that are compared on opening), and `manifest.json` with
the SHA-256 of each.
"""

import hashlib
import importlib.metadata
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensors

from geojax.files import write_whole
from geojax.graphs import Graph, Structure, leaves, sample
from geojax.inference.artifact import card_of, read_parts, reproduce
from geojax.inference.engine import engine_of, function_of, without_hessian
from geojax.inference.ensemble import Ensemble, over_members, unstacked
from geojax.inference.predictor import Predictor
from geojax.model import Model, named

__all__ = ["FORMAT", "export", "flat_params", "plain_graph", "real_graph", "refresh"]

FORMAT = 1
LIFE = timedelta(days=180)  # jax promises to load its exports for so long
PLATFORMS = ("cpu", "cuda", "tpu")


def export(
    model: Model | Ensemble,
    path: str | Path,
    *,
    platforms: Sequence[str] = PLATFORMS,
    vectors: Sequence[Structure] = (),
) -> Path:
    """Write the file; it is complete or not there.

    Args:
        model: with an energy, energies, forces and stress are programs; else its outputs.
            Hessians, direct or derived, are left out: they need the model. Programs of an ensemble
            return its means and standard deviations.
        platforms: to lower for, whatever this machine has.
        vectors: structures whose predictions are stored and compared on opening; by default a
            small generated one.

    Raises:
        ValueError: an unknown platform.
        OSError: the file cannot be written; one that was there before is untouched.
    """
    path = Path(path).expanduser()
    for platform in platforms:
        if platform not in PLATFORMS:
            raise ValueError(f"platforms are among {', '.join(PLATFORMS)}; got {platform!r}")
    return _write(model, path, platforms, _vectors(model, list(vectors) or [_small(model)]))


def refresh(
    path: str | Path, output: str | Path | None = None, *, platforms: Sequence[str] = PLATFORMS
) -> Path:
    """Write a file again with programs of this jax, from its own weights and network.

    The rebuilt network has to reproduce the test vectors of the file, which are kept.

    Args:
        path: of the file; its programs may have expired.
        output: where to write; in place of the file by default.
        platforms: see `export`.

    Raises:
        BadArtifact: the file is damaged, or the network's code gives other numbers today.
    """
    from geojax.networks import from_table

    path = Path(path).expanduser()
    parts = read_parts(path)
    params = nested_params(read_tensors(parts["weights.safetensors"]))
    facts = json.loads(parts["card.json"])
    card, network = card_of(facts["card"]), from_table(json.loads(parts["network.json"]))
    model = Model(network, params, card)
    if members := facts.get("members"):
        model = unstacked(model, members)
    reproduce(path, engine_of(model), read_tensors(parts["vectors.safetensors"]))
    return _write(model, Path(output or path).expanduser(), platforms, parts["vectors.safetensors"])


def _write(model: Model | Ensemble, path: Path, platforms: Sequence[str], vectors: bytes) -> Path:
    from geojax.networks import to_table  # here: opening a file must not load the networks

    inputs = _inputs(vectors)
    params = flat_params(model.params, model.card.dtype)
    parts = {"card.json": _json(_card(model)), "network.json": _json(to_table(model.network))}
    parts["weights.safetensors"] = tensors(params)
    for name, what in programs_of(model).items():
        parts[f"programs/{name}.bin"] = _program(model, what, platforms, inputs)
    parts["vectors.safetensors"] = vectors
    digest = lambda data: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    manifest = {"format": FORMAT, "parts": {name: digest(data) for name, data in parts.items()}}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        for name, data in {"manifest.json": _json(manifest), **parts}.items():
            file.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole({path: whole.getvalue()})
    return path


def programs_of(model: Model | Ensemble) -> dict[str, dict[str, bool]]:
    """Name -> what the program returns, as in `predict_fn`.

    A shallow ensemble has programs of their own for the deviations of forces and stress.
    """
    energy = next((output for output in model.card.outputs if output.name == "energy"), None)
    if energy is None:
        return {"outputs": {}}
    found: dict[str, dict[str, bool]] = {"energy": {}, "forces": {"forces": True}}
    found["stress"] = {"forces": True, "stress": True}
    if energy.members > 1:
        derived = {name: found[name] | {"deviations": True} for name in ("forces", "stress")}
        return found | {f"{name}_std": what for name, what in derived.items()}
    return found


def flat_params(params: Any, dtype: str) -> dict[str, np.ndarray]:
    """Arrays of one dtype by the names of `model.named`."""
    return {name: np.ascontiguousarray(np.asarray(x, dtype)) for name, x in named(params)}


def nested_params(flat: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `flat_params`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split("/")
        place = tree
        for key in path:
            place = place.setdefault(key, {})
        place[last] = value
    return tree


def plain_graph(graph: Graph) -> dict[str, Any]:
    """The graph as dictionaries, which a stored program can take."""
    return graph._asdict()


def real_graph(plain: dict[str, Any]) -> Graph:
    """The inverse of `plain_graph`."""
    return Graph(**plain)


def _program(
    model: Model | Ensemble,
    what: Mapping[str, bool],
    platforms: Sequence[str],
    inputs: dict[str, Any],
) -> bytes:
    """One program `(params, graph) -> {name: array}`, serialised."""
    outputs = without_hessian(model.card.outputs)
    around = over_members if isinstance(model, Ensemble) else None
    run = function_of(model.network, model.card, around, outputs, **what)
    flat = flat_params(model.params, model.card.dtype)

    def program(flat: dict[str, Any], graph: dict[str, Any]) -> dict[str, Any]:
        return leaves(run(nested_params(flat), real_graph(graph)))

    n, e, g = jax.export.symbolic_shape("n, e, g", constraints=["n >= 1", "e >= 1", "g >= 2"])
    with jax.enable_x64(model.card.dtype == "float64"):
        shape = lambda dims, dtype=model.card.dtype: jax.ShapeDtypeStruct(dims, np.dtype(dtype))
        more = {name: shape((n, *v.shape[1:])) for name, v in inputs.items()}
        graph = Graph(
            nodes={"positions": shape((n, 3)), "species": shape((n,), "int32"), **more},
            edges={"shifts": shape((e, 3))},
            senders=shape((e,), "int32"),
            receivers=shape((e,), "int32"),
            globals={"cell": shape((g, 3, 3))},
            n_node=shape((g,), "int32"),
            n_edge=shape((g,), "int32"),
        )
        like = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in flat.items()}
        exported = jax.export.export(jax.jit(program), platforms=list(platforms))
        return bytes(exported(like, plain_graph(graph)).serialize())


def _small(model: Model | Ensemble) -> Structure:
    """A few atoms of the model's elements at bonding distances."""
    rng = np.random.default_rng(0)
    elements = model.card.elements or (0,)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    positions = 1.6 * corners[:6] + 0.1 * rng.normal(size=(6, 3))
    species = np.array([elements[i % len(elements)] for i in range(6)])
    return Structure(positions, species)


def _vectors(model: Model | Ensemble, structures: Sequence[Structure]) -> bytes:
    """Graphs and what the model makes of them."""
    predictor, stored = Predictor(model), {}
    for i, structure in enumerate(structures):
        ready = sample(structure, predictor.engine.cutoff, nearest=predictor.engine.nearest)
        graph = predictor.padded([ready])
        rows = jax.tree_util.tree_leaves_with_path(plain_graph(graph))
        for path, value in rows:
            key = "/".join(str(k.key) for k in path)
            stored[f"{i}/in/{key}"] = np.ascontiguousarray(value)
        energy = any(output.name == "energy" for output in model.card.outputs)
        with jax.enable_x64(model.card.dtype == "float64"):
            for name, value in leaves(
                predictor.engine.program(energy, False, False)(graph)
            ).items():
                stored[f"{i}/out/{name}"] = np.ascontiguousarray(value)
    return tensors(stored)


def _inputs(vectors: bytes) -> dict[str, np.ndarray]:
    """What nodes of the test vectors carry besides positions and species."""
    start = "0/in/nodes/"
    found = {name: value for name, value in read_tensors(vectors).items() if name.startswith(start)}
    found = {name.removeprefix(start): value for name, value in found.items()}
    return {k: v for k, v in found.items() if k not in ("positions", "species")}


def _card(model: Model | Ensemble) -> dict[str, Any]:
    now = datetime.now(UTC)
    card = model.card
    members = {"members": len(model)} if isinstance(model, Ensemble) else {}
    return members | {
        "card": asdict(card) | {"E0s": {str(z): e for z, e in card.E0s.items()}},
        "cutoff": model.network.cutoff,
        "nearest": getattr(model.network, "nearest", None),
        "units": {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³", "positions": "Å"},
        "date": now.isoformat(timespec="seconds"),
        "programs_expire": (now + LIFE).date().isoformat(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "e3nn-jax")
        },
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a card holds plain values; got {type(value).__name__}")
