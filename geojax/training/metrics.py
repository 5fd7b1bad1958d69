"""How wrong a prediction is: sums that add up over batches and devices, and their report."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.graphs import Batch, Properties, leaf, leaves

__all__ = ["error_sums", "summary"]

# Reported in thousandths: meV, meV/Å.
MILLI = {"energy": "meV", "energy_per_atom": "meV/atom", "forces": "meV/Å"}


def error_sums(predicted: Properties, batch: Batch) -> dict[str, Float[Array, "4"]]:
    """For each labelled property: sums of |error|, error², right classes, and the count.

    Components of vectors and tensors count one by one.
    """
    sums = {}
    for name in leaves(batch.labels):
        value, label, mask = (
            leaf(predicted, name),
            leaf(batch.labels, name),
            leaf(batch.masks, name),
        )
        if value is None:
            continue
        if jnp.issubdtype(label.dtype, jnp.integer) and value.ndim == label.ndim + 1:
            right = jnp.where(mask, jnp.argmax(value, -1) == label, False)
            total = mask.sum().astype(value.dtype)
            zero = jnp.zeros((), value.dtype)
            sums[name] = jnp.stack([zero, zero, right.sum().astype(value.dtype), total])
            continue
        sums[name] = _sums(value - label, mask)
        if name == "energy":
            atoms = jnp.maximum(batch.graph.n_node, 1).astype(value.dtype)
            sums["energy_per_atom"] = _sums((value - label) / atoms, mask)
    return sums


def _sums(error: Float[Array, "row *d"], mask: Array) -> Float[Array, "4"]:
    rows = error.reshape(len(error), -1)
    rows = jnp.where(mask[:, None], rows, 0)
    count = mask.sum().astype(error.dtype) * rows.shape[1]
    return jnp.stack([jnp.abs(rows).sum(), jnp.square(rows).sum(), jnp.zeros_like(count), count])


def summary(sums: Mapping[str, Any]) -> dict[str, float]:
    """Means from the sums: "forces.mae", "forces.rmse", "targets.label.accuracy", …

    In geojax's units, as everything that is computed with.
    """
    found = {}
    for name, value in sums.items():
        absolute, square, right, count = np.asarray(value, np.float64)
        if count == 0:
            continue
        if right or not (absolute or square):
            found[f"{name}.accuracy"] = float(right / count)
        if absolute or square:
            found[f"{name}.mae"] = float(absolute / count)
            found[f"{name}.rmse"] = float(np.sqrt(square / count))
    return found


def in_words(metrics: Mapping[str, float]) -> dict[str, str]:
    """Each metric as people read it: meV, meV/atom and meV/Å; three digits."""
    words = {}
    for name, value in metrics.items():
        unit = MILLI.get(name.rsplit(".", 1)[0])
        words[name] = f"{1e3 * value:.3g} {unit}" if unit else f"{value:.4g}"
    return words
