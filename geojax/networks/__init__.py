"""One file = one architecture, by name in `NETWORKS`."""

from geojax.networks.egnn import EGNN
from geojax.networks.nequip import NequIP
from geojax.networks.network import NETWORKS, Network, fit_to_data, from_table, to_table

__all__ = ["EGNN", "NETWORKS", "NequIP", "Network", "fit_to_data", "from_table", "to_table"]
