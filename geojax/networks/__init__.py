"""One file = one architecture, by name in `NETWORKS`."""

from geojax.networks.allegro import Allegro
from geojax.networks.canonicalizer import Canonicalizer
from geojax.networks.cgenn import CGENN
from geojax.networks.ecomformer import EComFormer
from geojax.networks.egnn import EGNN
from geojax.networks.equiformer_v2 import EquiformerV2
from geojax.networks.escn import ESCN
from geojax.networks.esen import ESEN
from geojax.networks.glgenn import GLGENN
from geojax.networks.hip import HIP
from geojax.networks.icomformer import IComFormer
from geojax.networks.iterative_se3_transformer import IterativeSE3Transformer
from geojax.networks.lie_transformer import LieTransformer
from geojax.networks.mace import MACE
from geojax.networks.nequip import NequIP
from geojax.networks.network import NETWORKS, Network, fit_to_data, from_table, to_table
from geojax.networks.painn import PaiNN
from geojax.networks.pointnet import PointNet
from geojax.networks.ponita import PONITA
from geojax.networks.se3_transformer import SE3Transformer
from geojax.networks.segnn import SEGNN
from geojax.networks.symmetrized import Symmetrized
from geojax.networks.tensornet import TensorNet
from geojax.networks.tfn import TFN

__all__ = [
    "Allegro",
    "CGENN",
    "Canonicalizer",
    "EComFormer",
    "EGNN",
    "ESCN",
    "ESEN",
    "EquiformerV2",
    "GLGENN",
    "HIP",
    "IComFormer",
    "IterativeSE3Transformer",
    "LieTransformer",
    "MACE",
    "NETWORKS",
    "NequIP",
    "Network",
    "PONITA",
    "PaiNN",
    "PointNet",
    "SEGNN",
    "SE3Transformer",
    "Symmetrized",
    "TFN",
    "TensorNet",
    "fit_to_data",
    "from_table",
    "to_table",
]
