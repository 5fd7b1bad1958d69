"""PointNet: each point by itself through one perceptron, and the maximum over the cloud.

    h_i = MLP(x_i),    g = max_i h_i,    y = MLP(g)  or, for each point,  y_i = MLP(h_i, g)

It has no symmetry but permutations and, since positions are taken relative to their mean,
translations: the plain backbone that frames (`Symmetrized`) and augmentation are tried with.

References:
    Qi, Su, Mo, Guibas, "PointNet: deep learning on point sets for 3D classification and
    segmentation", CVPR 2017, https://arxiv.org/abs/1612.00593.
    Puny et al., "Frame averaging for invariant and equivariant network design", ICLR 2022 (the
    widths of `local` features there: all layers of a point, side by side).
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import Irreps, IrrepsArray
from jaxtyping import Array, Float

from geojax.graphs import Graph, centered, graph_of_nodes, pool
from geojax.networks.network import NETWORKS
from geojax.nn import Affine, LayerNorm, node_scalars, node_vectors

__all__ = ["PointHead", "PointNet", "check_readout", "point_inputs"]


def point_inputs(
    graph: Graph, scalars: tuple[str, ...], vectors: tuple[str, ...]
) -> Float[Array, "node d"]:
    """Positions relative to the mean, the components of vectors, and scalars, side by side.

    Raises:
        KeyError: the graph has no input of a name.
    """
    arrows = jnp.concatenate([centered(graph)[..., None], node_vectors(graph, vectors)], -1)
    parts = [jnp.swapaxes(arrows, 1, 2).reshape(arrows.shape[0], -1)]
    if scalars:
        parts.append(node_scalars(graph, (0,), scalars))
    return jnp.concatenate(parts, -1)


def check_readout(readout: str) -> None:
    """Raise a ValueError unless it is "graph" or "node"."""
    if readout not in ("graph", "node"):
        raise ValueError(f"a readout is of a 'graph' or of each 'node'; got {readout!r}")


class PointHead(nn.Module):
    """From features of points to outputs, of clouds or of points.

    With `readout="graph"` a perceptron of the maximum over the cloud, the same at each of its
    points; with "node" one of the point's own features beside that maximum.
    """

    widths: tuple[int, ...]
    readout: str
    irreps_out: str

    @nn.compact
    def __call__(
        self, h: Float[Array, "node channel"], local: Float[Array, "node _"], graph: Graph
    ) -> IrrepsArray:
        """`[node, irreps_out]`.

        Args:
            h: what the maximum is taken of.
            local: features of points, for `readout="node"`.

        Raises:
            ValueError: another readout.
        """
        check_readout(self.readout)
        y = pool(h, graph, "max")
        if self.readout == "node":
            y = jnp.concatenate([local, y[graph_of_nodes(graph)]], -1)
        for i, width in enumerate(self.widths):
            y = nn.relu(LayerNorm(name=f"norm_{i}")(Affine(width, name=f"affine_{i}")(y)))
        y = Affine(Irreps(self.irreps_out).dim, name="output")(y)
        y = y[graph_of_nodes(graph)] if self.readout == "graph" else y
        return IrrepsArray(self.irreps_out, y)


@NETWORKS.register("pointnet")
class PointNet(nn.Module):
    """A perceptron of each point and a maximum over the cloud; see the module.

    Published for classification: the widths below, with learned 3 x 3 and 64 x 64 transforms of
    the inputs and features in between, which later work leaves out, as here. Layers are normalised
    over their channels where the published ones use statistics of the batch.

    Outputs are numbers without symmetry: within `Symmetrized` they are the components of
    `irreps_out` in a frame.
    """

    widths: tuple[int, ...] = (64, 64, 64, 128, 1024)  # of the perceptron of points
    head: tuple[int, ...] = (512, 256)  # of the perceptron of the cloud
    readout: str = "graph"  # "node": one answer for each point
    irreps_out: str = "0e"
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d]
    vectors: tuple[str, ...] = ()  # node inputs [node, 3]

    cutoff: ClassVar[float] = 0.0  # it reads no edges
    group: ClassVar[str] = "T(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: another readout.
        """
        h, layers = point_inputs(graph, self.scalars, self.vectors), []
        for i, width in enumerate(self.widths):
            h = nn.relu(LayerNorm(name=f"norm_{i}")(Affine(width, name=f"affine_{i}")(h)))
            layers.append(h)
        local = jnp.concatenate([h[:, :0], *layers[:-1]], -1)
        return PointHead(self.head, self.readout, self.irreps_out, name="head")(h, local, graph)
