"""One file = one architecture, by name in `NETWORKS`."""

from geojax.networks.allegro import Allegro
from geojax.networks.assembly import Assembly
from geojax.networks.canonicalizer import Canonicalizer
from geojax.networks.cgenn import CGENN
from geojax.networks.dgcnn import DGCNN
from geojax.networks.ecomformer import EComFormer
from geojax.networks.egnn import EGNN
from geojax.networks.eqmotion import EqMotion
from geojax.networks.equiformer_v2 import EquiformerV2
from geojax.networks.escn import ESCN
from geojax.networks.esen import ESEN
from geojax.networks.geometric_algebra_attention import GeometricAlgebraAttention
from geojax.networks.glgenn import GLGENN
from geojax.networks.hip import HIP
from geojax.networks.icomformer import IComFormer
from geojax.networks.iterative_se3_transformer import IterativeSE3Transformer
from geojax.networks.lie_transformer import LieTransformer
from geojax.networks.locs import LoCS
from geojax.networks.mace import MACE
from geojax.networks.nequip import NequIP
from geojax.networks.network import FIELDS, NETWORKS, Network, fit_to_data, from_table, to_table
from geojax.networks.painn import PaiNN
from geojax.networks.pare_net import PARENet
from geojax.networks.pointnet import PointNet
from geojax.networks.ponita import PONITA
from geojax.networks.risurconv import RISurConv
from geojax.networks.roitr import RoITr
from geojax.networks.se3_transformer import SE3Transformer
from geojax.networks.segnn import SEGNN
from geojax.networks.siamese import Siamese
from geojax.networks.spherical_neurons import SphericalNeuronNetwork
from geojax.networks.spinnet import SpinNet
from geojax.networks.steerable_transformer import SteerableTransformer
from geojax.networks.symmetrized import Symmetrized
from geojax.networks.tensornet import TensorNet
from geojax.networks.tfn import TFN
from geojax.networks.views import Views
from geojax.networks.vn_dgcnn import VNDGCNN
from geojax.networks.vn_pointnet import VNPointNet

__all__ = [
    "Allegro",
    "Assembly",
    "CGENN",
    "Canonicalizer",
    "DGCNN",
    "EComFormer",
    "EGNN",
    "ESCN",
    "ESEN",
    "EqMotion",
    "EquiformerV2",
    "FIELDS",
    "GLGENN",
    "GeometricAlgebraAttention",
    "HIP",
    "IComFormer",
    "IterativeSE3Transformer",
    "LieTransformer",
    "LoCS",
    "MACE",
    "NETWORKS",
    "NequIP",
    "Network",
    "PARENet",
    "PONITA",
    "PaiNN",
    "PointNet",
    "RISurConv",
    "RoITr",
    "SEGNN",
    "SE3Transformer",
    "Siamese",
    "SphericalNeuronNetwork",
    "SpinNet",
    "SteerableTransformer",
    "Symmetrized",
    "TFN",
    "TensorNet",
    "VNDGCNN",
    "VNPointNet",
    "Views",
    "fit_to_data",
    "from_table",
    "to_table",
]
