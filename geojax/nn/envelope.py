"""The envelope of networks that were published with a cosine cutoff: a polynomial, or the cosine.

The cosine is only C¹, so forces have kinks where a neighbour comes or goes. The polynomial of power
3, 1 - 10 x³ + 15 x⁴ - 6 x⁵, is C², equals the cosine at x = 0, 1/2 and 1, and is within 0.05 of it.
"""

from jaxtyping import Array, Float

from geojax.nn.radial import cosine_envelope, polynomial_envelope

__all__ = ["envelope"]


def envelope(r: Float[Array, "*n"], cutoff: float, power: int = 3) -> Float[Array, "*n"]:
    """`polynomial_envelope` of this power, or `cosine_envelope` where the power is 0.

    Args:
        r: distances [Å].
        cutoff: [Å].
        power: of the polynomial; 0 is the cosine.

    Raises:
        ValueError: a negative power, or a cutoff that the envelope does not take.
    """
    if power < 0:
        raise ValueError(
            f"the power of an envelope is 1 or more, or 0 for the cosine; got {power}; use 3"
        )
    return cosine_envelope(r, cutoff) if power == 0 else polynomial_envelope(r, cutoff, power)
