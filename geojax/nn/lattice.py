"""A lattice by its three shortest vectors, whatever cell it was given by.

e1 is the shortest vector of the lattice, e2 the shortest one off its line, e3 the shortest one out
of their plane. e2 and e3 point so that their angles with e1 are at most 90 degrees, and all three
are reversed where they are left-handed.

What is found are integers n, and e = n cell. They are constants to derivatives, so that e follows a
strained cell. They jump where another vector becomes the shortest: no rule can avoid that. In
lattices of high symmetry several vectors are equally short, or at right angles, and rounding must
not decide: lengths within 0.1 %, and angles up to 90.06 degrees, count as equal and as right, and
then the integers themselves decide. So the choice does not depend on how a crystal is turned; among
equally short vectors it does depend on the cell that the lattice was given by.

References:
    Yan, Fu, Qian, Qian, Ji, "Complete and efficient graph transformers for crystal material
    property prediction", ICLR 2024, https://arxiv.org/abs/2403.11857 (the lattice representation).
"""

from itertools import permutations, product

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from geojax.arrays import safe_divide, safe_norm

__all__ = ["shortest_vectors"]

EQUAL = 1e-3  # relative difference of lengths, and cosine
SWEEPS = 64  # at most; cells in use need one or two
ORDER = np.sqrt([1.0, 2.0, 3.0])  # no two of the short integer vectors are alike to it

# One of each pair n, -n of the vectors that may be shortest in a reduced basis.
SHORT = np.array([n for n in product(range(-2, 3), repeat=3) if n > (0, 0, 0)], np.float32)
OFF_LINE = np.cross(SHORT[:, None], SHORT[None]).any(-1)


def shortest_vectors(cell: Float[Array, "graph 3 3"]) -> Float[Array, "graph 3 3"]:
    """e1, e2, e3 [Å] as rows, right-handed; zero where the cell is zero.

    Args:
        cell: lattice vectors as rows [Å], any basis of the lattice, of either hand.
    """
    return _times(_integers(jax.lax.stop_gradient(cell)), cell)


def _times(n: Float[Array, "#graph row 3"], cell: Float[Array, "graph 3 3"]) -> Array:
    """n cell, without a matrix unit that rounds its factors."""
    return jnp.sum(n[..., None] * cell[:, None], -2)


def _dot(a: Float[Array, "... 3"], b: Float[Array, "... 3"]) -> Float[Array, "..."]:
    return jnp.sum(a * b, -1)


def _integers(cell: Float[Array, "graph 3 3"]) -> Float[Array, "graph 3 3"]:
    """The coordinates of e1, e2, e3 in the cell."""
    short = jnp.asarray(SHORT, cell.dtype)
    n = _times(short[None], _reduced(cell))
    n = n * jnp.where(_by_order(n) < 0, -1, 1)[..., None]
    length = _ranked_lengths(n, cell)
    first = jnp.argmin(length, -1)
    allowed = jnp.asarray(OFF_LINE)[first]
    second = jnp.argmin(jnp.where(allowed, length, jnp.inf), -1)
    normal = jnp.cross(short[first], short[second])
    allowed = jnp.abs(jnp.sum(normal[:, None] * short[None], -1)) > 0.5
    third = jnp.argmin(jnp.where(allowed, length, jnp.inf), -1)
    return _oriented(_rows(n, jnp.stack([first, second, third], -1)), cell)


def _ranked_lengths(
    n: Float[Array, "graph row 3"], cell: Float[Array, "graph 3 3"]
) -> Float[Array, "graph row"]:
    """Lengths, made longer by up to 0.1 % according to the integers."""
    rank = safe_divide(_by_order(n), _by_order(jnp.ones_like(n)) * jnp.sum(jnp.abs(n), -1))
    return safe_norm(_times(n, cell)) * (1 + EQUAL * rank)


def _by_order(n: Float[Array, "graph row 3"]) -> Float[Array, "graph row"]:
    return _dot(n, jnp.asarray(ORDER, n.dtype)[None, None])


def _rows(
    n: Float[Array, "graph row 3"], index: Int[Array, "graph 3"]
) -> Float[Array, "graph 3 3"]:
    return jnp.take_along_axis(n, index[..., None], 1)


def _oriented(n: Float[Array, "graph 3 3"], cell: Float[Array, "graph 3 3"]) -> Array:
    """Signs: no angle with e1 beyond 90 degrees, and right-handed."""
    e = _times(n, cell)
    length = safe_norm(e)
    blunt = _dot(e, e[:, :1]) < -EQUAL * length * length[:, :1]
    sign = jnp.where(blunt, -1, 1)
    volume = _dot(e[:, 0], jnp.cross(e[:, 1], e[:, 2])) * jnp.prod(sign, -1)
    return n * (sign * jnp.where(volume < 0, -1, 1)[:, None])[..., None]


def _reduced(cell: Float[Array, "graph 3 3"]) -> Float[Array, "graph 3 3"]:
    """A basis of the lattice in which no vector is shortened by another one, as integers."""

    def sweep(state):
        n, _, count = state
        rows, changed = [n[:, i] for i in range(3)], jnp.zeros((), bool)
        for i, j in permutations(range(3), 2):
            a, b = (_times(rows[k][:, None], cell)[:, 0] for k in (i, j))
            ratio = safe_divide(_dot(a, b), _dot(b, b))
            # A half may be rounded either way for ever; up to 0.501 a pair counts as reduced
            times = jnp.sign(ratio) * jnp.ceil(jnp.abs(ratio) - 0.501)
            rows[i] = rows[i] - times[:, None] * rows[j]
            changed = changed | (times != 0).any()
        return jnp.stack(rows, 1), changed, count + 1

    start = jnp.zeros_like(cell) + jnp.eye(3, dtype=cell.dtype)[None]
    more = lambda state: state[1] & (state[2] < SWEEPS)
    return jax.lax.while_loop(more, sweep, (start, jnp.ones((), bool), jnp.zeros((), jnp.int32)))[0]
