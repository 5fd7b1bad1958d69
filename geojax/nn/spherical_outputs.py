"""What networks of spherical channels put out: scalars apart from natural tensors."""

from e3nn_jax import Irrep

from geojax.nn.message import irrep
from geojax.nn.readout import counts

__all__ = ["natural_outputs"]


def natural_outputs(irreps_out: str, lmax: int) -> tuple[int, dict[Irrep, int]]:
    """How many scalars an output has, and how many channels of each other irrep.

    Raises:
        ValueError: an irrep that features of natural parity up to degree lmax do not have.
    """
    widths = counts(irreps_out)
    known = [irrep(l) for l in range(lmax + 1)]
    if missing := [str(i) for i in widths if i not in known]:
        raise ValueError(
            f"an output is among the irreps inside, {', '.join(map(str, known))}; got "
            f"irreps_out={irreps_out!r} with {', '.join(missing)}; raise lmax, or use a network "
            "with pseudo-tensors"
        )
    return widths.pop(known[0], 0), widths
