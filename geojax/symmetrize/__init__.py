"""Symmetrization: frames of structures, and any function made equivariant by them."""

from geojax.symmetrize.average import into_frame, symmetrize, turn_irreps
from geojax.symmetrize.canonical import (
    choose,
    discrete_frames,
    gram_schmidt,
    pose_loss,
    scores_of,
    tilt_loss,
)
from geojax.symmetrize.distances import (
    DistanceFrames,
    coordinates_from_distances,
    coordinates_from_positions,
)
from geojax.symmetrize.frames import PROVIDERS, Frames, Provider, check_group, pick, provider_of
from geojax.symmetrize.local import (
    from_local,
    local_pairs,
    node_frames,
    planar_frames,
    to_local,
)
from geojax.symmetrize.parts import part_frames, symmetrize_parts
from geojax.symmetrize.pca import PCAFrames, StochasticFrames, eigen, principal_axes
from geojax.symmetrize.sampling import (
    MATRIX_GROUPS,
    MatrixGroup,
    bound_loss,
    group_inverse,
    invariants,
    orbit_distance,
    sample_mean,
    sampled_matrix,
)
from geojax.symmetrize.weighted import WeightedFrames

__all__ = [
    "MATRIX_GROUPS",
    "PROVIDERS",
    "DistanceFrames",
    "Frames",
    "MatrixGroup",
    "PCAFrames",
    "Provider",
    "StochasticFrames",
    "WeightedFrames",
    "bound_loss",
    "check_group",
    "choose",
    "coordinates_from_distances",
    "coordinates_from_positions",
    "discrete_frames",
    "eigen",
    "from_local",
    "gram_schmidt",
    "group_inverse",
    "into_frame",
    "invariants",
    "local_pairs",
    "node_frames",
    "orbit_distance",
    "part_frames",
    "pick",
    "planar_frames",
    "pose_loss",
    "principal_axes",
    "provider_of",
    "sample_mean",
    "sampled_matrix",
    "scores_of",
    "symmetrize",
    "symmetrize_parts",
    "tilt_loss",
    "to_local",
    "turn_irreps",
]
