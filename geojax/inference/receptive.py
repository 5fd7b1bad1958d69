"""How far away an atom can be and still change the energy of another: measured, not declared.

In a chain whose atoms hear their two neighbours alone, the energy of the first atom depends on
those that are as many edges away as the network passes messages on. The derivatives by positions
further away are exactly zero, since no path leads there. Whatever looks at the whole structure
(means over all atoms, frames, members) reaches the end of every chain.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.graphs import Budget, Edges, Properties, Structure, pad, sample
from geojax.model import Model
from geojax.networks.network import input_shapes
from geojax.potential import predict_fn

__all__ = ["receptive_hops", "receptive_radius"]

LENGTHS = (12, 40)  # atoms of the chains; no network of this field passes on 38 times
SAME = 1e-9  # relative; of one energy in chains of two lengths


def receptive_radius(model: Model) -> float:
    """The distance [Å] within which atoms may change an atom's energy: hops times cutoff.

    Raises:
        ValueError: as `receptive_hops`.
    """
    return receptive_hops(model) * float(model.network.cutoff)


def receptive_hops(model: Model) -> int:
    """How many edges away atoms may be and still change an atom's energy, at least one.

    The largest of what is found with the model's own parameters and with others drawn around them,
    so that a weight that happens to be zero hides nothing.

    Raises:
        ValueError: the model has no energy; its network looks at whole structures, or has no
            finite cutoff.
    """
    network = model.network
    if not any(output.name == "energy" for output in model.card.outputs):
        raise ValueError(
            f"a receptive field is that of an atom's energy; {model.card.name!r} predicts none"
        )
    whole = not getattr(network, "local", True) or getattr(network, "reads_members", False)
    if whole or not 0 < network.cutoff < np.inf:
        raise _unbounded(network, f"it has cutoff {network.cutoff} and may look at all atoms")
    if "part" in input_shapes(network):
        raise _unbounded(network, "it reads the parts of a structure")
    for length in LENGTHS:
        hops = _hops(model, length)
        if hops < length - 2:
            return max(hops, 1)
    raise _unbounded(network, f"in a chain, an atom {LENGTHS[-1] - 1} edges away changes an energy")


def _unbounded(network: Any, found: str) -> ValueError:
    return ValueError(
        "a structure is cut into pieces only for networks that look a finite number of edges far; "
        f"{type(network).__name__} does not: {found}; evaluate the structure whole"
    )


def _hops(model: Model, length: int) -> int:
    """The largest distance in a chain of atoms that has a derivative."""
    run = predict_fn(model.network, [o for o in model.card.outputs if o.name != "hessian"])
    with jax.enable_x64(True):
        graph = _chain(model, length)

        def first(x: Float[Array, "node 3"], params: Any) -> Float[Array, ""]:
            moved = graph._replace(nodes={**graph.nodes, "positions": x})
            energies = run(params, moved).energies
            assert energies is not None
            return energies[0]

        slopes = jax.jit(jax.value_and_grad(first))
        own = jax.tree.map(lambda p: np.asarray(p, np.float64), model.params)
        rng, found = np.random.default_rng(0), []
        for params in (own, _near(own, rng), _near(own, rng)):
            energy, slope = slopes(jnp.asarray(graph.nodes["positions"]), params)
            there = np.flatnonzero(np.any(np.asarray(slope)[:length] != 0, axis=1))
            if not np.isfinite(np.asarray(slope)[:length]).all() or not np.isfinite(energy):
                raise _unbounded(model.network, "the derivatives in a chain are not finite")
            found.append(int(there.max(initial=0)))
        hops = max(found)
        if hops < length - 2:
            _refuse_counting(run, model, own, hops, length)
    return hops


def _refuse_counting(run: Any, model: Model, params: Any, hops: int, length: int) -> None:
    """An energy may depend on how many atoms there are, which no derivative tells."""
    short, long = (
        float(jax.jit(run)(params, _chain(model, length, keep)).energies[0])
        for keep in (hops + 2, length)
    )
    if abs(short - long) > SAME * max(abs(short), abs(long), 1e-3):
        raise _unbounded(
            model.network, f"an energy changes by {abs(short - long):.2g} eV with the atom count"
        )


def _near(params: Any, rng: np.random.Generator) -> Any:
    """Parameters in which nothing is zero, of about the same sizes."""
    return jax.tree.map(
        lambda p: p + 0.3 * rng.normal(size=p.shape) * (p.std() if p.std() > 0 else 0.3), params
    )


def _chain(model: Model, length: int, keep: int | None = None) -> Any:
    """The graph of the first `keep` of `length` atoms, each joined to its neighbours, padded."""
    rng = np.random.default_rng(1)
    network = model.network
    cutoff = float(network.cutoff)
    steps = rng.normal(size=(length, 3)) * [0.4, 1, 1] + [1.5, 0, 0]  # bent and twisted
    steps *= rng.uniform(0.4, 0.6, (length, 1)) * cutoff / np.linalg.norm(steps, axis=1)[:, None]
    elements = model.card.elements or getattr(network, "elements", ()) or (1,)
    shapes = {name: shape for name, shape in input_shapes(network).items()}
    for name, shape in model.card.data.get("inputs", {}).items():
        shapes[name] = tuple(shape)
    n = keep or length
    inputs = {name: rng.normal(size=(length, *shape))[:n] for name, shape in shapes.items()}
    low = np.arange(n - 1)
    senders, receivers = np.concatenate([low + 1, low]), np.concatenate([low, low + 1])
    order = np.lexsort((senders, receivers))
    edges = Edges(
        senders[order].astype(np.int32),
        receivers[order].astype(np.int32),
        np.zeros((2 * (n - 1), 3), int),
    )
    chain = Structure(
        np.cumsum(steps, axis=0)[:n], np.resize(np.array(elements), length)[:n], inputs=inputs
    )
    ready = sample(chain, cutoff, edges=edges, labels=Properties())
    batch = pad([ready], Budget(length + 1, 2 * length, 2), np.float64)
    return jax.tree.map(jnp.asarray, batch.graph)
