"""Geometric algebra attention: points hear of all pairs or triples by their geometric products.

With r_i the position of a point from the mean of its cloud, in units of `scale`, and tuples of two
or three of them (`nn.geometric_algebra_attention` has the equations and the table of what comes out
of them), each layer is a residual block

    h_i <- h_i + attention over all (i, j, ..)(norm(h)),    h_i <- h_i + MLP(norm(h_i))

References:
    Spellings, "Geometric algebra attention networks for small point clouds", 2021,
    https://arxiv.org/abs/2110.02393.
"""

from typing import ClassVar

import flax.linen as nn
from e3nn_jax import Irrep, IrrepsArray
from jaxtyping import Array, Float

from geojax.graphs import Graph, by_graph, centered, graph_of_nodes, of_members, pool
from geojax.networks.network import NETWORKS
from geojax.networks.pointnet import check_readout
from geojax.nn import (
    Affine,
    LayerNorm,
    Perceptron,
    TupleAttention,
    TupleOutput,
    counts,
    in_order,
    node_scalars,
    tuple_irreps,
)

__all__ = ["GeometricAlgebraAttention"]

SCALAR = Irrep(0, 1)


@NETWORKS.register("geometric-algebra-attention")
class GeometricAlgebraAttention(nn.Module):
    """Attention over pairs or triples of all points of a cloud or a molecule; see the module.

    What it can put out, and what it keeps (with `mode="single"` there is less):

        rank 2                      0e 1o 1e       E(3)
        rank 3, chiral = False      0e 1o 1e 0o    E(3)
        rank 3                      0e 1o 1e 0o    SE(3): parity has no meaning, mirrors differ

    Everything has derivatives of every order, so that forces can be taken. Every point hears of
    every other one however far it is, and the origin is the mean of all positions: energies are not
    sums over neighbourhoods. Cells are not read. Time and memory grow as the number of points
    squared or cubed: at rank 3, with 100 points and 32 channels, each array of a layer has 130 MB
    in float32.

    The published networks for molecules have 2 to 6 blocks of 32 channels, and are fed differences
    of positions; positions from the mean cost one power of the number of points less, and "partial"
    and "full" products of them tell all distances as well. Layer norms and the scale are added; the
    option of products of unit vectors, which jump at the origin, is left out.
    """

    channels: int = 32
    layers: int = 2
    hidden: int = 64  # channels inside the perceptrons
    rank: int = 2  # points of a tuple: 2 or 3
    mode: str = "partial"  # "single": of whole tuples alone; "full": of all their runs
    merge: str = "concat"  # what points know: learned maps, or "mean"
    join: str = "concat"  # that with the invariants: learned maps, or "mean"
    chiral: bool = True  # of rank 3: the sign of volumes is seen
    scale: float = 1.0  # unit of length, about the distance of points from the mean
    readout: str = "node"  # "graph": of the mean over nodes; every node gets the result
    irreps_out: str = "0e"  # of those above
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    elements: tuple[int, ...] = ()  # atomic numbers; from the data where empty

    cutoff: ClassVar[float] = 0.0  # it reads no edges
    local: ClassVar[bool] = False
    reads_members: ClassVar[bool] = True

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        return "SE(3)" if self.rank == 3 and self.chiral else "E(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: irreps that no product has, another rank, mode, merge, join or readout, or a
                scale that is not positive.
        """
        check_readout(self.readout)
        if not self.scale > 0:
            raise ValueError(f"a unit of length is positive; got scale={self.scale}")
        widths = counts(self.irreps_out)
        there = tuple_irreps(self.rank, self.mode) | {SCALAR}
        if missing := [str(i) for i in widths if i not in there]:
            raise ValueError(
                f"products of mode {self.mode!r} and rank {self.rank} put out "
                f"{', '.join(sorted(map(str, there)))}; got irreps_out={self.irreps_out!r} with "
                f"{', '.join(missing)}; 1o of pairs needs mode 'partial' or 'full', 0o rank 3"
            )
        r, real = by_graph(centered(graph) / self.scale, graph)
        kind = {f: getattr(self, f) for f in ("rank", "mode", "merge", "join", "chiral")}
        inputs = node_scalars(graph, self.elements, self.scalars)
        h = by_graph(Affine(self.channels, name="embedding")(inputs), graph)[0]
        for i in range(self.layers):
            y = LayerNorm(name=f"norm_{i}_0")(h)
            h = h + TupleAttention(self.hidden, **kind, name=f"attention_{i}")(y, r, real)
            y = LayerNorm(name=f"norm_{i}_1")(h)
            h = h + Perceptron((self.hidden, self.channels), name=f"mlp_{i}")(y)
        h, out = LayerNorm(name="norm")(h), {}
        if tensors := {i: n for i, n in widths.items() if i != SCALAR}:
            output = TupleOutput(tensors, self.hidden, **kind, name="tensors")
            out = {
                i: self._read(of_members(x, graph), graph) for i, x in output(h, r, real).items()
            }
        if SCALAR in widths:
            y = self._read(of_members(h, graph), graph)
            y = Perceptron((self.hidden, widths[SCALAR]), name="scalars_out")(y)
            out[SCALAR] = y[:, None]
        return in_order(out, self.irreps_out)

    def _read(self, x: Float[Array, "node *d"], graph: Graph) -> Float[Array, "node *d"]:
        """Each node's own, or the mean over its graph."""
        if self.readout == "node":
            return x
        mean = pool(x.reshape(x.shape[0], -1), graph, "mean")[graph_of_nodes(graph)]
        return mean.reshape(x.shape)
