"""VN-DGCNN: edge convolutions in feature space whose features are vectors.

As in DGCNN each layer looks for the nearest nodes in its features; distances of vector features do
not change when the cloud turns. Edges carry v_j - v_i and v_i (the first layer also x_j × x_i, if
wanted) through a vector neuron, and the mean over neighbours follows.

References:
    Deng, Litany, Duan, Poulenard, Tagliasacchi, Guibas, "Vector neurons: a general framework for
    SO(3)-equivariant networks", ICCV 2021, https://arxiv.org/abs/2104.12229.
    Wang et al., "Dynamic graph CNN for learning on point clouds", 2019,
    https://arxiv.org/abs/1801.07829.
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from e3nn_jax import IrrepsArray

from geojax.graphs import Graph
from geojax.networks.network import NETWORKS
from geojax.networks.vn_pointnet import (
    ScalarFactors,
    VectorEdgeConvolution,
    VectorHead,
    point_vectors,
)
from geojax.nn import VectorGraphNorm, VectorLeakyReLU, nearest_nodes

__all__ = ["VNDGCNN"]


@NETWORKS.register("vn-dgcnn")
class VNDGCNN(nn.Module):
    """Vector neurons on edges in feature space, and a maximum of invariants; see the module.

    Widths are a third of DGCNN's, as published, since a vector has three numbers. The published
    maximum of vectors over neighbours, the other choice there, is left out: its directions get no
    derivative. Lengths are normalised over the cloud where the published ones use statistics of the
    batch.

    Invariant under E(3), with vectors 1o equivariant; with `cross` under SE(3), and images in a
    mirror differ. Node inputs `vectors` are more channels at the start, and `scalars` are factors
    of the channels after the first layer, so that vectors know of them too.
    """

    neighbors: int = 20  # of each point, itself among them
    widths: tuple[int, ...] = (21, 21, 42, 85)  # of the edge convolutions
    embedding: int = 341  # of the vectors that invariants are made of
    head: tuple[int, ...] = (512, 256)  # of the perceptron of the cloud
    cross: bool = False  # cross products along the first edges, which tell mirror images apart
    readout: str = "graph"  # "node": one answer for each point
    irreps_out: str = "0e"  # of 0e and 1o
    scalars: tuple[str, ...] = ()  # node inputs [node] or [node, d], invariant
    vectors: tuple[str, ...] = ()  # node inputs [node, 3], polar

    cutoff: ClassVar[float] = 0.0  # it reads no edges
    reads_members: ClassVar[bool] = True

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        return "SE(3)" if self.cross else "E(3)"

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: another readout, or irreps other than 0e and 1o.
        """
        v, layers = point_vectors(graph, self.vectors), []
        place = v[..., 0]
        for i, width in enumerate(self.widths):
            near = nearest_nodes(v.reshape(v.shape[0], -1) if i else place, graph, self.neighbors)
            v = VectorEdgeConvolution(width, self.cross and not i, name=f"edges_{i}")(v, near)
            v = VectorGraphNorm(name=f"norm_{i}")(v, graph)
            if not i:
                v = ScalarFactors(self.scalars, name="scalars")(v, graph)
            layers.append(v)
        layers = jnp.concatenate(layers, -1)
        v = VectorLeakyReLU(self.embedding, shared=True, name="embedding")(layers)
        v = VectorGraphNorm(name="norm")(v, graph)
        head = VectorHead(self.head, self.readout, self.irreps_out, name="head")
        return head(v, layers, graph)
