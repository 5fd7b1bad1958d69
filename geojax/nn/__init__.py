"""Layers: inputs, radial functions, linear maps, gates, messages, attention, readout, repulsion."""

from geojax.nn.activation import ACTIVATIONS, Activation, activate, parity_of, second_moment
from geojax.nn.attention import edge_softmax
from geojax.nn.dense import MLP, Affine, Dense
from geojax.nn.gate import gate, gate_widths
from geojax.nn.inputs import node_scalars, node_vectors
from geojax.nn.linear import Blocks, Linear, LinearBlocks, SpeciesLinear
from geojax.nn.message import Part, convolve, convolve_blocks, irrep, plan, weight_count
from geojax.nn.nonlinearity import norm_activation, scalar_activation, sphere_activation
from geojax.nn.radial import (
    RadialBasis,
    bessel,
    cosine_envelope,
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
from geojax.nn.species import one_hot_species
from geojax.nn.symmetric import SymmetricContraction

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Activation",
    "Affine",
    "Blocks",
    "Dense",
    "Linear",
    "LinearBlocks",
    "Part",
    "RadialBasis",
    "Readout",
    "SO2Linear",
    "SpeciesLinear",
    "SymmetricContraction",
    "activate",
    "as_blocks",
    "bessel",
    "convolve",
    "convolve_blocks",
    "cosine_envelope",
    "counts",
    "edge_frames",
    "edge_softmax",
    "exp_normal",
    "from_edge_frame",
    "gain_count",
    "gate",
    "gate_widths",
    "gaussians",
    "in_order",
    "irrep",
    "node_scalars",
    "node_vectors",
    "norm_activation",
    "one_hot_species",
    "parity_of",
    "plan",
    "polynomial_envelope",
    "scalar_activation",
    "second_moment",
    "sphere_activation",
    "to_edge_frame",
    "weight_count",
    "zbl",
]
