"""The optimizer and its schedule, from a small table; everything is optax underneath."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import jax
import optax

from geojax.model import named
from geojax.registry import Registry

__all__ = ["OPTIMIZERS", "SCHEDULES", "Optimizer", "build"]

OPTIMIZERS: Registry[Any] = Registry("optimizer")
SCHEDULES: Registry[Any] = Registry("schedule")


@OPTIMIZERS.register("adam")
def _adam(o: "Optimizer") -> optax.GradientTransformation:
    """Adam; AdamW with `weight_decay`."""
    return optax.scale_by_adam(o.b1, o.b2)


@OPTIMIZERS.register("amsgrad")
def _amsgrad(o: "Optimizer") -> optax.GradientTransformation:
    """Adam whose second moment never falls."""
    return optax.scale_by_amsgrad(o.b1, o.b2)


@OPTIMIZERS.register("lion")
def _lion(o: "Optimizer") -> optax.GradientTransformation:
    """Signs of averaged gradients: needs a lower rate than Adam."""
    return optax.scale_by_lion(o.b1, o.b2)


@OPTIMIZERS.register("sgd")
def _sgd(o: "Optimizer") -> optax.GradientTransformation:
    """Gradient descent with momentum `b1`."""
    return optax.trace(o.b1)


@SCHEDULES.register("constant")
def _constant(o: "Optimizer", steps: int) -> optax.Schedule:
    """The same rate after the warmup."""
    del o, steps
    return optax.constant_schedule(1.0)


@SCHEDULES.register("cosine")
def _cosine(o: "Optimizer", steps: int) -> optax.Schedule:
    """Along half a cosine to `final`."""
    return optax.cosine_decay_schedule(1.0, max(steps - o.warmup, 1), o.final)


@SCHEDULES.register("linear")
def _linear(o: "Optimizer", steps: int) -> optax.Schedule:
    """Along a line to `final`."""
    return optax.linear_schedule(1.0, o.final, max(steps - o.warmup, 1))


@SCHEDULES.register("exponential")
def _exponential(o: "Optimizer", steps: int) -> optax.Schedule:
    """By the same factor with every step, to `final`."""
    return optax.exponential_decay(1.0, max(steps - o.warmup, 1), max(o.final, 1e-12))


@dataclass(frozen=True)
class Optimizer:
    """How parameters move.

    Attributes:
        name: in `OPTIMIZERS`.
        learning_rate: at its highest.
        schedule: in `SCHEDULES`; how the rate falls from `learning_rate` to `final` times it.
        final: the last rate, as a share of the first.
        warmup: steps of linear rise from zero.
        weight_decay: decoupled (AdamW), times the learning rate; not on biases and other vectors.
        clip: the gradient's global norm is clipped to this; None: never.
        b1, b2: decay of the moments.
        plateau: after so many validations without improvement the rate is multiplied by
            `plateau_factor`; None: never.
        plateau_factor: see `plateau`.
        freeze: parameters that stay as they are, by their names in a model's weights, where *
            stands for anything: "params/embedding/*".

    Raises:
        ValueError: a number out of its range.
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    final: float = 0.0
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float | None = None
    b1: float = 0.9
    b2: float = 0.999
    plateau: int | None = None
    plateau_factor: float = 0.8
    freeze: Sequence[str] = ()

    def __post_init__(self):
        for name in ("learning_rate", "final", "warmup", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is zero or more; got {getattr(self, name)}")
        if not (0 <= self.b1 < 1 and 0 <= self.b2 < 1):
            raise ValueError(f"decays b1 and b2 are below 1; got {self.b1} and {self.b2}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(
                f"clip is the largest norm of a gradient; got {self.clip}, which would keep every "
                "parameter as it is; leave it out to clip nothing"
            )
        if self.plateau is not None and self.plateau < 1:
            raise ValueError(
                f"plateau is a number of validations, 1 or more; got {self.plateau}; leave it out "
                "to keep the rate"
            )
        if not 0 < self.plateau_factor <= 1:
            raise ValueError(f"plateau_factor is above 0, at most 1; got {self.plateau_factor}")


def build(optimizer: Optimizer, steps: int) -> optax.GradientTransformation:
    """The optax transformation for a run of so many steps.

    Raises:
        KeyError: an unknown name.
        ValueError: on its first use, if no parameter has a name of `freeze`.
    """
    decay = SCHEDULES[optimizer.schedule](optimizer, steps)
    if optimizer.warmup:
        rise = optax.linear_schedule(0.0, 1.0, optimizer.warmup)
        decay = optax.join_schedules([rise, decay], [optimizer.warmup])
    parts = [OPTIMIZERS[optimizer.name](optimizer)]
    if optimizer.clip is not None:
        parts.insert(0, optax.clip_by_global_norm(optimizer.clip))
    if optimizer.weight_decay:
        parts.append(optax.add_decayed_weights(optimizer.weight_decay, mask=_matrices))
    parts.append(optax.scale_by_schedule(lambda step: -optimizer.learning_rate * decay(step)))
    if optimizer.freeze:  # clipping does not see their gradients, and decay does not move them
        still = optax.masked(optax.set_to_zero(), partial(_matching, optimizer.freeze))
        parts = [still, *parts, still]
    return optax.chain(*parts)


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)


def _matching(patterns: Sequence[str], params: Any) -> Any:
    """True for the parameters that a pattern names."""
    names = [name for name, _ in named(params)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"freeze names parameters of the network; none is {pattern!r}; there are: "
                f"{', '.join(names)}"
            )
    chosen = [any(fnmatchcase(name, pattern) for pattern in patterns) for name in names]
    return jax.tree.unflatten(jax.tree.structure(params), chosen)
