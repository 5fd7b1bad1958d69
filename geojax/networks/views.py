"""One backbone on two views of a structure, an embedding of each: for learning without labels.

    z_k = (MLP(s_k), W v_k),    (s_k, v_k) = mean over part k of backbone(part k)

where s are the invariants that the backbone puts out and v what turns. The features before the
perceptron are what is kept afterwards: `Views.backbone`, with its part of the parameters.

References:
    Chen, Kornblith, Norouzi, Hinton, "A simple framework for contrastive learning of visual
    representations", ICML 2020, https://arxiv.org/abs/2002.05709 (perceptron on top).
"""

from dataclasses import field
from typing import Any, ClassVar

import flax.linen as nn
from e3nn_jax import Irrep, Irreps, IrrepsArray
from jaxtyping import Array, Float

from geojax.graphs import Graph, graph_of_nodes, pool, split_parts
from geojax.networks.network import NETWORKS, OnBackbone, with_fields
from geojax.networks.pointnet import PointNet
from geojax.nn import Affine, LayerNorm, LinearBlocks, in_order

__all__ = ["Views"]

SCALAR = Irrep(0, 1)
VIEWS = 2


def _default() -> PointNet:
    return PointNet(widths=(64, 128, 512), head=())


@NETWORKS.register("views")
class Views(OnBackbone, nn.Module):
    """A backbone on both views, see the module; a prediction for losses such as "vicreg".

    `irreps_out` is that of both embeddings, side by side; each has half of it. What turns in an
    embedding is asked of the backbone too, as many channels of each irrep.
    """

    backbone: Any = field(default_factory=_default)  # a network; irreps_out is set here
    features: int = 256  # invariants that the backbone puts out
    head: tuple[int, ...] = (256,)  # of the perceptron of invariants
    irreps_out: str = "128x0e+128x0e"
    cutoff: float | None = None  # [Å]; that of the backbone

    local: ClassVar[bool] = False  # all nodes of a view have a say
    reads_parts: ClassVar[bool] = True

    def __post_init__(self):
        if isinstance(self.backbone, nn.Module):
            parts = [f"{self.features}x0e"]
            parts += [str(item) for item in self.embedding if item.ir != SCALAR]
            irreps = "+".join(parts)
            self.backbone = with_fields(self.backbone, irreps_out=irreps, cutoff=self.cutoff)
            self.cutoff = self.backbone.cutoff
        super().__post_init__()

    @property
    def embedding(self) -> Irreps:
        """Irreps of one of the two.

        Raises:
            ValueError: `irreps_out` is not twice the same.
        """
        both = list(Irreps(self.irreps_out))
        half = Irreps(both[: len(both) // 2])
        if len(both) % 2 or list(half) != both[len(both) // 2 :]:
            raise ValueError(
                "irreps_out holds those of one embedding twice, such as '64x0e+8x1o+64x0e+8x1o'; "
                f"got {self.irreps_out!r}"
            )
        return half

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input `part`.
            ValueError: what the backbone refuses; irreps that are not twice the same.
        """
        parts = split_parts(graph, VIEWS)
        features = self.backbone(parts)
        pooled = IrrepsArray(features.irreps, pool(features.array, parts, "mean"))
        z = self._embedded(pooled).reshape(graph.n_node.shape[0], -1)
        return IrrepsArray(self.irreps_out, z[graph_of_nodes(graph)])

    def _embedded(self, features: IrrepsArray) -> Float[Array, "part d"]:
        blocks = {
            item.ir: chunk.swapaxes(-1, -2)
            for item, chunk in zip(features.irreps, features.chunks, strict=True)
            if chunk is not None
        }
        widths = {item.ir: item.mul for item in self.embedding}
        out: dict[Irrep, Array] = {}
        if SCALAR in widths:
            s = blocks.pop(SCALAR)[:, 0]
            for i, width in enumerate(self.head):
                s = nn.relu(LayerNorm(name=f"norm_{i}")(Affine(width, name=f"affine_{i}")(s)))
            out[SCALAR] = Affine(widths.pop(SCALAR), name="output")(s)[:, None]
        if widths:
            out |= LinearBlocks(widths, name="turning")(blocks)
        return in_order(out, str(self.embedding)).array
