"""Whether to trust a model, and the installation: symmetry, physics, certificate, doctor."""

from geojax.checks.certificate import Certificate, certified, certify
from geojax.checks.context import CHECKS, Context, Measurement

__all__ = [
    "CHECKS",
    "Certificate",
    "Context",
    "Measurement",
    "certified",
    "certify",
]
