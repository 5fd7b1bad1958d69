"""Frames of structures, and the providers of them.

A frame has an origin c and axes, the columns of an orthogonal matrix R: the point x has the
coordinates u = Rᵀ (x - c) in it, and x = R u + c. A provider gives every structure X one or more
frames with weights, which move along with it: those of g X are those of X moved by g, in any order.
So the weighted mean of what a function finds in them does not depend on how a structure lies
(`symmetrize`).

References:
    Puny et al., "Frame averaging for invariant and equivariant network design", ICLR 2022,
    https://arxiv.org/abs/2110.03336.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_divide
from geojax.graphs import Graph, graph_of_edges
from geojax.graphs.graph import n_graphs
from geojax.registry import Registry, did_you_mean

__all__ = [
    "PROVIDERS",
    "Frames",
    "Provider",
    "check_group",
    "known",
    "pick",
    "provider_of",
    "unless_periodic",
]

SIGNS = {  # of axes: all that keep the hand of a right-handed frame, or simply all
    "SE(3)": np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]),
    "E(3)": np.stack(np.meshgrid(*[[1, -1]] * 3, indexing="ij"), -1).reshape(-1, 3),
}


class Frames(NamedTuple):
    """Frames of each graph; those of padding have weight zero.

    Attributes:
        matrices: orthogonal; the columns are the axes.
        origins: of all frames of a graph [Å].
        weights: their sum is 1 for a real graph, and 0 for padding; NaN where the provider has no
            frames for a structure.
    """

    matrices: Float[Array, "graph frame 3 3"]
    origins: Float[Array, "graph 3"]
    weights: Float[Array, "graph frame"]


@runtime_checkable
class Provider(Protocol):
    """Anything that gives frames to the graphs of a batch; its fields are its configuration."""

    @property
    def group(self) -> str:
        """The motions that its frames follow: "E(3)" (with reflections) or "SE(3)"."""
        ...

    @property
    def conservative(self) -> bool:
        """Whether derivatives of a symmetrized function are exact, those of the frames included."""
        ...

    @property
    def exact(self) -> bool:
        """Whether symmetry is exact, and not only in the mean over draws."""
        ...

    @property
    def periodic(self) -> bool:
        """Whether it also has frames for crystals."""
        ...

    def __call__(self, graph: Graph) -> Frames:
        """The frames of each graph."""
        ...


PROVIDERS: Registry[Any] = Registry("provider of frames")


def provider_of(name: str, options: Mapping[str, Any]) -> Any:
    """The provider with that name and those fields.

    Raises:
        KeyError: there is no such provider, or it has no such field.
    """
    kind = PROVIDERS[name]
    known = {f.name for f in dataclasses.fields(kind) if f.init} - {"parent", "name"}
    for option in options:
        if option not in known:
            raise KeyError(
                f"the options of a provider are its fields; {name!r} has no {option!r}; "
                f"{did_you_mean(option, known)}"
            )
    return kind(**options)


def check_group(group: str) -> None:
    """Raise a ValueError unless frames can be made for this group."""
    if group not in SIGNS:
        raise ValueError(
            f"frames are made for {' or '.join(SIGNS)}; got group={group!r}; E(3) makes mirror "
            "images alike"
        )


def pick(frames: Frames, numbers: Float[Array, "graph"]) -> Frames:
    """One frame of each graph, drawn with the weights as probabilities.

    The mean over draws of what is found in it is that of all frames. So is the mean of derivatives,
    if weights are constants.

    Args:
        frames: to choose from.
        numbers: uniform in [0, 1), such as `jax.random.uniform(key, n)`.
    """
    total = jnp.sum(frames.weights, 1)
    below = jnp.cumsum(frames.weights, 1) <= (numbers * total)[:, None]
    last = jnp.argmax(jnp.cumsum(frames.weights > 0, 1), 1)
    index = jnp.minimum(jnp.sum(below, 1), last)
    matrices = jnp.take_along_axis(frames.matrices, index[:, None, None, None], 1)
    return Frames(matrices, frames.origins, safe_divide(total, total)[:, None])


def unless_periodic(frames: Frames, graph: Graph, provider: str) -> Frames:
    """The frames, with weights NaN for structures that repeat; for a provider that has none there.

    A crystal has no centre, and which image of an atom is listed would change the frames. It is
    told by an edge that crosses a boundary of the cell: a molecule in a box does not matter.

    Args:
        frames: of the graph.
        graph: whose edges are looked at.
        provider: its name, for the error.

    Raises:
        ValueError: such an edge, where edges are numbers; inside a program they are not.
    """
    shifts = graph.edges["shifts"]
    crosses = jnp.any(shifts != 0, -1)
    if not isinstance(crosses, Tracer) and bool(crosses.any()):
        raise ValueError(
            f"{provider} frames are made of positions relative to the centre, which a crystal does "
            f"not have; got {int(crosses.sum())} edges across the boundaries of cells; take a "
            "network that is equivariant by itself, or a provider with periodic = True"
        )
    count = jax.ops.segment_sum(
        crosses.astype(jnp.int32), graph_of_edges(graph), n_graphs(graph), indices_are_sorted=True
    )
    return frames._replace(weights=known(frames.weights, count == 0))


@jax.jit  # outside of a program too, where jax's search for NaN would stop at the constant
def known(
    weights: Float[Array, "graph frame"], where: Bool[Array, "graph"]
) -> Float[Array, "graph frame"]:
    """The weights, and NaN for graphs that a provider has no frames for."""
    return jnp.where(where[:, None], weights, jnp.nan)
