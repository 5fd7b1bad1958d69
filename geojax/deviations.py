"""Standard deviations of the members of an ensemble, beside their mean."""

import math
from collections.abc import Sequence

from jaxtyping import Array, Float

from geojax.arrays import safe_norm
from geojax.graphs import Properties, is_per_node, leaves, replace_leaves

__all__ = ["check_std_names", "deviation", "mean_and_std", "std_name"]


def std_name(name: str) -> str:
    """Where the standard deviation of a property stands: "targets.energy_std",
    "node_targets.forces_std", in the unit and shape of the property."""
    group = "node_targets" if is_per_node(name) else "targets"
    return f"{group}.{name.rpartition('.')[2]}_std"


def check_std_names(names: Sequence[str], known: Sequence[str] = ()) -> None:
    """Refuse properties whose standard deviations would have one name, or that of another.

    Raises:
        ValueError: they would.
    """
    every = [std_name(name) for name in names]
    if len({*every, *names, *known}) < len(every) + len({*names, *known}):
        raise ValueError(
            f"each standard deviation has a name of its own; those of {', '.join(names)} are "
            f"{', '.join(every)}; rename an output"
        )


def deviation(values: Float[Array, "member *n"]) -> Float[Array, "*n"]:
    """The unbiased standard deviation; its derivative is zero, not NaN, where all are equal."""
    return safe_norm(values - values.mean(0, keepdims=True), axis=0) / math.sqrt(len(values) - 1)


def mean_and_std(every: Properties) -> Properties:
    """The mean of members on a leading axis, and the deviation of each property but a Hessian."""
    found = {}
    for name, values in leaves(every).items():
        found[name] = values.mean(0)
        if name != "hessian":
            found[std_name(name)] = deviation(values)
    return replace_leaves(Properties(), found)
