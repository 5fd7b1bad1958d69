"""`Output`: what a slice of a network's output means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from geojax.graphs import POOLS
from geojax.so3 import ROTATION_HEADS

__all__ = ["Output", "slices"]


@dataclass(frozen=True)
class Output:
    """What (a slice of) the network's output means.

    Several outputs of one network take consecutive slices of its `irreps_out`, in order.

    Attributes:
        name: "energy", "targets.<name>" (per structure), "node_targets.<name>" (per node), or
            "hessian": of a network that predicts it directly, beside its `irreps_out`.
        irreps: of this slice; "energy" is "0e", and a Hessian has none.
        pool: how nodes become a structure: "sum" (extensive), "mean" (intensive), "max", or
            "dipole", of neutral molecules: sum_i q_i r_i of charges q (irreps "0e"), or
            sum_i q_i r_i + d_i with dipoles d of atoms ("0e+1o").
        norm: the result is the length of the pooled vector, as QM9's dipole is.
        scale: the network's output is multiplied by this; for an energy, before the sum over atoms.
        shift: then this is added: to each pooled value or node, or, for an energy, to each atom
            that has neighbours (see `_coordinated`), so that an isolated atom keeps exactly its E0.
        atomrefs: by symbol, what each atom adds to a summed target; as E0s of energies, added in
            float64 outside the program.
        relative_to: a node input that the output is counted from, such as "positions".
        unit: of the result, for reports; a Hessian's is eV/Å².
        slots: of the rows of a Hessian (see `graphs.hessian`): the nodes of the largest structure.
            Rows of a larger one are NaN. None: as many as the batch has nodes.
        rotation: a name in `so3.ROTATION_HEADS`, such as "6d" (irreps "6x0e" or "2x1o") and "svd":
            the numbers become rotation matrices `[..., 3, 3]`.
        zbl: add the repulsion of close nuclei to the energy (see `nn.zbl`).
        members: of a shallow ensemble: so many results in a row, which differ in the network's last
            layer only. Their mean is the result, and their unbiased standard deviation a target
            beside it (see `deviations.std_name`); the losses "nll" and "crps" teach it.

    References:
        Kellner, Ceriotti, "Uncertainty quantification by direct propagation of shallow ensembles",
        Mach. Learn.: Sci. Technol. 5, 035006 (2024).
    """

    name: str = "energy"
    irreps: str = "0e"
    pool: str = "sum"
    norm: bool = False
    scale: float = 1.0
    shift: float = 0.0
    relative_to: str = ""
    unit: str = "eV"
    zbl: bool = False
    slots: int | None = None
    rotation: str = ""
    atomrefs: Mapping[str, float] = field(default_factory=dict)
    members: int = 1

    def __post_init__(self):
        kind, _, key = self.name.partition(".")
        if self.name == "hessian":
            self._as_hessian()
        if self.name not in ("energy", "hessian") and not (
            kind in ("targets", "node_targets") and key
        ):
            raise ValueError(
                "an output is named energy, hessian, targets.<name> or node_targets.<name>; "
                f"got {self.name!r}"
            )
        if self.name == "energy" and (self.irreps not in ("0e", "1x0e") or self.pool != "sum"):
            raise ValueError(
                "an energy is one scalar summed over atoms (irreps '0e', pool 'sum'); got "
                f"irreps {self.irreps!r}, pool {self.pool!r}"
            )
        if self.pool not in POOLS:
            raise ValueError(f"pool is one of {', '.join(POOLS)}; got {self.pool!r}")
        if self.pool == "dipole" and self.irreps not in ("0e", "0e+1o"):
            raise ValueError(
                "a dipole is made of charges, irreps '0e', or of charges and dipoles of atoms, "
                f"'0e+1o'; got {self.irreps!r}"
            )
        if self.norm and (kind != "targets" or self.result != "1o"):
            raise ValueError(
                "a norm is that of one pooled vector: targets with irreps '1o' or pool 'dipole'; "
                f"got {self.name!r} with irreps {self.irreps!r} and pool {self.pool!r}"
            )
        if self.norm and self.shift:
            raise ValueError(f"a norm is not shifted; got {self.name!r} with shift {self.shift}")
        if self.rotation:
            self._as_rotation()
        if self.relative_to and kind != "node_targets":
            raise ValueError(f"only node_targets are relative to an input; got {self.name!r}")
        if self.atomrefs and not (self.is_summed and kind == "targets"):
            raise ValueError(
                "atomrefs are of one scalar summed over atoms, targets.<name> with pool 'sum' (E0s "
                f"of an energy are the model's); got {self.name!r} with irreps {self.irreps!r} and "
                f"pool {self.pool!r}"
            )
        if self.zbl and self.name != "energy":
            raise ValueError(f"only an energy has zbl repulsion added; got {self.name!r}")
        if self.slots is not None and self.name != "hessian":
            raise ValueError(f"only a hessian has slots; got {self.name!r}")
        if self.members < 1 or (self.members > 1 and (self.rotation or self.name == "hessian")):
            raise ValueError(
                "a shallow ensemble has two members or more, of numbers whose mean is one of their "
                f"kind, no rotation and no hessian; got {self.name!r} with members={self.members}"
            )

    @property
    def result(self) -> str:
        """The irreps of what comes out, after pooling and before the norm.

        Those of rotation matrices are "3x1o", which stands for their columns, or nine scalars.
        """
        if self.rotation:
            return "3x1o" if self.irreps.endswith("1o") else "9x0e"
        return "1o" if self.pool == "dipole" else self.irreps

    @property
    def slice_irreps(self) -> str:
        """Of the whole slice: those of all members, one after another."""
        return "+".join([self.irreps] * self.members)

    @property
    def is_summed(self) -> bool:
        """Whether the result is one number, the sum of those of the atoms."""
        return self.pool == "sum" and self.irreps in ("0e", "1x0e") and not self.norm

    @property
    def is_scalar(self) -> bool:
        """Whether the result is one number."""
        return self.norm or self.result in ("0e", "1x0e", "0o")

    def _as_rotation(self) -> None:
        numbers = ROTATION_HEADS[self.rotation].numbers
        own = {f"{numbers}x0e", f"{numbers // 3}x1o" if numbers % 3 == 0 else ""}
        if self.irreps not in own or self.norm or self.shift or self.relative_to:
            raise ValueError(
                f"a rotation by {self.rotation} has irreps {' or '.join(sorted(filter(None, own)))}"
                f", no norm, shift or relative_to; got {self.name!r} with {self.irreps!r}"
            )

    def _as_hessian(self) -> None:
        if self.shift or self.pool != "sum" or self.irreps not in ("", "0e"):
            raise ValueError(
                "a hessian is no slice of irreps_out: it has neither irreps nor pool nor shift; "
                f"got irreps {self.irreps!r}, pool {self.pool!r}, shift {self.shift}"
            )
        object.__setattr__(self, "irreps", "")
        object.__setattr__(self, "unit", "eV/Å²" if self.unit == "eV" else self.unit)


def slices(network: Any, outputs: Sequence[Output]) -> dict[str, slice]:
    """Where each output stands among the numbers of a network.

    Raises:
        ValueError: together they are not the network's `irreps_out`.
    """
    from e3nn_jax import Irreps

    whole = Irreps(network.irreps_out)
    parts = [Irreps(output.slice_irreps) for output in outputs]
    joined = Irreps("+".join(str(p) for p in parts)).simplify() if parts else Irreps("")
    if joined != whole.simplify():
        raise ValueError(
            "the outputs fill the network's irreps_out in order; outputs "
            f"{[f'{o.name}: {o.slice_irreps}' for o in outputs]} make {joined}, the network has "
            f"{whole}"
        )
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + part.dim)
    return {
        output.name: slice(first, last)
        for output, first, last in zip(outputs, ends, ends[1:], strict=False)
    }
