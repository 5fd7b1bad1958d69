"""What a network is: the protocol, the registry, and building one from a table of its fields."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import numpy as np
from e3nn_jax import IrrepsArray

from geojax.elements import symbol
from geojax.graphs import Graph, Sample
from geojax.registry import Registry, did_you_mean
from geojax.settings import check_kinds

__all__ = [
    "FIELDS",
    "NETWORKS",
    "Network",
    "OnBackbone",
    "fit_to_data",
    "from_table",
    "input_shapes",
    "scalar_inputs",
    "to_table",
    "vector_inputs",
    "with_fields",
]

NETWORKS: Registry[type[nn.Module]] = Registry("network")

# What fields mean that many networks have, where they do not say it themselves.
FIELDS = {
    "channels": "of the features, for each degree where there are several",
    "layers": "of message passing",
    "lmax": "largest degree of the features",
    "heads": "of the attention",
    "n_basis": "functions of the distance that the radial networks read",
    "radial_width": "hidden width of the radial networks",
    "edge_channels": "of the numbers of an edge that the radial networks read",
    "irreps_out": "what is put out for each node; the outputs take it in slices",
}

ALIASES = {"r_max": "cutoff"}
LINEN = ("parent", "name")


@runtime_checkable
class Network(Protocol):
    """Anything that maps a graph to one equivariant vector per node.

    The fields of the implementing `flax.linen.Module` are its configuration. Two of them may wait
    for the data: `elements` (empty) and `average_neighbors` (None); see `fit_to_data`.
    """

    cutoff: float  # [Å]; edges longer than this must not change the output; may be infinite
    irreps_out: str  # of each node's output

    def init(self, key: Any, graph: Graph) -> Any:
        """The parameters, float32."""
        ...

    def apply(self, params: Any, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`. Rows of padding nodes are arbitrary but finite."""
        ...


class OnBackbone:
    """What a network on top of another has from it: the field `backbone`."""

    backbone: Any

    @property
    def group(self) -> str:
        """The symmetry that the network keeps: that of the backbone."""
        return getattr(self.backbone, "group", "E(3)")

    @property
    def conservative(self) -> bool:
        """Whether forces may be taken."""
        return getattr(self.backbone, "conservative", True)

    @property
    def local(self) -> bool:
        """Whether nodes beyond the cutoff have no part in an output."""
        return getattr(self.backbone, "local", True)

    @property
    def reads_members(self) -> bool:
        """Whether the backbone looks at whole structures."""
        return getattr(self.backbone, "reads_members", False)

    @property
    def nearest(self) -> int | None:
        """How many nearest senders the backbone listens to, if it does."""
        return getattr(self.backbone, "nearest", None)

    @property
    def scalars(self) -> tuple[str, ...]:
        """Invariant node inputs of the backbone, its charge among them."""
        return scalar_inputs(self.backbone)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Node inputs of the backbone that turn: its vectors, its velocity and its axes."""
        return (*vector_inputs(self.backbone), *getattr(self.backbone, "axes", ()))


def _fields(kind: type) -> dict[str, dataclasses.Field]:
    return {f.name: f for f in dataclasses.fields(kind) if f.init and f.name not in LINEN}


def from_table(table: Mapping[str, Any]) -> Any:
    """The network that a TOML table describes: `name`, and fields of that network.

    A field that is itself a network is a table of the same kind.

    Raises:
        KeyError: the name is not a network's, or a key is not a field of it.
        ValueError: a field is given under two names, or no name is given; a value of another kind.
    """
    if "name" not in table:
        raise ValueError(f"a network table has a name; got {sorted(table)}; add name = 'nequip'")
    kind = NETWORKS[str(table["name"])]
    fields = _fields(kind)
    values = {}
    for key, value in table.items():
        field = ALIASES.get(key, key)
        if key == "name":
            continue
        if field not in fields:
            raise KeyError(
                f"a network table holds fields of the network; {table['name']!r} has no {key!r}; "
                f"{did_you_mean(key, fields)}"
            )
        if field in values:
            raise ValueError(f"a field is given once; {field!r} came twice (also as {key!r})")
        values[field] = value
    check_kinds(values, kind, "network")
    return kind(**{field: _from_toml(value) for field, value in values.items()})


def _from_toml(value: Any) -> Any:
    """The value of a field: lists are tuples, and a table is a network."""
    if isinstance(value, Mapping):
        return from_table(value)
    return tuple(value) if isinstance(value, list) else value


def to_table(network: Any) -> dict[str, Any]:
    """The table that `from_table` turns back into this network; every field, defaults too."""
    names = {kind: name for name, kind in NETWORKS.items()}
    if type(network) not in names:
        raise KeyError(
            f"only registered networks have a name; got {type(network).__name__}; decorate it with "
            "@NETWORKS.register('its-name')"
        )
    values = {name: getattr(network, name) for name in _fields(type(network))}
    values = {k: to_table(v) if isinstance(v, nn.Module) else v for k, v in values.items()}
    return {"name": names[type(network)]} | {k: v for k, v in values.items() if v is not None}


def scalar_inputs(network: Any) -> tuple[str, ...]:
    """The invariant node inputs that a network reads by name, its charge among them."""
    charge = getattr(network, "charge", "")
    return (*getattr(network, "scalars", ()), *[charge] * bool(charge))


def vector_inputs(network: Any) -> tuple[str, ...]:
    """The polar node inputs that a network reads by name, velocities and histories among them.

    Arrays `[node, 3]`, or `[node, k, 3]`.
    """
    more = [getattr(network, field, "") for field in ("velocity", "second", "history")]
    return (*getattr(network, "vectors", ()), *filter(None, more))


def input_shapes(network: Any) -> dict[str, tuple[int, ...]]:
    """The node inputs that a network reads by name, as one number or one vector of each node.

    More numbers or vectors of a name are a matter of the data: the card of a trained model has
    their shapes in `data["inputs"]`.
    """
    vectors = (*vector_inputs(network), *getattr(network, "axes", ()))
    shapes: dict[str, tuple[int, ...]] = {name: (3,) for name in vectors}
    numbers = (*scalar_inputs(network), *["part"] * getattr(network, "reads_parts", False))
    return shapes | {name: () for name in numbers}


def with_fields(network: Any, **wanted: Any) -> Any:
    """The network with those fields set that it has and that are not None."""
    known = {f.name for f in dataclasses.fields(network)}
    changes = {
        name: value
        for name, value in wanted.items()
        if name in known and value is not None and getattr(network, name) != value
    }
    return network.clone(**changes) if changes else network


def fit_to_data(network: Any, samples: Sequence[Sample]) -> Any:
    """The network with the fields that wait for the data filled in from the training samples.

    `elements`: the atomic numbers that occur; `average_neighbors`: the mean number of edges per
    node. Fields that are set already stay as they are. A network inside is fitted to the edges
    within its own cutoff.

    Raises:
        ValueError: the data hold elements that the network was not made for.
    """
    fields = _fields(type(network))
    found = sorted({int(z) for s in samples for z in np.unique(s.graph.nodes["species"])})
    changes: dict[str, Any] = {}
    if "elements" in fields:
        if not network.elements:
            changes["elements"] = tuple(found)
        elif unknown := sorted(set(found) - set(network.elements)):
            raise ValueError(
                f"a network knows its elements; it was made for {list(network.elements)} and the "
                f"data hold {unknown} as well ({', '.join(map(symbol, unknown))}); give the "
                "network all elements, or take the structures out"
            )
    if "average_neighbors" in fields and network.average_neighbors is None:
        edges = sum(int(s.graph.n_edge.sum()) for s in samples)
        nodes = sum(int(s.graph.n_node.sum()) for s in samples)
        changes["average_neighbors"] = max(edges / max(nodes, 1), 1.0)
    for name in fields:
        inner = getattr(network, name)
        if isinstance(inner, nn.Module):
            changes[name] = fit_to_data(inner, _Within(samples, inner.cutoff))
    return dataclasses.replace(network, **changes) if changes else network


class _Within(Sequence[Sample]):
    """Samples with the edges within a cutoff, made when asked for: there may be many."""

    def __init__(self, samples: Sequence[Sample], cutoff: float):
        self._samples, self._cutoff = samples, cutoff

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: Any) -> Any:
        return _within(self._samples[index], self._cutoff)


def _within(sample: Sample, cutoff: float) -> Sample:
    """The sample without the edges beyond a cutoff (and without the empty slots of a table)."""
    graph = sample.graph
    x, cell = graph.nodes["positions"], graph.globals["cell"][0]
    ends = x[graph.receivers] - x[graph.senders]
    kept = np.linalg.norm(ends + graph.edges["shifts"] @ cell, axis=-1) <= cutoff
    kept &= graph.edges.get("mask", True)
    return sample._replace(
        graph=graph._replace(
            edges={"shifts": graph.edges["shifts"][kept]},
            senders=graph.senders[kept],
            receivers=graph.receivers[kept],
            n_edge=np.array([kept.sum()], np.int32),
        )
    )
