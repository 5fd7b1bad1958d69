"""Write a model as a folder that `pair_style geojax` reads.

`saved_model/` is a TensorFlow SavedModel that holds the model's StableHLO (jax2tf), and
`geojax.txt` says what C++ has to know: a fact per line, the SHA-256 of each file, and of itself.

The program maps atoms and edge vectors to the energies of the first atoms and to the derivative of
their sum by every edge vector; that it says what the model says is measured before anything is
written.
"""

import hashlib
import importlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load as read_tensors

from geojax import zoo
from geojax.elements import symbol
from geojax.inference.artifact import card_of, read_parts
from geojax.inference.export import nested_params
from geojax.inference.receptive import receptive_hops
from geojax.model import Model
from geojax.networks import from_table
from geojax.networks.network import input_shapes
from geojax.potential import predict_fn
from geojax_lammps.comparison import compare_with_model, compare_with_tensorflow, padded_inputs
from geojax_lammps.program import INPUTS, OUTPUTS, Program, edge_program

__all__ = ["FORMAT", "TEXT", "convert", "open_model", "signed"]

FORMAT = 1
TEXT = "geojax.txt"


def open_model(name: str | Path) -> Model:
    """A model by its name, its folder or its .geojax file, with its network.

    Raises:
        KeyError, FileNotFoundError, ValueError: as `geojax.load`, and for an ensemble.
    """
    path = Path(name).expanduser()
    if path.suffix != ".geojax":
        return _single(zoo.load(name))
    parts = read_parts(path)
    facts = json.loads(parts["card.json"])
    if "members" in facts:
        raise _refusal(f"{path} is an ensemble; convert one of its members")
    params = nested_params(read_tensors(parts["weights.safetensors"]))
    return Model(from_table(json.loads(parts["network.json"])), params, card_of(facts["card"]))


def convert(model: Model | str | Path, folder: str | Path) -> Path:
    """Write the folder; it is complete or not there.

    Args:
        model: or what `open_model` takes. Numbers are those of `card.dtype`.
        folder: new.

    Raises:
        ValueError: what the model reads or predicts is not what a pair style has: an energy that is
            a sum over atoms, each a function of edge vectors and elements a finite number of edges
            around it.
        FileExistsError: there is something at the folder's place.
        ImportError: TensorFlow is not installed.
        RuntimeError: TensorFlow makes other numbers of the program than jax.
    """
    model = _single(model) if not isinstance(model, str | Path) else open_model(model)
    folder = Path(folder).expanduser()
    if folder.exists():
        raise FileExistsError(f"a model is converted to a new folder; {folder} exists; remove it")
    hops = _checked(model)
    program, inputs = edge_program(model), padded_inputs(model)
    with jax.enable_x64(model.card.dtype == "float64"):
        expected = {k: np.asarray(v) for k, v in jax.jit(program)(*inputs).items()}
    compare_with_model(model, expected, inputs)
    scratch = folder.with_name(folder.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        tensors = _save(program, model.card.dtype, scratch / "saved_model")
        compare_with_tensorflow(scratch / "saved_model", inputs, expected)
        (scratch / TEXT).write_bytes(_facts(model, hops, tensors, scratch))
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def signed(text: str) -> bytes:
    """The text with its SHA-256 in a last line."""
    return (text + f"sha256 {hashlib.sha256(text.encode()).hexdigest()}\n").encode()


def _single(thing: Any) -> Model:
    if not isinstance(thing, Model):
        raise _refusal(
            f"got {type(thing).__name__}; convert a Model, such as a member of an ensemble"
        )
    return thing


def _refusal(found: str) -> ValueError:
    return ValueError(f"a pair style is one model, energies of edges and elements; {found}")


def _checked(model: Model) -> int:
    """How many edges far an energy looks; raises for models that LAMMPS cannot feed."""
    network, card = model.network, model.card
    if inputs := sorted(input_shapes(network)):
        raise _refusal(f"{card.name!r} reads {', '.join(inputs)} too, which LAMMPS does not give")
    if getattr(network, "nearest", None) is not None:
        raise _refusal(f"{card.name!r} listens to the nearest {network.nearest} atoms, however far")
    if not card.elements:
        raise _refusal(f"{card.name!r} has no list of elements in its card; give it one")
    missing = [symbol(z) for z in card.elements if card.E0s and z not in card.E0s]
    if missing:
        raise _refusal(f"{card.name!r} has no E0 for {', '.join(missing)}; complete its card")
    hops = receptive_hops(model)
    predict_fn(network, card.outputs, forces=True)  # refuses what has no forces
    return hops


def _tensorflow() -> Any:
    try:
        return importlib.import_module("tensorflow")
    except ImportError as error:
        raise ImportError(
            "TensorFlow writes the program; pip install 'tensorflow-cpu==2.20.0'"
        ) from error


def _save(program: Program, dtype: str, folder: Path) -> dict[str, str]:
    """Write the SavedModel; its tensors by our names, as "operation:index"."""
    tf = _tensorflow()
    from jax.experimental import jax2tf

    shapes = {"species": [None], "vectors": [None, 3], "senders": [None], "receivers": [None]}
    types = {"vectors": tf.as_dtype(dtype)}
    specs = [
        tf.TensorSpec(shapes.get(name, [3]), types.get(name, tf.int32), name) for name in INPUTS
    ]
    with jax.enable_x64(dtype == "float64"):
        converted = jax2tf.convert(
            program,
            polymorphic_shapes=["(n,)", "(e, 3)", "(e,)", "(e,)", None],
            polymorphic_constraints=("n >= 1", "e >= 1"),
            with_gradient=False,
            native_serialization_platforms=("cpu",),
        )
        function = tf.function(converted, input_signature=specs, autograph=False, jit_compile=True)
        module = tf.Module()
        module.function = function
        signatures = {"serving_default": function.get_concrete_function()}
        tf.saved_model.save(module, str(folder), signatures=signatures)
    content = importlib.import_module("tensorflow.core.protobuf.saved_model_pb2").SavedModel()
    content.ParseFromString((folder / "saved_model.pb").read_bytes())
    signature = content.meta_graphs[0].signature_def["serving_default"]
    return {name: signature.inputs[name].name for name in INPUTS} | {
        name: signature.outputs[name].name for name in OUTPUTS
    }


def _facts(model: Model, hops: int, tensors: Mapping[str, str], folder: Path) -> bytes:
    """The content of geojax.txt."""
    card = model.card
    lines = [
        f"format {FORMAT}",
        f"name {' '.join(card.name.split())}",
        f"dtype {card.dtype}",
        f"cutoff {float(model.network.cutoff)!r}",
        f"hops {hops}",
        *(f"element {symbol(z)} {z} {float(card.E0s.get(z, 0.0))!r}" for z in card.elements),
        *(f"tensor {name} {place}" for name, place in tensors.items()),
    ]
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        lines.append(f"file {len(data)} {hashlib.sha256(data).hexdigest()} {name}")
    return signed("".join(line + "\n" for line in lines))
