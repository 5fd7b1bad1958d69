"""SpinNet: descriptors of points by convolutions on a cylinder around a local axis.

The patch of a point p, all points within `radius`, has an axis z of its own. In directions around
it stands a grid of voxels with the centres

    c = r (sin t cos a, sin t sin a, cos t),    `shells` radii r, `elevations` t, `azimuths` a

Each voxel reads the points near its centre in its own coordinates: relative to c, and turned by -a
about z, so that all voxels of a ring see alike. A network of each point and a maximum over them
make features [r, t, a], convolutions follow that wrap around in a, and a maximum over what is left
is the descriptor. To turn a patch about z by whole voxels rolls the features, and the maximum does
not see it; other angles change the descriptor. So it matters somewhat where a begins.

References:
    Ao, Hu, Yang, Markham, Guo, "SpinNet: learning a general surface descriptor for 3D point cloud
    registration", CVPR 2021, https://arxiv.org/abs/2011.12149.
"""

from collections.abc import Sequence
from math import sqrt
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from e3nn_jax import Irrep, Irreps, IrrepsArray
from jaxtyping import Array, Bool, Float

from geojax.arrays import safe_norm, unit
from geojax.graphs import Graph, by_graph, centered, of_members, split_parts
from geojax.networks.network import NETWORKS
from geojax.nn import node_vectors, rotation_group
from geojax.nn.dense import uniform
from geojax.points import (
    farthest_points,
    gather,
    in_chunks,
    interpolate,
    nearest,
    orient,
    plane,
    within,
)

__all__ = ["SpinNet", "cylinder_convolution", "frame_of_axis", "local_axes", "voxel_centres"]

EPSILON = 1e-5  # of norms


def voxel_centres(
    shells: int, elevations: int, azimuths: int
) -> tuple[Float[np.ndarray, "voxel 3"], Float[np.ndarray, "azimuth 3 3"]]:
    """The middles of voxels of the unit ball, azimuth fastest; rotations that take a to zero."""
    r = (np.arange(shells) + 0.5) / shells
    t = (np.arange(elevations) + 0.5) * np.pi / elevations
    a = 2 * np.pi * np.arange(azimuths) / azimuths
    r, t, angle = np.meshgrid(r, t, a, indexing="ij")
    centres = np.stack([np.sin(t) * np.cos(angle), np.sin(t) * np.sin(angle), np.cos(t)], -1)
    rows = [
        [np.cos(a), np.sin(a), 0 * a],
        [-np.sin(a), np.cos(a), 0 * a],
        [0 * a, 0 * a, 1 + 0 * a],
    ]
    return (r[..., None] * centres).reshape(-1, 3), np.moveaxis(np.array(rows), -1, 0)


def local_axes(
    vectors: Float[Array, "*n point 3"],
    mask: Bool[Array, "*n point"],
    sides: Sequence[Float[Array, "*n 3"]],
) -> Float[Array, "*n 3"]:
    """The axis along which a patch is thinnest; zero where there is no such axis.

    It points away from the mean of the patch, which moves and turns with it. Where that leaves both
    sides alike, as in a plane, `sides` are asked one after the other.

    Args:
        vectors: points relative to the middle of the patch.
        mask: which of them are real.
        sides: directions, such as a normal.
    """
    axes = plane(vectors, mask, centered=False).normals
    mean = jnp.sum(jnp.where(mask[..., None], vectors, 0), -2)
    found = jnp.zeros_like(axes)
    for side in (-mean, *sides):
        undecided = jnp.all(found == 0, -1, keepdims=True)
        found = jnp.where(undecided, orient(axes, jax.lax.stop_gradient(side)), found)
    return found


def frame_of_axis(
    axis: Float[Array, "*n 3"], towards: Float[Array, "*n 3"] | None = None
) -> Float[Array, "*n 3 3"]:
    """Rows x, y, z of a right-handed frame with z along the axis; zero where the axis is.

    x is the part across z of `towards`, a vector of size about one. Without that, or where it is
    shorter than sqrt(eps), x is the part across z of the coordinate axis that is farthest from z:
    this needs no special case, whereas the rotation that takes z to the coordinate axis z by the
    shortest way is undefined for its opposite.
    """
    size = jnp.abs(jax.lax.stop_gradient(axis))
    base = jax.nn.one_hot(jnp.argmin(size, -1), 3, dtype=axis.dtype)
    across = lambda v: v - jnp.sum(v * axis, -1, keepdims=True) * axis
    x = across(base)
    if towards is not None:
        wanted = across(towards)
        clear = safe_norm(wanted) > float(np.sqrt(np.finfo(axis.dtype).eps))
        x = jnp.where(clear[..., None], wanted, x)
    x = jnp.where(jnp.any(axis != 0, -1, keepdims=True), unit(x), 0)
    return jnp.stack([x, jnp.cross(axis, x), axis], -2)


def cylinder_convolution(
    x: Float[Array, "patch *place channel"], kernel: Float[Array, "*size channel out"]
) -> Float[Array, "patch *out_place out"]:
    """A convolution of places [elevation, azimuth] or [shell, elevation, azimuth] with 3 or 3 x 3.

    Azimuths wrap around, beyond the elevations is zero, and shells are not padded: there are two
    fewer after each.
    """
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (0, 0)], mode="wrap")
    # The margins are written out, since the azimuths are the last axis but one.
    shells = x.ndim == 5
    numbers = ("NDHWC", "DHWIO", "NDHWC") if shells else ("NHWC", "HWIO", "NHWC")
    padding = [(0, 0)] * shells + [(1, 1), (0, 0)]
    return jax.lax.conv_general_dilated(
        x, kernel, (1,) * len(padding), padding, dimension_numbers=numbers
    )


class Layer(NamedTuple):
    """Weights of a layer; without norm where there is no gain."""

    kernel: Array
    bias: Array
    gain: Array | None = None
    shift: Array | None = None


class LayerWeights(nn.Module):
    """The parameters of a layer, drawn as those of `Affine`."""

    shape: tuple[int, ...]  # of the kernel, channels last
    norm: bool = True

    @nn.compact
    def __call__(self) -> Layer:
        """All of them."""
        start, width = uniform(1 / sqrt(int(np.prod(self.shape[:-1])))), self.shape[-1:]
        layer = Layer(self.param("kernel", start, self.shape), self.param("bias", start, width))
        if not self.norm:
            return layer
        gain = self.param("gain", nn.initializers.ones, width)
        return layer._replace(gain=gain, shift=self.param("shift", nn.initializers.zeros, width))


@NETWORKS.register("spinnet")
class SpinNet(nn.Module):
    """Descriptors of points, or any invariants, from patches around them; see the module.

    Azimuths begin at the mean of the patch (`begin="patch"`), which turns with it: rotations and
    translations change nothing, and mirror images differ. If the mean is on the axis to sqrt(eps),
    they begin at a coordinate axis. They always do with `begin="axes"`, as arbitrary a start as the
    published one. Then only rotations that take coordinate axes to such (`symmetries`) are
    respected exactly. The changes of descriptors by others, for chairs of 512 points, patches of
    radius 0.4 with 5 shells and parameters as they start, as a share of how much the descriptors of
    a cloud differ (root mean squares; training changes them):

        elevations x azimuths    4 x 8    8 x 16    16 x 32
        voxel_radius=0.1          98 %      81 %       65 %
        voxel_radius=0.15                   66 %

    Two scans of one place have other means: they see some of this, whatever `begin`.

    Repaired against released code: the side of the axis there follows from absolute positions, so
    that it changes when the cloud is moved, and here from the patch, else from normals (`vectors`)
    and the mean of the cloud; the frame of the axis has no singular axis. Where no axis is
    determined, as in a plane that holds the mean of the cloud, the descriptor is zero. Of points in
    a patch or a voxel the nearest are taken, where released code takes any.

    Widths, `elevations`, `azimuths`, `samples` and radii are those published for rooms in metres
    (3DMatch; for streets radius=2.0, voxel_radius=0.3, elevations=30, azimuths=60). Convolutions
    alone are then 6 Gflop for each point. On one CPU core 512 points take 3 s with elevations=8,
    azimuths=16, widths=(16, 32), flat_widths=(32, 32), samples=16, or 0.7 s with keypoints=128.
    Some published layers on cylinders have dilated kernels; none here. Layers are normalised over
    their channels where the published ones use statistics of the batch.

    Points with `keypoints` are farthest points whose descriptors others interpolate.
    """

    radius: float = 0.3  # of a patch, in the unit of the positions
    voxel_radius: float = 0.04  # of what a voxel reads
    elevations: int = 40  # cells from pole to pole
    azimuths: int = 80  # even
    patch: int = 512  # points of a patch at most
    samples: int = 30  # points of a voxel at most
    point_width: int = 16  # of the network of points
    widths: tuple[int, ...] = (32, 32, 64, 64)  # of convolutions; 2 shells of voxels each, plus one
    flat_widths: tuple[int, ...] = (128, 128, 64, 64, 32, 32)  # of those on a cylinder
    keypoints: int = 0  # of a cloud; 0: all points
    begin: str = "patch"  # of azimuths; or "axes"
    parts: int = 1  # clouds in a structure, told by the node input `part`
    chunk: int = 8  # patches at a time, for memory
    irreps_out: str = "32x0e"
    vectors: tuple[str, ...] = ()  # the node input [node, 3] of normals, for the sides of axes

    cutoff: ClassVar[float] = 0.0  # it reads no edges
    reads_members: ClassVar[bool] = True

    @property
    def group(self) -> str:
        """The symmetry that the network keeps."""
        return "SE(3)" if self.begin == "patch" else "approximately SE(3)"

    @property
    def symmetries(self) -> Float[np.ndarray, "symmetry 3 3"]:
        """Rotations that it keeps exactly however azimuths begin, the identity first."""
        return rotation_group(24)

    @nn.compact
    def __call__(self, graph: Graph) -> IrrepsArray:
        """`[node, irreps_out]`.

        Raises:
            KeyError: the graph has no input of a name.
            ValueError: irreps other than 0e; an odd number of azimuths; several kinds of normals;
                azimuths begin elsewhere.
        """
        self._check()
        graph = split_parts(graph, self.parts) if self.parts > 1 else graph
        x, real = by_graph(centered(graph), graph)
        normals, _ = by_graph(node_vectors(graph, self.vectors), graph)
        key, taken = x, real
        if self.keypoints:
            chosen = farthest_points(x, real, count=self.keypoints)
            key, normals = (
                jnp.take_along_axis(y, chosen.index.reshape(*chosen.index.shape, *ones), 1)
                for y, ones in ((x, (1,)), (normals, (1, 1)))
            )
            taken = chosen.mask
        near = within(key, x, real, radius=self.radius, k=self.patch, query_mask=taken)
        vectors = jnp.where(near.mask[..., None], gather(x, near.index) - key[:, :, None], 0)
        axes = local_axes(vectors, near.mask, [*jnp.moveaxis(normals, -1, 0), key])
        layers = self._layers()
        describe = jax.checkpoint(lambda *patches: self._describe(layers, *patches))
        rows = [y.reshape(-1, *y.shape[2:]) for y in (vectors, near.mask, axes)]
        y = in_chunks(describe, *rows, chunk=self.chunk)
        y = jnp.where(jnp.any(axes != 0, -1)[..., None], y.reshape(*taken.shape, -1), 0)
        if self.keypoints:
            y = interpolate(y, nearest(x, key, taken, k=3, query_mask=real))
        return IrrepsArray(self.irreps_out, of_members(y, graph))

    def _layers(self) -> list[Layer]:
        shapes: list[tuple[int, ...]] = [(3, self.point_width)]
        width = self.point_width
        last = Irreps(self.irreps_out).dim
        sizes = [(3, 3, 3)] * len(self.widths) + [(3, 3)] * (len(self.flat_widths) + 1)
        for size, out in zip(sizes, (*self.widths, *self.flat_widths, last), strict=True):
            shapes.append((*size, width, out))
            width = out
        end = len(shapes) - 1
        return [LayerWeights(s, i < end, name=f"layer_{i}")() for i, s in enumerate(shapes)]

    def _describe(
        self, layers: Sequence[Layer], vectors: Array, mask: Array, axes: Array
    ) -> Float[Array, "patch d"]:
        """Descriptors of patches."""
        x = self._voxels(layers[0], vectors, mask, axes)
        for layer in layers[1:]:
            kernel = layer.kernel.astype(x.dtype)
            x = x[:, 0] if x.ndim > kernel.ndim else x  # of the only shell that is left
            x = _finished(cylinder_convolution(x, kernel), layer)
        return jnp.max(x, (1, 2))

    def _voxels(self, layer: Layer, vectors: Array, mask: Array, axes: Array) -> Array:
        """Features of the voxels of patches, `[patch, shell, elevation, azimuth, channel]`."""
        shape = (2 * len(self.widths) + 1, self.elevations, self.azimuths)
        centres, turns = (jnp.asarray(a, vectors.dtype) for a in voxel_centres(*shape))
        count = jnp.maximum(jnp.sum(mask, -1), 1).astype(vectors.dtype)[:, None]
        mean = jnp.sum(vectors, 1) / count / self.radius
        frame = frame_of_axis(axes, mean if self.begin == "patch" else None)
        x = jnp.einsum("npi,nji->npj", vectors, frame, precision="highest")
        centres = jnp.broadcast_to(self.radius * centres, (x.shape[0], *centres.shape))
        near = within(centres, x, mask, radius=self.voxel_radius, k=self.samples)
        x = (gather(x, near.index) - centres[:, :, None]) / self.voxel_radius
        x = x.reshape(x.shape[0], -1, self.azimuths, *x.shape[2:])
        x = jnp.einsum("nraki,aji->nrakj", x, turns, precision="highest")
        x = _finished(x @ layer.kernel.astype(x.dtype), layer)
        taken = near.mask.reshape(*x.shape[:-1], 1)
        # After a ReLU nothing is less than the zero of voxels without points.
        return jnp.max(jnp.where(taken, x, 0), -2).reshape(x.shape[0], *shape, -1)

    def _check(self) -> None:
        if any(ir != Irrep(0, 1) for _, ir in Irreps(self.irreps_out)):
            raise ValueError(f"its outputs are invariants, 0e; got irreps_out={self.irreps_out!r}")
        if self.azimuths % 2 or self.azimuths < 2:
            raise ValueError(
                "half a turn is a whole number of voxels, so that azimuths are even; got "
                f"azimuths={self.azimuths}"
            )
        if self.begin not in ("patch", "axes"):
            raise ValueError(f"azimuths begin at 'patch' or 'axes'; got begin={self.begin!r}")
        if len(self.vectors) > 1:
            raise ValueError(f"normals are one node input, or none; got vectors={self.vectors}")


def _finished(x: Array, layer: Layer) -> Array:
    """With bias, and with norm over the channels and ReLU where the layer has them."""
    row = lambda y: y.astype(x.dtype).reshape(*[1] * (x.ndim - 1), -1)
    x = x + row(layer.bias)
    if layer.gain is None or layer.shift is None:
        return x
    x = x - jnp.mean(x, -1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPSILON)
    return nn.relu(x * row(layer.gain) + row(layer.shift))
