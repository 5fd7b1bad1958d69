"""One backbone on each part of a structure, and a perceptron of all of them: for poses.

    g_k = mean over part k of backbone(part k),    y = MLP(g_0, g_1, …)

Two clouds give their relative pose so (`Output(rotation="6d")`), or a number that compares them.
The backbone sees each part alone, about its own mean: where the parts are relative to each other
has no influence, only what they are and how they are turned, as far as the backbone sees that.

References:
    Zhou, Barnes, Lu, Yang, Li, "On the continuity of rotation representations in neural networks",
    CVPR 2019, https://arxiv.org/abs/1812.07035 (pose of point clouds: PointNet on both).
"""

from dataclasses import field
from typing import Any, ClassVar

import flax.linen as nn
from e3nn_jax import Irreps, IrrepsArray

from geojax.graphs import Graph, graph_of_nodes, pool, split_parts
from geojax.networks.network import NETWORKS, OnBackbone, with_fields
from geojax.networks.pointnet import PointNet
from geojax.nn import Affine, LayerNorm

__all__ = ["Siamese"]


def _default() -> PointNet:
    return PointNet(widths=(64, 128, 512), head=())


@NETWORKS.register("siamese")
class Siamese(OnBackbone, nn.Module):
    """A backbone on every part, joined; see the module. Every node gets the same answer.

    The order of parts matters, that of points does not. Empty parts count as zeros.
    """

    backbone: Any = field(default_factory=_default)  # a network; irreps_out is set here
    parts: int = 2  # of every structure
    features: int = 256  # that the backbone puts out
    head: tuple[int, ...] = (512, 256)  # of the perceptron
    irreps_out: str = "6x0e"
    cutoff: float | None = None  # [Å]; that of the backbone

    local: ClassVar[bool] = False  # all nodes of a part have a say
    reads_parts: ClassVar[bool] = True

    def __post_init__(self):
        if isinstance(self.backbone, nn.Module):
            irreps = f"{self.features}x0e"
            self.backbone = with_fields(self.backbone, irreps_out=irreps, cutoff=self.cutoff)
            self.cutoff = self.backbone.cutoff
        super().__post_init__()

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input `part`.
            ValueError: what the backbone refuses.
        """
        parts = split_parts(graph, self.parts)
        pooled = pool(self.backbone(parts).array, parts, "mean")
        y = pooled.reshape(graph.n_node.shape[0], self.parts * pooled.shape[1])
        for i, width in enumerate(self.head):
            y = nn.relu(LayerNorm(name=f"norm_{i}")(Affine(width, name=f"affine_{i}")(y)))
        y = Affine(Irreps(self.irreps_out).dim, name="output")(y)
        return IrrepsArray(self.irreps_out, y[graph_of_nodes(graph)])
