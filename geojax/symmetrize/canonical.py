"""Canonical poses that are learned: frames from vectors, choices from scores, and priors on both.

A network that turns a structure's features into a few vectors, equivariantly, gives its frame by
Gram-Schmidt; `networks.canonicalizer` is one. A network that scores the structure in the poses of a
finite group, without being equivariant, gives an element of the group. A network behind it that was
trained before saw data in certain poses: a prior loss keeps the canonical ones near these.

References:
    Kaba, Mondal, Zhang, Bengio, Ravanbakhsh, "Equivariance with learned canonicalization
    functions", ICML 2023, https://arxiv.org/abs/2211.06489.
    Mondal et al., "Equivariant adaptation of large pretrained models", NeurIPS 2023,
    https://arxiv.org/abs/2310.01647 (priors, straight-through choice).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from geojax.arrays import safe_divide, unit
from geojax.graphs import Graph, graph_mask, pool
from geojax.so3.rotation_heads import from_6d
from geojax.symmetrize.average import into_frame
from geojax.symmetrize.frames import Frames, check_group

__all__ = ["choose", "discrete_frames", "gram_schmidt", "pose_loss", "scores_of", "tilt_loss"]


def gram_schmidt(
    vectors: Float[Array, "*n 3 channel"], *, group: str = "SE(3)"
) -> Float[Array, "*n 3 3"]:
    """A frame from equivariant vectors: x along the first, y in the plane of the first two.

    For SE(3), z = x × y. For E(3) it has the sign of its product with the third vector, so that
    three polar vectors give a frame of either hand: mirror images of a structure have mirrored
    frames. The published E(3) form takes what is left of the third vector, the same but for
    planar structures, where nothing is left.

    Vectors that vanish or are parallel, as those of symmetric structures must be, leave the frame
    open: it is then some frame that does not turn with the structure. Derivatives stay finite.

    Args:
        vectors: two channels or more; three for E(3).
        group: "SE(3)" or "E(3)".

    Raises:
        ValueError: too few vectors, or another group.
    """
    check_group(group)
    needed = {"SE(3)": 2, "E(3)": 3}[group]
    if vectors.ndim < 2 or vectors.shape[-2] != 3 or vectors.shape[-1] < needed:
        raise ValueError(
            f"a frame for {group} is made of vectors [..., 3, {needed} or more]; got shape "
            f"{vectors.shape}"
        )
    frame = from_6d(jnp.concatenate([vectors[..., 0], vectors[..., 1]], -1))
    if group == "SE(3)":
        return frame
    hand = jnp.sum(frame[..., 2] * vectors[..., 2], -1)
    sign = jnp.where(hand < 0, -1, 1).astype(frame.dtype)
    return jnp.concatenate([frame[..., :2], frame[..., 2:] * sign[..., None, None]], -1)


def choose(
    scores: Float[Array, "*n element"],
    elements: Float[Array, "element 3 3"],
    *,
    sharpness: float = 1.0,
) -> Float[Array, "*n 3 3"]:
    """The element with the highest score; its derivative is that of the mean under softmax.

    The straight-through estimator: exact forward, so the choice is equivariant, and not the
    derivative of what it computes. So energies behind it have no forces (`conservative` = False).

    Args:
        scores: of the elements.
        elements: orthogonal matrices, a finite group.
        sharpness: factor of the scores in the softmax.
    """
    soft = jax.nn.softmax(sharpness * scores, -1)
    mean = jnp.einsum("...e,eab->...ab", soft, elements, precision="highest")
    return elements[jnp.argmax(scores, -1)] + (mean - jax.lax.stop_gradient(mean))


def scores_of(
    function: Callable[[Graph], Float[Array, "graph"]],
    graph: Graph,
    elements: Float[Array, "element 3 3"],
    *,
    vectors: Sequence[str] = (),
) -> Float[Array, "graph element"]:
    """What a function of a graph finds in the frame of each element of a group.

    Turning the structure by an element permutes the scores: the one of G after turning by H is that
    of H⁻¹ G before. So the best element turns with the structure, whatever the function.

    Args:
        function: scores of graphs; no symmetry is needed.
        graph: to be scored, relative to the mean of its positions.
        elements: orthogonal matrices, a finite group.
        vectors: node inputs that turn like positions.
    """
    origins = pool(graph.nodes["positions"], graph, "mean")

    def score(element: Float[Array, "3 3"]) -> Float[Array, "graph"]:
        matrices = jnp.broadcast_to(element, (origins.shape[0], 3, 3))
        return function(into_frame(graph, matrices, origins, vectors=vectors))

    return jax.vmap(score, out_axes=1)(elements.astype(origins.dtype))


def discrete_frames(
    scores: Float[Array, "graph element"],
    graph: Graph,
    elements: Float[Array, "element 3 3"],
    *,
    sharpness: float = 1.0,
) -> Frames:
    """One frame for each graph: the best element of the group, at the mean of the positions."""
    matrices = choose(scores, elements, sharpness=sharpness)
    weights = graph_mask(graph).astype(matrices.dtype)[:, None]
    return Frames(matrices[:, None], pool(graph.nodes["positions"], graph, "mean"), weights)


def pose_loss(frames: Frames) -> Float[Array, ""]:
    """The mean over graphs of |R - 1|² / 9: for data that come in one pose, such as upright."""
    like = frames.matrices
    identity = jnp.broadcast_to(jnp.eye(3, dtype=like.dtype), like.shape)
    return _mean(frames, jnp.mean((like - identity) ** 2, (-2, -1)))


def tilt_loss(frames: Frames, axis: Sequence[float] = (0.0, 0.0, 1.0)) -> Float[Array, ""]:
    """The mean over graphs of 1 - a·Ra: for data that are upright, turned about the axis a."""
    direction = unit(jnp.asarray(axis, frames.matrices.dtype))
    turned = jnp.einsum("gfab,b->gfa", frames.matrices, direction, precision="highest")
    along = jnp.einsum("gfa,a->gf", turned, direction, precision="highest")
    return _mean(frames, 1 - along)


def _mean(frames: Frames, values: Float[Array, "graph frame"]) -> Float[Array, ""]:
    """Over frames by their weights, and over real graphs; zero if there is none."""
    return safe_divide(jnp.sum(values * frames.weights), jnp.sum(frames.weights))
