"""Any network behind frames: a backbone without symmetry, made equivariant by what it is fed.

The backbone reads the structure in each of a few frames that move along with it, and its outputs
are turned back and averaged (`geojax.symmetrize`). Where frames come from is a provider, by name:

    weighted     continuous, the default                    n (n-1) calls of the backbone
    pca          principal axes; jump, and fail on symmetric shapes           4 or 8
    stochastic   one of these in training                                     1; then 4 or 8
    distances    principal axes with a sign rule                              1
    learned      from vector neurons                                          1

References:
    Puny et al., "Frame averaging for invariant and equivariant network design", ICLR 2022,
    https://arxiv.org/abs/2110.03336.
    Dym, Lawrence, Siegel, "Equivariant frames and the impossibility of continuous
    canonicalization", ICML 2024, https://arxiv.org/abs/2402.16077.
"""

import dataclasses
from dataclasses import field
from typing import Any, ClassVar

import flax.linen as nn
from e3nn_jax import IrrepsArray

from geojax.graphs import Graph
from geojax.networks.lie_transformer import LieTransformer
from geojax.networks.network import NETWORKS, OnBackbone, with_fields
from geojax.symmetrize import PROVIDERS, Frames, provider_of, symmetrize

__all__ = ["Symmetrized"]


def _default() -> LieTransformer:
    return LieTransformer(lifts=1, channels=64, layers=2)


@NETWORKS.register("symmetrized")
class Symmetrized(OnBackbone, nn.Module):
    """A network made equivariant by frames; see the module.

    Outputs of the backbone are read as the components of `irreps_out` in its frame, so that a
    backbone without symmetry may put out vectors and tensors too. Its node inputs named `vectors`,
    `velocity` and `axes` are turned into the frame with the positions.

    Frames look at the whole structure: nodes beyond the cutoff change the output. An atom far from
    all others moves the centre, and with it every frame.
    """

    backbone: Any = field(default_factory=_default)  # a network; cutoff and irreps_out are set here
    provider: str = "weighted"  # of frames
    options: tuple = ()  # fields of the provider, names and values: (("pairs", 72),)
    cutoff: float | None = None  # [Å]; that of the backbone
    irreps_out: str = "0e"
    chunk: int | None = None  # frames at a time, with less memory; None: all at once

    local: ClassVar[bool] = False  # frames see all nodes

    def __post_init__(self):
        if isinstance(self.backbone, nn.Module):
            self.backbone = with_fields(
                self.backbone, irreps_out=self.irreps_out, cutoff=self.cutoff
            )
            if self.cutoff is None:  # a backbone without edges leaves them to its frames
                self.cutoff = self.backbone.cutoff or dict(self.options).get("cutoff", 0.0)
        self.options = tuple((name, value) for name, value in self.options)
        super().__post_init__()

    @property
    def group(self) -> str:
        """The symmetry that the network keeps: E(3) if the backbone does, else the provider's."""
        own = super().group
        return own if own == "E(3)" else _provider(self).group

    @property
    def conservative(self) -> bool:
        """Whether forces may be taken: derivatives go through the frames."""
        return _provider(self).conservative and super().conservative

    @property
    def nearest(self) -> int | None:
        """How many nearest senders the backbone, or else its frames, listen to, if they do."""
        if self.backbone.cutoff == 0:
            return dict(self.options).get("nearest")
        return super().nearest

    def setup(self):
        self.frame_provider = _provider(self)

    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`; NaN for structures that the provider has no frames for.

        Raises:
            KeyError: no such provider, or an option that it does not have.
            ValueError: what the provider or the backbone refuse.
        """
        frames = self.frames(graph)
        if self.is_initializing():  # once, not once for each frame
            return self.backbone(graph)
        # Parameters are given, not found, inside of the loop over frames, as linen asks for
        backbone, variables = self.backbone.unbind()
        out = symmetrize(
            lambda turned: backbone.apply(variables, turned).array,
            graph,
            frames,
            self.irreps_out,
            vectors=self.vectors,
            chunk=self.chunk,
        )
        return IrrepsArray(self.irreps_out, out.astype(graph.nodes["positions"].dtype))

    def frames(self, graph: Graph) -> Frames:
        """The frames of each graph; with them `symmetrize.pose_loss` is a prior on poses."""
        return self.frame_provider(graph)


def _provider(network: Symmetrized) -> Any:
    """With the cutoff, the nearest and the vectors of the network, unless told otherwise.

    No method, because linen would make the provider a part of the network in any of them.
    """
    known = {f.name for f in dataclasses.fields(PROVIDERS[network.provider])}
    options = {name: getattr(network, name) for name in ("cutoff", "nearest", "vectors")}
    options = {name: value for name, value in options.items() if name in known}
    return provider_of(network.provider, options | dict(network.options))
