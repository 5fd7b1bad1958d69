"""`Engine`: what predicts, compiled when it is first asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import jax
import numpy as np

from geojax.curvature import dense_hessian, hessian_vector_product, strain_derivatives
from geojax.deviations import std_name
from geojax.graphs import Graph, Properties, leaves, replace_leaves
from geojax.model import Card, Model
from geojax.outputs import Output
from geojax.potential import predict_fn

__all__ = [
    "Engine",
    "calibration_factors",
    "deviating",
    "engine_of",
    "function_of",
    "make_engine",
    "without_hessian",
]

OF_ENERGY = ("energy", "energies", "forces", "stress")


@dataclass(frozen=True, eq=False)
class Engine:
    """What predicts: a model, or an artifact without the model's code.

    Attributes:
        card: of the model.
        cutoff: [Å], of the graphs that it reads.
        nearest: see `graphs.sample`.
        members: whether graphs have places for their nodes, see `graphs.members`.
        program: `(forces, stress, deviations) -> (graph -> Properties)`, jitted; without Hessians.
            The deviations are those of forces and stress, which cost a shallow ensemble a backward
            pass for each member; others come anyway.
        hessian: `graph -> [node, 3, node, 3]` of one structure, by differentiation; None where it
            cannot be had.
        rows: `(graph, slots) -> [node, slot, 3, 3]` of a batch, where the model predicts Hessians
            directly; else None.
        curvature: `(graph, [node, 3]) -> [node, 3]`, the Hessian of the energy times a vector.
        strains: second derivatives by strain, and by strain and positions, of one structure; see
            `strain_derivatives`.
        deviations: the properties that have a standard deviation, see `deviations.std_name`.
    """

    card: Card
    cutoff: float
    nearest: int | None
    members: bool
    program: Callable[[bool, bool, bool], Callable[[Graph], Properties]]
    hessian: Callable[[Graph], Any] | None = None
    rows: Callable[[Graph, int], Any] | None = None
    curvature: Callable[[Graph, Any], Any] | None = None
    strains: Callable[[Graph], tuple[Any, Any]] | None = None
    deviations: tuple[str, ...] = ()


def engine_of(thing: Any) -> Engine:
    """The engine of a `Model`, an `Ensemble`, a `Predictor` or an `Artifact`.

    Raises:
        TypeError: it is none of them.
    """
    engine = thing if isinstance(thing, Engine) else getattr(thing, "engine", None)
    if isinstance(engine, Engine):
        return engine
    if not isinstance(thing, Model):
        raise TypeError(
            "predictions are made by a Model, a Predictor or an opened artifact; got "
            f"{type(thing).__name__}; geojax.load and geojax.open_artifact make them"
        )
    return make_engine(thing.network, thing.params, thing.card)


def make_engine(
    network: Any, params: Any, card: Card, around: Callable[[Any], Any] | None = None
) -> Engine:
    """The engine of a network.

    Args:
        params: those of one model, or whatever `around` makes of them.
        around: see `function_of`.
    """
    params = jax.tree.map(lambda x: np.asarray(x, card.dtype), params)
    outputs = without_hessian(card.outputs)
    direct = [output for output in card.outputs if output.name == "hessian"]
    function = partial(function_of, network, card, around)

    @cache
    def program(forces: bool, stress: bool, deviations: bool) -> Callable[[Graph], Properties]:
        run = function(outputs, forces=forces, stress=stress, deviations=deviations)
        return partial(jax.jit(run), params)

    @cache
    def derived(derivative: Callable[..., Any]) -> Callable[..., Any]:
        return partial(jax.jit(partial(derivative, function(outputs, forces=True))), params)

    @cache
    def rows_program(slots: int) -> Callable[[Graph], Any]:
        run = function([*outputs, replace(direct[0], slots=slots)])
        return partial(jax.jit(lambda params, graph: run(params, graph).hessian), params)

    return Engine(
        card,
        network.cutoff,
        getattr(network, "nearest", None),
        getattr(network, "reads_members", False),
        program,
        hessian=lambda graph: derived(dense_hessian)(graph),
        rows=(lambda graph, slots: rows_program(slots)(graph)) if direct else None,
        curvature=lambda graph, vector: derived(hessian_vector_product)(graph, vector),
        strains=lambda graph: derived(strain_derivatives)(graph),
        deviations=deviating(card, every=around is not None),
    )


def function_of(
    network: Any,
    card: Card,
    around: Callable[[Any], Any] | None,
    outputs: Sequence[Output],
    **what: bool,
) -> Callable[[Any, Graph], Properties]:
    """The function `(params, graph) -> Properties` that is evaluated.

    Args:
        around: from that of one model to that of an ensemble, which returns standard deviations
            too; None: that of one model.
        what: see `predict_fn`.

    Raises:
        ValueError: the card's calibration is that of something else.
    """
    factors = calibration_factors(card, every=around is not None)
    run = predict_fn(network, outputs, **what)
    run = run if around is None else around(run)

    def evaluate(params: Any, graph: Graph) -> Properties:
        found = run(params, graph)
        spread = {std_name(name): factor for name, factor in factors.items()}
        there = {k: v * spread[k] for k, v in leaves(found).items() if k in spread}
        return replace_leaves(found, there)

    return evaluate if factors else run


def deviating(card: Card, *, every: bool) -> tuple[str, ...]:
    """What has a standard deviation: all that an ensemble predicts, besides Hessians, or, where it
    is not `every` output, those of a shallow one."""
    names = [o.name for o in without_hessian(card.outputs) if every or o.members > 1]
    return tuple(dict.fromkeys([*names, *(OF_ENERGY if "energy" in names else ())]))


def calibration_factors(card: Card, *, every: bool) -> dict[str, float]:
    """What standard deviations are multiplied by, by property; others stay as they are.

    Raises:
        ValueError: a property has no standard deviation.
    """
    known = deviating(card, every=every)
    if unknown := card.calibration.keys() - set(known):
        raise ValueError(
            f"a calibration is that of predicted properties; {', '.join(sorted(unknown))} is "
            f"none of {', '.join(known) or 'them'}; calibrate this ensemble again"
        )
    return {name: float(row["factor"]) for name, row in card.calibration.items()}


def without_hessian(outputs: Sequence[Output]) -> list[Output]:
    """The outputs that every program computes; a direct Hessian has a program of its own."""
    return [output for output in outputs if output.name != "hessian"]
