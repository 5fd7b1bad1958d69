"""Linear layers between tensor powers (Rⁿ)^⊗k -> (Rⁿ)^⊗l that a group leaves alone, by diagrams.

A diagram has the l output and the k input indices as its vertices, joined in blocks; its matrix has
one factor for each block. The matrices of all diagrams span the equivariant maps of

    "O"     orthogonal: pairs, each a δ
    "SO"    and in addition one block of n vertices, the Levi-Civita symbol ε; δ for the other pairs
    "Sp"    symplectic, gᵀ J g = J: pairs; δ between input and output, J within either
    "S"     permutations: blocks of any size, at most n of them, whose indices are all equal

They are independent for "S" always, for "O" where 2n >= l + k, for "Sp" where n >= l + k; beyond
that there are more than needed, which does no harm. Terms with ε flip under reflections.

The matrix of n^(l+k) entries is never formed. A diagram is applied in three steps: input indices of
one block are set equal and summed if no output has them; channels are mixed; outputs of one block
get copies, and blocks of outputs alone are inserted. Without ε that is O(n^k + n^l) per channel.

References:
    Pearce-Crump, "Brauer's group equivariant neural networks", ICML 2023,
    https://arxiv.org/abs/2212.08630; "Connecting permutation equivariant neural networks and
    partition diagrams", 2022, https://arxiv.org/abs/2212.08648.
    Pearce-Crump, Knottenbelt, "A diagrammatic approach to improve computational efficiency in group
    equivariant neural networks", 2024, https://arxiv.org/abs/2412.10837 (the three steps).
"""

import math
import string
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations, permutations
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from geojax.registry import did_you_mean

__all__ = ["DIAGRAM_GROUPS", "Diagram", "DiagramLinear", "apply_diagram", "diagrams"]

DIAGRAM_GROUPS = ("O", "SO", "Sp", "S")
LETTERS = string.ascii_letters.replace("z", "")  # z is the channel

Block = tuple[int, ...]


class Diagram(NamedTuple):
    """One equivariant map; vertices 0 ... l-1 are outputs, l ... l+k-1 are inputs.

    Attributes:
        group: one of DIAGRAM_GROUPS.
        n: the dimension of the space.
        k: indices of the input.
        l: indices of the output.
        blocks: vertices that are joined, ascending.
        epsilon: the n vertices of the Levi-Civita symbol, ascending; empty without one.
    """

    group: str
    n: int
    k: int
    l: int
    blocks: tuple[Block, ...]
    epsilon: Block = ()

    @property
    def gain(self) -> float:
        """The mean square of the outputs for inputs of mean square one: |matrix|² / n^l."""
        square = self.n ** len(self.blocks) * (math.factorial(self.n) if self.epsilon else 1)
        return square / self.n**self.l

    @property
    def carried(self) -> Block:
        """The outputs that get values of the input, one for each block that has both."""
        across = [b for b in self.blocks if b[0] < self.l <= b[-1]]
        epsilon = self.epsilon if any(v >= self.l for v in self.epsilon) else ()
        return tuple(sorted([b[0] for b in across] + [v for v in epsilon if v < self.l]))


@cache
def diagrams(group: str, n: int, k: int, l: int) -> tuple[Diagram, ...]:
    """All diagrams of a group from k to l indices of n values; none, where no map is equivariant.

    Raises:
        KeyError: no such group.
        ValueError: n is not positive, or odd for "Sp"; a negative number of indices.
    """
    _check(group, n, k, l)
    vertices = tuple(range(l + k))
    if group == "S":
        return tuple(Diagram(group, n, k, l, blocks) for blocks in _partitions(vertices, n))
    found = [Diagram(group, n, k, l, blocks) for blocks in _matchings(vertices)]
    if group == "SO":
        for free in combinations(vertices, n):
            rest = tuple(v for v in vertices if v not in free)
            found += [Diagram(group, n, k, l, blocks, free) for blocks in _matchings(rest)]
    return tuple(found)


def _check(group: str, n: int, k: int, l: int) -> None:
    if group not in DIAGRAM_GROUPS:
        raise KeyError(f"there are no diagrams of {group!r}; {did_you_mean(group, DIAGRAM_GROUPS)}")
    if n < 1 or (group == "Sp" and n % 2):
        raise ValueError(f"{group}(n) has a positive n{', even' * (group == 'Sp')}; got {n}")
    if k < 0 or l < 0:
        raise ValueError(f"tensors have zero indices or more; got {k} in and {l} out")


def _matchings(vertices: Block) -> Iterator[tuple[Block, ...]]:
    """All ways to pair the vertices up; one, of no pairs, for none."""
    if not vertices:
        yield ()
        return
    first, rest = vertices[0], vertices[1:]
    for i, other in enumerate(rest):
        for more in _matchings(rest[:i] + rest[i + 1 :]):
            yield ((first, other), *more)


def _partitions(vertices: Block, most: int) -> Iterator[tuple[Block, ...]]:
    """All ways to split the vertices into blocks, at most `most` of them."""
    if not vertices:
        yield ()
        return
    for blocks in _partitions(vertices[:-1], most):
        for i, block in enumerate(blocks):
            yield (*blocks[:i], (*block, vertices[-1]), *blocks[i + 1 :])
        if len(blocks) < most:
            yield (*blocks, (vertices[-1],))


def apply_diagram(x: Float[Array, "... channel"], diagram: Diagram) -> Float[Array, "... channel"]:
    """The matrix of a diagram times tensors, channel by channel.

    Args:
        x: `[*batch, n, ..., n, channel]` with k axes of length n.

    Returns:
        `[*batch, n, ..., n, channel]` with l axes of length n.

    Raises:
        ValueError: the tensors do not have k axes of length n.
    """
    _check_tensors(x, diagram.n, diagram.k)
    return _inserted(_contracted(x, diagram), diagram)


def _check_tensors(x: Array, n: int, k: int) -> None:
    if x.ndim <= k or x.shape[x.ndim - 1 - k : -1] != (n,) * k:
        raise ValueError(
            f"tensors have {k} axes of length {n} before the channels; got shape {x.shape}"
        )


def _contracted(x: Array, diagram: Diagram) -> Array:
    """One axis for each carried output, in their order; all sums over inputs are done."""
    n, l = diagram.n, diagram.l
    name = {v: LETTERS[v] for v in diagram.epsilon}
    factors: list[tuple[np.ndarray, str]] = []
    for block in diagram.blocks:
        if diagram.group == "Sp" and block[0] >= l:
            name |= {v: LETTERS[v] for v in block}
            factors.append((_symplectic(n), name[block[0]] + name[block[1]]))
        else:
            name |= dict.fromkeys(block, LETTERS[block[0]])
    if any(v >= l for v in diagram.epsilon):
        factors.append((_levi_civita(n), "".join(name[v] for v in diagram.epsilon)))
    inputs = "".join(name[v] for v in range(l, l + diagram.k))
    outputs = "".join(name[v] for v in diagram.carried)
    terms = ",".join([f"...{inputs}z", *(letters for _, letters in factors)])
    arrays = [jnp.asarray(factor, x.dtype) for factor, _ in factors]
    return jnp.einsum(f"{terms}->...{outputs}z", x, *arrays, precision="highest")


def _inserted(x: Array, diagram: Diagram) -> Array:
    """All l axes, from those that are carried."""
    n, l = diagram.n, diagram.l
    batch = x.shape[: x.ndim - 1 - len(diagram.carried)]
    shape = tuple(n if v in diagram.carried else 1 for v in range(l))
    mask = _insertion(diagram)
    mask = jnp.asarray(mask.reshape(*[1] * len(batch), *mask.shape, 1), x.dtype)
    x = x.reshape(*batch, *shape, x.shape[-1]) * mask
    return jnp.broadcast_to(x, (*batch, *(n,) * l, x.shape[-1]))


@cache
def _insertion(diagram: Diagram) -> np.ndarray:
    """The factor of the outputs among themselves; length 1 along axes that it does not know."""
    n, l = diagram.n, diagram.l
    found = np.ones((1,) * l)
    for block in diagram.blocks:
        outputs = tuple(v for v in block if v < l)
        if len(outputs) > 1:
            factor = _symplectic(n) if diagram.group == "Sp" else _equal(n, len(outputs))
            found = found * factor.reshape([n if v in outputs else 1 for v in range(l)])
    if diagram.epsilon and diagram.epsilon[-1] < l:
        shape = [n if v in diagram.epsilon else 1 for v in range(l)]
        found = found * _levi_civita(n).reshape(shape)
    return found


def _equal(n: int, axes: int) -> np.ndarray:
    """1 where all indices are equal."""
    found = np.zeros((n,) * axes)
    found[(np.arange(n),) * axes] = 1
    return found


@cache
def _symplectic(n: int) -> np.ndarray:
    """J = [[0, 1], [-1, 0]] in blocks of n / 2."""
    return np.kron([[0.0, 1.0], [-1.0, 0.0]], np.eye(n // 2))


@cache
def _levi_civita(n: int) -> np.ndarray:
    """ε, the sign of permutations."""
    found = np.zeros((n,) * n)
    for order in permutations(range(n)):
        found[order] = round(np.linalg.det(np.eye(n)[list(order)]))
    return found


class DiagramLinear(nn.Module):
    """y = sum_d A_d x W_d: for each diagram d its map A_d and a matrix of channels W_d.

    All weights are drawn from N(0, 1) and divided in use by sqrt(diagrams * fan-in * gain of d), so
    that the entries of y start with unit variance, in the mean, if those of x have it. A bias is
    a map from tensors without indices.

    For "S" the axes of length n are the members of a set: k = l = 1 is the layer of deep sets,
    k = l = 2 that of graphs by their adjacency.

    Raises:
        KeyError, ValueError: see `diagrams`; no map is equivariant; other tensors than those of
            k axes of length n.
    """

    group: str  # one of DIAGRAM_GROUPS
    n: int  # dimension of the space
    k: int  # indices of the input
    l: int  # indices of the output
    channels: int
    bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "... channel"]) -> Float[Array, "... channels"]:
        """`[*batch, n, ..., n, channel]` with k axes -> the same with l axes."""
        _check_tensors(x, self.n, self.k)
        out = self._sum("kernel", x, diagrams(self.group, self.n, self.k, self.l))
        shifts = diagrams(self.group, self.n, 0, self.l) if self.bias else ()
        if shifts:
            one = jnp.ones((*[1] * (x.ndim - 1 - self.k), 1), x.dtype)
            out = out + self._sum("bias", one, shifts, nn.initializers.zeros)
        return out

    def _sum(
        self,
        name: str,
        x: Array,
        maps: Sequence[Diagram],
        start: nn.initializers.Initializer = nn.initializers.normal(1.0),  # noqa: B008
    ) -> Array:
        if not maps:
            raise ValueError(
                f"{self.group}({self.n}) has no equivariant map from {self.k} to {self.l} indices, "
                f"since {self.k + self.l} vertices cannot be joined; choose other numbers of them"
            )
        fan_in = x.shape[-1]
        weights = self.param(name, start, (len(maps), fan_in, self.channels)).astype(x.dtype)
        terms = [
            _inserted(_contracted(x, d) @ (w / math.sqrt(len(maps) * fan_in * d.gain)), d)
            for d, w in zip(maps, weights, strict=True)
        ]
        return jax.tree.reduce(jnp.add, terms)
