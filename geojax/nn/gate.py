"""Gated nonlinearity: scalars pass a function, tensors are scaled by a function of scalars.

References:
    Weiler, Geiger, Welling, Boomsma, Cohen, "3D Steerable CNNs", NeurIPS 2018.
"""

from collections.abc import Mapping

from e3nn_jax import Irrep
from jaxtyping import Array

from geojax.nn.activation import activate
from geojax.nn.linear import Blocks

__all__ = ["gate", "gate_widths"]

EVEN, ODD = Irrep(0, 1), Irrep(0, -1)


def gate_widths(widths: Mapping[Irrep, int]) -> dict[Irrep, int]:
    """The channels that a gate reads to put out `widths`: one more 0e for each gated channel."""
    gates = sum(width for irrep, width in widths.items() if irrep.l > 0)
    return {EVEN: widths.get(EVEN, 0) + gates} | {
        irrep: width for irrep, width in widths.items() if irrep != EVEN
    }


def gate(x: Blocks, widths: Mapping[Irrep, int]) -> dict[Irrep, Array]:
    """Features of `widths` from features of `gate_widths(widths)`.

    Even scalars pass SiLU and odd ones tanh (an odd function keeps their parity); each channel of
    l > 0 is multiplied by SiLU of its own even scalar. All are normalised, and zero stays zero.

    Raises:
        ValueError: x has not the channels of `gate_widths(widths)`.
    """
    found = {irrep: block.shape[-1] for irrep, block in x.items()}
    if found != gate_widths(widths):
        raise ValueError(
            f"a gate for {_show(widths)} reads {_show(gate_widths(widths))}; got {_show(found)}"
        )
    scalars = activate(x[EVEN], "silu")
    start, out = widths.get(EVEN, 0), {}
    for irrep, width in widths.items():
        if irrep == EVEN:
            out[irrep] = scalars[..., :width]
        elif irrep == ODD:
            out[irrep] = activate(x[irrep], "tanh")
        else:
            out[irrep] = x[irrep] * scalars[..., start : start + width]
            start += width
    return out


def _show(widths: Mapping[Irrep, int]) -> str:
    return " + ".join(f"{width}x{irrep}" for irrep, width in widths.items())
