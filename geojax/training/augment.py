"""Changes of the training data that differ with every pass, made inside the epoch program.

An augmentation is a frozen dataclass and a function of random keys, one for each structure, and a
batch. Keys are those of the seed, the pass and the structure: not of the place in a batch, so that
any number of devices and a resumed run see the same data. What turns is known by name: the vectors
that the network reads, and labels by the irreps of their outputs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from geojax import so3
from geojax.graphs import (
    Batch,
    Graph,
    Properties,
    clouds_of_nodes,
    graph_of_nodes,
    is_per_node,
    leaves,
    local_index,
    replace_leaves,
)
from geojax.networks.network import vector_inputs
from geojax.outputs import Output
from geojax.registry import Registry, did_you_mean
from geojax.training.turning import Turning, partner_turned, turned

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Crop",
    "Jitter",
    "Rotation",
    "Scale",
    "Thin",
    "augmentations_from_tables",
    "augmenter",
]

AUGMENTATIONS: Registry[Any] = Registry("augmentation")
Keys = Key[Array, "graph"]
AXES = {"x": 0, "y": 1, "z": 2}


@runtime_checkable
class Augmentation(Protocol):
    """What changes a batch; `keeps` says which edges are still right afterwards.

    "distances": all; "neighbors": about the nearest ones; "nothing": none.
    """

    kind: str
    keeps: ClassVar[str]

    def __call__(self, keys: Keys, batch: Batch, turning: Turning) -> Batch:
        """The changed batch; one key for each graph."""
        ...


@AUGMENTATIONS.register("rotation")
@dataclass(frozen=True)
class Rotation:
    """Each structure turned: any way, uniformly, or about one axis; vectors and labels with it.

    With `partner` only the second cloud of a pair turns, and the pose that takes the first to it.
    """

    axis: str = ""  # "x", "y", "z"; any axis where empty
    improper: bool = False  # half of the structures are mirrored too
    partner: bool = False  # only what the node input `part` numbers 1
    choices: int = 0  # one of so many rotations, the same ones in every pass; 0: any
    kind: str = field(default="rotation", init=False)
    keeps: ClassVar[str] = "distances"

    def __post_init__(self):
        if self.axis and self.axis not in AXES:
            raise ValueError(f"an axis is x, y or z, or none for any; got {self.axis!r}")
        if self.choices < 0 or (self.partner and self.improper):
            raise ValueError(
                "rotations are chosen among some or any (0), and those of a partner are proper; "
                f"got choices={self.choices}, partner={self.partner}, improper={self.improper}"
            )

    def __call__(self, keys: Keys, batch: Batch, turning: Turning) -> Batch:
        """Positions, cells, vectors, forces, stress, Hessians, and targets by their irreps."""
        dtype = batch.graph.nodes["positions"].dtype
        matrices = jax.vmap(lambda key: self._matrix(key, dtype))(keys)
        return (partner_turned if self.partner else turned)(batch, matrices, turning)

    def _matrix(self, key: Array, dtype: Any) -> Float[Array, "3 3"]:
        if self.choices:
            number = jax.random.randint(key, (), 0, self.choices)
            key = jax.random.fold_in(jax.random.key(0), number)
        key, mirror = jax.random.split(key)
        if self.axis:
            angle = jax.random.uniform(key, (), dtype, 0, 2 * jnp.pi)
            matrix = so3.from_axis_angle(jnp.zeros(3, dtype).at[AXES[self.axis]].set(angle))
        else:
            matrix = so3.random_rotation(key, dtype=dtype)
        if not self.improper:
            return matrix
        return matrix * jnp.where(jax.random.bernoulli(mirror), -1, 1).astype(dtype)


@AUGMENTATIONS.register("jitter")
@dataclass(frozen=True)
class Jitter:
    """Each point moved a little, normally distributed."""

    std: float = 0.01  # [Å], or the unit of the cloud
    clip: float = 0.05  # the longest move along an axis
    kind: str = field(default="jitter", init=False)
    keeps: ClassVar[str] = "neighbors"

    def __post_init__(self):
        _positive("jitter", std=self.std, clip=self.clip)

    def __call__(self, keys: Keys, batch: Batch, turning: Turning) -> Batch:
        """Positions only."""
        del turning
        x = batch.graph.nodes["positions"]
        draw = lambda key: jax.random.normal(key, (3,), x.dtype)
        noise = self.std * jax.vmap(draw)(_node_keys(keys, batch.graph))
        return _with_positions(batch, x + jnp.clip(noise, -self.clip, self.clip))


@AUGMENTATIONS.register("scale")
@dataclass(frozen=True)
class Scale:
    """Each structure made larger or smaller, by a factor drawn uniformly."""

    low: float = 0.8
    high: float = 1.25
    each: bool = False  # another factor along each axis
    kind: str = field(default="scale", init=False)
    keeps: ClassVar[str] = "neighbors"

    def __post_init__(self):
        _positive("scale", low=self.low, high=self.high)

    def __call__(self, keys: Keys, batch: Batch, turning: Turning) -> Batch:
        """Positions only: normals and other directions stay as they are."""
        del turning
        x = batch.graph.nodes["positions"]
        shape = (3,) if self.each else (1,)
        draw = lambda key: jax.random.uniform(key, shape, x.dtype, self.low, self.high)
        return _with_positions(batch, x * jax.vmap(draw)(keys)[graph_of_nodes(batch.graph)])


@AUGMENTATIONS.register("thin")
@dataclass(frozen=True)
class Thin:
    """A random share of the points left out: others stand in their place, a second time.

    So sizes stay static. A maximum over the cloud does not see the copies, and a mean hardly, as
    every point is repeated about equally often.
    """

    most: float = 0.5  # of the points; the share is drawn uniformly from 0 to this
    kind: str = field(default="thin", init=False)
    keeps: ClassVar[str] = "nothing"

    def __post_init__(self):
        _share("thin", self.most)

    def __call__(self, keys: Keys, batch: Batch, turning: Turning) -> Batch:
        """All arrays and labels of nodes."""
        del turning
        dtype = batch.graph.nodes["positions"].dtype
        draw = lambda key: jax.random.uniform(key, (), dtype)
        share = self.most * jax.vmap(draw)(_folded(keys, 0))
        return _first(batch, jax.vmap(draw)(_node_keys(_folded(keys, 1), batch.graph)), share)


@AUGMENTATIONS.register("crop")
@dataclass(frozen=True)
class Crop:
    """What lies farthest in a random direction left out, as if it had not been seen; see `Thin`."""

    most: float = 0.5  # of the points; the share is drawn uniformly from 0 to this
    kind: str = field(default="crop", init=False)
    keeps: ClassVar[str] = "nothing"

    def __post_init__(self):
        _share("crop", self.most)

    def __call__(self, keys: Keys, batch: Batch, turning: Turning) -> Batch:
        """All arrays and labels of nodes."""
        del turning
        x = batch.graph.nodes["positions"]
        share = self.most * jax.vmap(lambda key: jax.random.uniform(key, (), x.dtype))(
            _folded(keys, 0)
        )
        direction = jax.vmap(lambda key: jax.random.normal(key, (3,), x.dtype))(_folded(keys, 1))
        return _first(batch, jnp.sum(x * direction[graph_of_nodes(batch.graph)], -1), share)


def augmentations_from_tables(tables: Sequence[Any]) -> tuple[Augmentation, ...]:
    """From TOML tables, each with its `kind`; what is an augmentation already stays as it is.

    Raises:
        KeyError: an unknown kind or key.
        ValueError: a number out of its range, or no table.
    """
    found = []
    for table in tables:
        if not isinstance(table, Mapping):
            if type(table) not in dict(AUGMENTATIONS.items()).values():
                raise ValueError(
                    f"an augmentation is a table with its kind; got {table!r}; write "
                    'augment = [{ kind = "rotation" }]'
                )
            found.append(table)
            continue
        options = dict(table)
        kind = AUGMENTATIONS[options.pop("kind", "")]
        known = [f.name for f in fields(kind) if f.init]
        for key in options:
            if key not in known:
                raise KeyError(f"{table['kind']} has no {key!r}; {did_you_mean(key, known)}")
        found.append(kind(**options))
    return tuple(found)


def augmenter(
    steps: Sequence[Augmentation], network: Any, outputs: Sequence[Output]
) -> Callable[[Batch, Array, Array], Batch] | None:
    """`(batch, ids, key) -> batch` for the training of a network, or None without augmentations.

    Raises:
        ValueError: the network reads edges that an augmentation would make wrong, or a pose is
            predicted from invariants, so that it is not said how it turns.
    """
    kept = _kept(network)
    for step in steps:
        if step.keeps not in kept:
            raise ValueError(
                f"edges are found once, before training; {step.kind} would make those of "
                f"{type(network).__name__} wrong; take a network that "
                + ("finds its neighbours itself" if step.keeps == "nothing" else "has no cutoff")
            )
    if not steps:
        return None
    poses = [o.name for o in outputs if o.rotation and o.result != "3x1o"]
    if poses and any(isinstance(step, Rotation) and not step.partner for step in steps):
        raise ValueError(
            f"it is not known how the label of {poses[0]!r} turns with a structure; give turned "
            "copies as data in place of the augmentation rotation"
        )
    inputs = (*vector_inputs(network), *getattr(network, "axes", ()))
    inputs += tuple(o.relative_to for o in outputs if o.relative_to not in ("", "positions"))
    labels = {o.name: o.result for o in outputs if not o.norm}
    return partial(augment, steps=tuple(steps), turning=Turning(inputs, labels))


def _kept(network: Any) -> set[str]:
    """What an augmentation has to keep at least, for the edges that the network reads."""
    if network.cutoff == 0:
        return {"distances", "neighbors", "nothing"}
    no_end = math.isinf(network.cutoff) or getattr(network, "nearest", None) is not None
    return {"distances", "neighbors"} if no_end else {"distances"}


def augment(
    batch: Batch,
    ids: Int[Array, "slot"],
    key: Key[Array, ""],
    *,
    steps: Sequence[Augmentation],
    turning: Turning,
) -> Batch:
    """The batch after all augmentations, one after another.

    Args:
        ids: the number of each structure; -1 in empty places.
        key: of the pass over the data.
    """
    ids = jnp.concatenate([ids, jnp.full(1, -1, ids.dtype)])
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(ids + 1)
    for number, step in enumerate(steps):
        batch = step(_folded(keys, number), batch, turning)
    return batch


def _first(batch: Batch, score: Float[Array, "node"], share: Float[Array, "graph"]) -> Batch:
    """The points with the lowest scores; the share with the highest are replaced by copies.

    Of each cloud by itself where a structure has several, so that parts stay in their order.
    """
    graph = batch.graph
    cloud = clouds_of_nodes(graph)
    number = jax.ops.segment_sum(jnp.ones_like(cloud), cloud, len(cloud), indices_are_sorted=True)
    first = (jnp.cumsum(number) - number)[cloud]
    order = jnp.lexsort((score, cloud)).astype(jnp.int32)
    rows = jnp.arange(len(order), dtype=jnp.int32)
    place = jnp.zeros_like(order).at[order].set(rows - first)  # among those of its cloud
    left_out = share[graph_of_nodes(graph)] * number[cloud].astype(share.dtype)
    kept = jnp.maximum(number[cloud] - jnp.floor(left_out).astype(jnp.int32), 1)
    source = order[first + jnp.where(place < kept, place, (place - kept) % kept)]
    rows = lambda x: x[source]
    of_nodes = lambda p: replace_leaves(
        Properties(), {k: rows(v) if is_per_node(k) else v for k, v in leaves(p).items()}
    )
    nodes = {name: rows(x) for name, x in graph.nodes.items()}
    return Batch(graph._replace(nodes=nodes), of_nodes(batch.labels), of_nodes(batch.masks))


def _with_positions(batch: Batch, positions: Array) -> Batch:
    nodes = {**batch.graph.nodes, "positions": positions}
    return batch._replace(graph=batch.graph._replace(nodes=nodes))


def _folded(keys: Keys, number: int) -> Keys:
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _node_keys(keys: Keys, graph: Graph) -> Key[Array, "node"]:
    """A key for each node, by its number in its structure."""
    return jax.vmap(jax.random.fold_in)(keys[graph_of_nodes(graph)], local_index(graph))


def _positive(kind: str, **numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < float("inf"):
            raise ValueError(f"{name} of {kind} is a positive number; got {number}")


def _share(kind: str, most: float) -> None:
    if not 0 < most < 1:
        raise ValueError(f"{kind} leaves out a share between 0 and 1 at most; got most={most}")
