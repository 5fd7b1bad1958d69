"""Layers: inputs, radial functions, linear maps, gates, messages, attention, readout, repulsion."""

from geojax.nn.activation import ACTIVATIONS, Activation, activate, parity_of, second_moment
from geojax.nn.attention import edge_softmax
from geojax.nn.clifford import (
    FullyConnectedProduct,
    GeometricProduct,
    MultivectorLayerNorm,
    MultivectorLinear,
    MultivectorMLP,
    MultivectorNorm,
    MultivectorSiLU,
    multivector_blocks,
    normalize_parts,
)
from geojax.nn.comformer import (
    ChannelAffine,
    CrystalHead,
    Expansion,
    GateAttention,
    GatedMessage,
    Links,
    edge_links,
    image_links,
    inverse_length,
    is_smooth,
)
from geojax.nn.dense import MLP, Affine, Dense, Perceptron
from geojax.nn.feed_forward import (
    FEED_FORWARDS,
    FeedForward,
    GateFeedForward,
    GridFeedForward,
    SphereMLP,
    on_sphere,
)
from geojax.nn.gate import gate, gate_widths
from geojax.nn.hessian import HessianHead, acoustic_rows, assemble, blocks_of, couple_edges
from geojax.nn.inputs import node_scalars, node_vectors, one_hot_species
from geojax.nn.lattice import shortest_vectors
from geojax.nn.lie_attention import LieAttention, Lift, Pairs, lift_of, logarithms
from geojax.nn.linear import Blocks, Linear, LinearBlocks, SpeciesLinear
from geojax.nn.message import (
    Part,
    convolve,
    convolve_blocks,
    irrep,
    neighbor_count,
    plan,
    sum_divisor,
    weight_count,
)
from geojax.nn.nonlinearity import norm_activation, scalar_activation, sphere_activation
from geojax.nn.norm import LayerNorm, RMSNorm, SeparableNorm
from geojax.nn.norm_nonlinearity import BiasedNorm, NormNonlinearity
from geojax.nn.orientation_convolution import (
    INVARIANTS,
    KernelBases,
    OrientationBases,
    OrientationConvolution,
)
from geojax.nn.orientations import grid_symmetries, orientation_grid, rotation_group
from geojax.nn.radial import (
    RadialBasis,
    bessel,
    cosine_envelope,
    envelope,
    exp_normal,
    gaussians,
    polynomial_envelope,
)
from geojax.nn.readout import Readout, as_blocks, counts, in_order
from geojax.nn.repulsion import zbl
from geojax.nn.so2 import (
    SO2Linear,
    edge_frames,
    from_edge_frame,
    gain_count,
    to_edge_frame,
)
from geojax.nn.so2_activation import ROW_ACTIVATIONS, RowActivation, gate_rows, sphere_rows
from geojax.nn.so2_attention import SO2Attention, smooth_leaky_relu
from geojax.nn.so2_convolution import (
    SO2Bottleneck,
    SO2Convolution,
    SO2Message,
    both_ends,
    sum_messages,
)
from geojax.nn.spherical_inputs import (
    EdgeDegree,
    EdgeInputs,
    EdgeInvariants,
    NodeEmbedding,
    RadialNetwork,
    edge_inputs,
)
from geojax.nn.spherical_outputs import natural_outputs
from geojax.nn.steerable import SteerableKernel
from geojax.nn.steerable_attention import SteerableAttention
from geojax.nn.steerable_convolution import SteerableConvolution
from geojax.nn.symmetric import SymmetricContraction
from geojax.nn.vector_neurons import (
    InvariantHead,
    VectorLeakyReLU,
    VectorLinear,
    VectorMaxPool,
    VectorNorm,
    vector_leaky_relu,
    vector_max,
)

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Affine",
    "BiasedNorm",
    "Blocks",
    "ChannelAffine",
    "CrystalHead",
    "Dense",
    "EdgeDegree",
    "EdgeInputs",
    "EdgeInvariants",
    "Expansion",
    "FEED_FORWARDS",
    "FeedForward",
    "FullyConnectedProduct",
    "GateAttention",
    "GateFeedForward",
    "GatedMessage",
    "GeometricProduct",
    "GridFeedForward",
    "HessianHead",
    "INVARIANTS",
    "InvariantHead",
    "KernelBases",
    "LayerNorm",
    "LieAttention",
    "Lift",
    "Linear",
    "LinearBlocks",
    "Links",
    "MLP",
    "MultivectorLayerNorm",
    "MultivectorLinear",
    "MultivectorMLP",
    "MultivectorNorm",
    "MultivectorSiLU",
    "NodeEmbedding",
    "NormNonlinearity",
    "OrientationBases",
    "OrientationConvolution",
    "Pairs",
    "Part",
    "Perceptron",
    "RMSNorm",
    "ROW_ACTIVATIONS",
    "RadialBasis",
    "RadialNetwork",
    "Readout",
    "RowActivation",
    "SO2Attention",
    "SO2Bottleneck",
    "SO2Convolution",
    "SO2Linear",
    "SO2Message",
    "SeparableNorm",
    "SpeciesLinear",
    "SphereMLP",
    "SteerableAttention",
    "SteerableConvolution",
    "SteerableKernel",
    "SymmetricContraction",
    "VectorLeakyReLU",
    "VectorLinear",
    "VectorMaxPool",
    "VectorNorm",
    "acoustic_rows",
    "activate",
    "as_blocks",
    "assemble",
    "bessel",
    "blocks_of",
    "both_ends",
    "convolve",
    "convolve_blocks",
    "cosine_envelope",
    "counts",
    "couple_edges",
    "edge_frames",
    "edge_inputs",
    "edge_links",
    "edge_softmax",
    "envelope",
    "exp_normal",
    "from_edge_frame",
    "gain_count",
    "gate",
    "gate_rows",
    "gate_widths",
    "gaussians",
    "grid_symmetries",
    "image_links",
    "in_order",
    "inverse_length",
    "irrep",
    "is_smooth",
    "lift_of",
    "logarithms",
    "multivector_blocks",
    "natural_outputs",
    "neighbor_count",
    "node_scalars",
    "node_vectors",
    "norm_activation",
    "normalize_parts",
    "on_sphere",
    "one_hot_species",
    "orientation_grid",
    "parity_of",
    "plan",
    "polynomial_envelope",
    "rotation_group",
    "scalar_activation",
    "second_moment",
    "shortest_vectors",
    "smooth_leaky_relu",
    "sphere_activation",
    "sphere_rows",
    "sum_divisor",
    "sum_messages",
    "to_edge_frame",
    "vector_leaky_relu",
    "vector_max",
    "weight_count",
    "zbl",
]
