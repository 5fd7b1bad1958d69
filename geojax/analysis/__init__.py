"""What a model looks at, and what it can tell apart: explanations, separation of structures."""

from geojax.analysis.explanations import (
    EXPLANATIONS,
    Scores,
    averaged,
    equivariance,
    explainer,
    explanation_scores,
    group_elements,
    invariance,
)
from geojax.analysis.separation import Pair, Separation, separation_report, standard_pairs

__all__ = [
    "EXPLANATIONS",
    "Pair",
    "Scores",
    "Separation",
    "averaged",
    "equivariance",
    "explainer",
    "explanation_scores",
    "group_elements",
    "invariance",
    "separation_report",
    "standard_pairs",
]
