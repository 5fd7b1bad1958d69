"""DGCNN: edge convolutions on graphs that are made anew of the features of each layer.

    y_i = max_j sigma(theta (x_j - x_i) + phi x_i + b),   j the k nearest to i in x

At first x is what points have and j are neighbours in space, then x are features and j the points
that are alike. All layers side by side go through one more map of each point, and the maximum over
the cloud gives the answer (`PointHead`).

References:
    Wang, Sun, Liu, Sarma, Bronstein, Solomon, "Dynamic graph CNN for learning on point clouds", ACM
    TOG 2019, https://arxiv.org/abs/1801.07829.
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import IrrepsArray
from jaxtyping import Array, Float

from geojax.graphs import Graph
from geojax.networks.network import NETWORKS
from geojax.networks.pointnet import PointHead, point_inputs
from geojax.nn import Affine, LayerNorm, Neighborhood, nearest_nodes, neighbor_max

__all__ = ["DGCNN"]

SLOPE = 0.2


class EdgeConvolution(nn.Module):
    """The maximum over neighbours of a map of [x_j - x_i, x_i], a norm and a leaky ReLU.

    Norm and nonlinearity come after the maximum, and the map acts on nodes: then what is done for
    each edge is one comparison. With a norm by constants, as that of a batch is in the end, this is
    the published function. A map without bias, as published, would lose under a norm over channels
    how far out a point is.
    """

    channels: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "node d"], near: Neighborhood
    ) -> Float[Array, "node channel"]:
        """One row for each node."""
        farthest = lambda y: neighbor_max(y, near) - y
        y = Affine(self.channels, name="affine")((x, farthest), x)
        return nn.leaky_relu(LayerNorm(name="norm")(y), SLOPE)


@NETWORKS.register("dgcnn")
class DGCNN(nn.Module):
    """Edge convolutions in feature space, and a maximum over the cloud; see the module.

    The widths are those published for classification. Released code joins the mean over the cloud
    to the maximum, and its edge functions for segmentation have two layers; neither is done here.
    Layers are normalised over their channels where the published ones use statistics of the batch.

    Without symmetry but for permutations and translations, as PointNet. Nearest neighbours and
    maxima jump: outputs have no smooth derivatives.
    """

    neighbors: int = 20  # of each point, itself among them
    widths: tuple[int, ...] = (64, 64, 128, 256)  # of the edge convolutions
    embedding: int = 1024  # of what the maximum over the cloud is taken of
    head: tuple[int, ...] = (512, 256)  # of the perceptron of the cloud
    readout: str = "graph"  # "node": one answer for each point
    irreps_out: str = "0e"
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d]
    vectors: tuple[str, ...] = ()  # node inputs [node, 3]

    cutoff: ClassVar[float] = 0.0  # it reads no edges
    reads_members: ClassVar[bool] = True
    group: ClassVar[str] = "T(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: another readout.
        """
        x, layers = point_inputs(graph, self.scalars, self.vectors), []
        place = x[:, :3]
        for i, width in enumerate(self.widths):
            near = nearest_nodes(x if i else place, graph, self.neighbors)
            x = EdgeConvolution(width, name=f"layer_{i}")(x, near)
            layers.append(x)
        y = LayerNorm(name="norm")(Affine(self.embedding, name="embedding")(*layers))
        head = PointHead(self.head, self.readout, self.irreps_out, name="head")
        return head(nn.leaky_relu(y, SLOPE), jnp.concatenate(layers, -1), graph)
