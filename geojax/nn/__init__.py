"""Layers: radial functions, dense and equivariant linear maps, gates, messages, repulsion."""

from geojax.nn.activation import ACTIVATIONS, Activation, activate, parity_of, second_moment
from geojax.nn.dense import MLP, Dense
from geojax.nn.gate import gate, gate_widths
from geojax.nn.linear import Blocks, Linear, LinearBlocks, SpeciesLinear
from geojax.nn.message import Part, convolve, convolve_blocks, irrep, plan, weight_count
from geojax.nn.nonlinearity import norm_activation, scalar_activation, sphere_activation
from geojax.nn.radial import RadialBasis, bessel, cosine_envelope, polynomial_envelope
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
    "Blocks",
    "Dense",
    "Linear",
    "Part",
    "LinearBlocks",
    "RadialBasis",
    "SO2Linear",
    "SpeciesLinear",
    "SymmetricContraction",
    "activate",
    "bessel",
    "convolve",
    "convolve_blocks",
    "irrep",
    "plan",
    "weight_count",
    "cosine_envelope",
    "edge_frames",
    "from_edge_frame",
    "gain_count",
    "gate",
    "gate_widths",
    "norm_activation",
    "one_hot_species",
    "parity_of",
    "polynomial_envelope",
    "scalar_activation",
    "second_moment",
    "sphere_activation",
    "to_edge_frame",
    "zbl",
]
