"""A certificate: what was measured of a model's symmetry and physics, in which precision.

`certify` runs every check of `CHECKS` that applies to the model. A new check is one decorated
function in `symmetry`, `layout` or `physics`. The seed is fixed: the same command gives the same
figures.
"""

import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from geojax.checks import layout, physics, symmetry  # noqa: F401  (they fill CHECKS)
from geojax.checks.context import CHECKS, Measurement, make_context
from geojax.graphs import Structure
from geojax.model import Model, check_elements, weights_hash

__all__ = ["Certificate", "certified", "certify"]

GIVEN = 4  # of the given structures, so many are measured
DTYPES = ("float64", "float32")
WIDTH = 110  # of the table, as text
PACKAGES = ("geojax", "jax", "jaxlib", "flax", "e3nn-jax", "numpy")


@dataclass(frozen=True)
class Certificate:
    """What was measured of a model.

    Attributes:
        model: its name.
        weights: sha256 of its parameters, see `weights_hash`.
        measurements: one for each check and precision.
        date: UTC, ISO 8601.
        seconds: how long it took, compilation included.
        seed: of all random numbers.
        versions: of the packages that computed, and of Python.
        device: that it was measured on.
    """

    model: str
    weights: str
    measurements: tuple[Measurement, ...]
    date: str
    seconds: float
    seed: int
    versions: Mapping[str, str]
    device: str

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(m.passed for m in self.measurements)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that did not pass, each once."""
        return tuple(dict.fromkeys(m.name for m in self.measurements if not m.passed))

    def __str__(self) -> str:
        with (console := Console(width=WIDTH)).capture() as text:
            console.print(self.table())
        return text.get()

    def record(self) -> dict[str, Any]:
        """For JSON and the model's card; what is not finite becomes the largest float."""
        finite = lambda m: {**asdict(m), "value": min(m.value, sys.float_info.max)}
        return {
            "model": self.model,
            "weights": self.weights,
            "passed": self.passed,
            "date": self.date,
            "seconds": round(self.seconds, 1),
            "seed": self.seed,
            "versions": dict(self.versions),
            "device": self.device,
            "checks": [finite(m) for m in self.measurements],
        }

    def table(self) -> Table:
        """One line per check with both precisions; failures say what they mean."""
        verdict = "passed" if self.passed else f"FAILED: {', '.join(self.failed)}"
        table = Table(
            title=f"{escape(self.model)} ({self.weights[:12]}): {verdict}",
            caption=f"{self.device}, jax {self.versions['jax']}, {self.seconds:.0f} s",
        )
        dtypes = [d for d in DTYPES if any(m.dtype == d for m in self.measurements)]
        table.add_column("check", no_wrap=True)
        table.add_column("figure")
        for dtype in dtypes:
            table.add_column(dtype, justify="right", no_wrap=True)
            table.add_column("limit", justify="right", no_wrap=True)
        table.add_column("unit")
        table.add_column("")
        for name in dict.fromkeys(m.name for m in self.measurements):
            mine = {m.dtype: m for m in self.measurements if m.name == name}
            cells = [c for d in dtypes for c in _cells(mine.get(d))]
            one = next(iter(mine.values()))
            bad = [m for m in mine.values() if not m.passed]
            remark = f"[red]FAILED[/red] {escape(bad[0].detail)}" if bad else "[green]ok[/green]"
            table.add_row(name, one.figure, *cells, one.unit, remark)
        return table


def _cells(measurement: Measurement | None) -> tuple[str, str]:
    if measurement is None:
        return "", ""
    return f"{measurement.value:.1e}", f"{measurement.limit:.0e}"


def certify(
    model: Model,
    structures: Sequence[Structure] | None = None,
    *,
    dtype: str = "float64",
    seed: int = 0,
    checks: Sequence[str] | None = None,
) -> Certificate:
    """Measure a model's symmetry and physics.

    The model is measured on generated structures that suit it (see `checks.examples`) and on some
    of the given ones, in `dtype` and, unless the model itself is of float64, in float32.

    Args:
        structures: four of these, evenly spread, are measured as well. A model that reads node
            inputs needs them.
        dtype: "float64" or "float32".
        seed: of the rotations, permutations and generated structures.
        checks: names of `CHECKS`; all of them by default.

    Raises:
        ValueError: the dtype is none of the two, the structures hold elements that the model does
            not know, or the network reads node inputs and there are no structures.
        KeyError: a check does not exist.
        TypeError: an ensemble or an exported file.
    """
    if not isinstance(model, Model):
        raise TypeError(
            f"a certificate is that of a Model; got {type(model).__name__}; of an ensemble, "
            "certify its members (folders 0, 1, …); of an exported file, the model that it was "
            "written from"
        )
    if dtype not in DTYPES:
        raise ValueError(f"a model is measured in {' or '.join(DTYPES)}; got {dtype!r}")
    start = time.perf_counter()
    given = _some(structures or ())
    check_elements(model.card, given)
    functions = [CHECKS[name] for name in (CHECKS if checks is None else checks)]
    dtypes = [dtype] + ["float32"] * (dtype != "float32" and model.card.dtype == "float32")
    found = []
    for one in dtypes:
        context = make_context(model, given, dtype=one, seed=seed)
        found += [m for m in (check(context) for check in functions) if m is not None]
    found.sort(key=lambda m: (int(m.figure[1:]), m.name))
    device = jax.devices()[0]
    return Certificate(
        model=model.card.name,
        weights=weights_hash(model.params),
        measurements=tuple(found),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.perf_counter() - start,
        seed=seed,
        versions={name: _version(name) for name in PACKAGES} | {"python": _python()},
        device=f"{device.platform} {device.device_kind}",
    )


def certified(model: Model, structures: Sequence[Structure] | None = None) -> Model:
    """The model with its certificate, passed or not, in its card."""
    return model.replace_card(certificate=certify(model, structures).record())


def _some(structures: Sequence[Structure]) -> list[Structure]:
    rows = np.linspace(0, len(structures) - 1, min(GIVEN, len(structures))).round().astype(int)
    return [structures[i] for i in rows]


def _python() -> str:
    return platform.python_version()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
