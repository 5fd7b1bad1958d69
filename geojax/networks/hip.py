"""HIP: a network that predicts the Hessian beside the energy, without second derivatives.

Any network puts out features of degrees 0, 1 and 2 of each node, from which a head makes the blocks
of the Hessian (`nn.hessian`) and a small network the energy. One pass gives energy, Hessian and, by
one derivative of the energy, forces. The Hessian is symmetric and equivariant by construction, but
it is not the derivative of the forces: it is learned from labels.

References:
    Burger et al., "Shoot from the HIP: Hessian interatomic potentials without derivatives", 2025,
    https://arxiv.org/abs/2509.21624.
"""

from dataclasses import field
from typing import Any

import flax.linen as nn
from e3nn_jax import Irreps, IrrepsArray
from jaxtyping import Array, Float

from geojax.graphs import Graph
from geojax.graphs.graph import Size
from geojax.networks.nequip import NequIP
from geojax.networks.network import NETWORKS, OnBackbone
from geojax.nn import MLP, Blocks, HessianHead, LinearBlocks, counts, in_order, irrep

__all__ = ["HIP"]

SCALAR = irrep(0)


def _default() -> NequIP:
    return NequIP(cutoff=5.0, lmax=2, parity=False)


@NETWORKS.register("hip")
class HIP(OnBackbone, nn.Module):
    """Energy and Hessian on top of a network of one's choice; see the module.

    The published model has EquiformerV2 as its backbone (4 layers, 128 channels, lmax 4), a whole
    block of it as the head, and a cutoff of 12 Å for the Hessian. Here the head is one tensor
    product of both ends' features with the direction.

    A backbone that reads larger graphs than its own has to ignore edges beyond its cutoff, as all
    networks promise (`Network.cutoff`); it spends time on them.
    """

    backbone: Any = field(default_factory=_default)  # a network; its irreps_out is set here
    cutoff: float = 8.0  # [Å], of the Hessian; at least that of the backbone
    channels: int = 32  # of each degree that the backbone puts out
    lmax: int = 2  # of the harmonics in the head
    n_basis: int = 16
    envelope: int = 6  # power of the polynomial
    radial_width: int = 64
    pseudo: bool = False  # pseudo-vectors 1e as well, of backbones that have them
    acoustic: bool = False  # the sum rule of translations, by projection
    irreps_out: str = "0e"

    def __post_init__(self):
        if isinstance(self.backbone, nn.Module):
            kinds = ("0e", "1o", "2e", *["1e"] * self.pseudo)
            wanted = "+".join(f"{self.channels}x{kind}" for kind in kinds)
            if self.backbone.irreps_out != wanted:  # pyright: ignore[reportAttributeAccessIssue]
                self.backbone = self.backbone.clone(irreps_out=wanted)
        super().__post_init__()

    def setup(self):
        widths = counts(self.irreps_out)
        self.scalar_outputs = MLP((self.channels, widths.get(SCALAR, 0)))
        self.outputs = LinearBlocks({i: n for i, n in widths.items() if i != SCALAR})
        self.head = HessianHead(
            self.cutoff,
            self.channels,
            self.lmax,
            self.n_basis,
            self.envelope,
            self.radial_width,
            self.acoustic,
        )

    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            ValueError: the backbone's cutoff exceeds the Hessian's, or it has a number of nearest
                neighbours in place of a cutoff; an output that the features cannot reach.
        """
        features = self._features(graph)
        if self.is_initializing():
            self.head(features, graph)
        return self._outputs(features)

    def hessian(self, graph: Graph, slots: Size | None = None) -> Float[Array, "node slot 3 3"]:
        """The rows of the Hessian; see `graphs.hessian`, and `nn.assemble` for `slots`."""
        return self.head(self._features(graph), graph, slots)

    def with_hessian(
        self, graph: Graph, slots: Size | None = None
    ) -> tuple[IrrepsArray, Float[Array, "node slot 3 3"]]:
        """What `__call__` and `hessian` return, in one pass."""
        features = self._features(graph)
        return self._outputs(features), self.head(features, graph, slots)

    def _features(self, graph: Graph) -> Blocks:
        backbone = self.backbone
        if getattr(backbone, "nearest", None) is not None:
            raise ValueError(
                "a Hessian is one of all neighbours within a cutoff; the backbone reads "
                f"{backbone.nearest} nearest ones; give it a cutoff"
            )
        if backbone.cutoff > self.cutoff:
            raise ValueError(
                "the graph holds all edges that the backbone reads; its cutoff is "
                f"{backbone.cutoff} Å and that of the Hessian {self.cutoff} Å; raise the latter"
            )
        x = backbone(graph)
        irreps = [item.ir for item in Irreps(x.irreps)]
        chunks = dict(zip(irreps, x.chunks, strict=True))
        return {i: chunk.swapaxes(-1, -2) for i, chunk in chunks.items()}

    def _outputs(self, features: Blocks) -> IrrepsArray:
        widths = counts(self.irreps_out)
        if missing := [str(i) for i in widths if i not in features]:
            raise ValueError(
                f"an output is among the features, {', '.join(map(str, features))}; got "
                f"irreps_out={self.irreps_out!r} with {', '.join(missing)}; ask for less"
            )
        found = self.outputs(features)
        if SCALAR in widths:
            found[SCALAR] = self.scalar_outputs(features[SCALAR])
        return in_order(found, self.irreps_out)
