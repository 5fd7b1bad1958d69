"""Faults of labelled structures, found without a model: units, signs, copies, placeholders."""

from geojax.datasets.check.data import check_data
from geojax.datasets.check.findings import Finding, Findings

__all__ = ["Finding", "Findings", "check_data"]
