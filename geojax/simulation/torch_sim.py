"""A potential as a model of torch-sim, which moves many systems at once in PyTorch.

The systems of a state are one batch of the model. Units are the same on both sides: eV, Å and amu;
stress is (1/V) dE/dstrain, tension positive. Lattice vectors are columns there and rows here.
Neighbour lists are made on the host, so that tensors of a GPU are copied there and back.

References:
    Cohen et al., "TorchSim: an efficient atomistic simulation engine in PyTorch", 2025,
    https://arxiv.org/abs/2508.06628.
"""

from importlib import import_module
from typing import Any

import numpy as np

from geojax.graphs import Structure
from geojax.inference import Predictor
from geojax.inference.predictor import grown

__all__ = ["torch_sim_model"]

SYSTEMS = 8  # of a batch, at least, so that one that ends does not change the compiled shape


def torch_sim_model(
    model: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    compute_forces: bool = True,
    compute_stress: bool | None = None,
) -> Any:
    """A `torch_sim.models.interface.ModelInterface` with energies, forces and stresses of a model.

    It maps a state to `energy` `[n_systems]` [eV], E0s included, `forces` `[n_atoms, 3]` [eV/Å]
    and `stress` `[n_systems, 3, 3]` [eV/Å³], of the state's dtype and on its device, without
    gradients. Both `compute_forces` and `compute_stress` may be set later.

    Args:
        model: a `Model`, an `Ensemble` or an opened artifact.
        dtype: `torch.float64` (by default) or `torch.float32`: of the states that torch-sim makes
            of atoms. The model computes in its own; a total energy of -4000 eV in float32 is known
            to 2e-4 eV.
        device: of those states; the CPU by default. Where the model runs is up to jax.
        compute_forces: whether forces are computed.
        compute_stress: whether stresses are, which states that do not repeat in three directions
            do not have; by default where the model was trained on them.

    Raises:
        ImportError: torch or torch-sim are not installed.
        ValueError: the model has no energy, or the dtype is another one. From a state: elements
            that the model does not know, structures that cannot be, predictions that are not
            finite, and stress without three periodic directions or with a left-handed cell.
    """
    interface = _torch_sim().models.interface.ModelInterface
    predictor = Predictor(model)
    if not any(output.name == "energy" for output in predictor.card.outputs):
        raise ValueError(
            f"torch-sim needs an energy; {predictor.card.name!r} predicts "
            f"{', '.join(output.name for output in predictor.card.outputs)}"
        )
    stress = predictor.card.stress if compute_stress is None else compute_stress
    made = type("TorchSimModel", (Computation, interface), {})
    return made(predictor, dtype, device, compute_forces, stress)


class Computation:
    """What torch-sim calls; its own class, which may be absent, is added to this one."""

    def __init__(self, predictor: Predictor, dtype: Any, device: Any, forces: bool, stress: bool):
        super().__init__()
        torch = import_module("torch")
        self.predictor = predictor
        self._dtype = torch.float64 if dtype is None else dtype
        self._device = torch.device("cpu" if device is None else device)
        self._compute_forces, self._compute_stress = forces, stress
        _check_dtype(self._dtype)

    @property
    def compute_forces(self) -> bool:
        """Whether forces are computed; may be set."""
        return self._compute_forces

    @compute_forces.setter
    def compute_forces(self, value: bool) -> None:
        self._compute_forces = value

    @property
    def compute_stress(self) -> bool:
        """Whether stresses are computed; may be set."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        self._compute_stress = value

    def forward(self, state: Any, **_: Any) -> dict[str, Any]:
        """Energies, forces and stresses of a state, or of the dictionary of one."""
        if isinstance(state, dict):
            ones = state["positions"].new_ones(len(state["positions"]))
            state = _torch_sim().SimState(**{"masses": ones, **state})
        _check_dtype(state.positions.dtype)
        structures = _structures(state)
        wanted = ["energy"]
        if self.compute_forces:
            wanted.append("forces")
        if self.compute_stress:
            _check_stress(structures)
            wanted.append("stress")
        self.predictor.batch_size = grown(len(structures), SYSTEMS)
        found = self.predictor(structures, wanted)
        join = {"energy": np.stack, "forces": np.concatenate, "stress": np.stack}
        values = {name: join[name]([getattr(f, name) for f in found]) for name in wanted}
        return {name: state.positions.new_tensor(value) for name, value in values.items()}


def _torch_sim() -> Any:
    try:
        import_module("torch_sim.models.interface")
    except ImportError as error:
        raise ImportError("torch-sim is not installed; pip install 'geojax[torch-sim]'") from error
    return import_module("torch_sim")


def _check_dtype(dtype: Any) -> None:
    if str(dtype) not in ("torch.float32", "torch.float64"):
        raise ValueError(
            f"states are of torch.float64 or torch.float32; got {dtype}; convert them, as "
            "in state.to(dtype=torch.float64)"
        )


def _structures(state: Any) -> list[Structure]:
    """The systems of a state, in float64 on the host."""
    host = lambda tensor: tensor.detach().cpu().numpy()
    positions, cells = (host(x).astype(np.float64) for x in (state.positions, state.cell))
    numbers, index = host(state.atomic_numbers), host(state.system_idx)
    counts = np.bincount(index, minlength=len(cells))
    every = len(counts) == len(cells) > 0 and counts.all()
    if not every or (np.diff(index) < 0).any():
        raise ValueError(
            "the atoms of a state are those of system 0, of system 1 and so on, some of each; got "
            f"{len(cells)} cells and system_idx {index.tolist()}; sort the atoms"
        )
    # One flag for all, or, of later versions of torch-sim, a tensor of them
    flags = host(state.pbc) if hasattr(state.pbc, "detach") else state.pbc
    repeats = np.broadcast_to(flags, (len(cells), 3)).tolist()
    parts = (np.split(array, np.cumsum(counts)[:-1]) for array in (positions, numbers))
    return [
        Structure(x, z, cell.T if any(pbc) else None, tuple(pbc))
        for x, z, cell, pbc in zip(*parts, cells, repeats, strict=True)
    ]


def _check_stress(structures: list[Structure]) -> None:
    for number, structure in enumerate(structures):
        if not all(structure.pbc):
            raise ValueError(
                f"stress exists where three lattice vectors repeat; system {number} has pbc "
                f"{structure.pbc}; make the model with compute_stress=False"
            )
        assert structure.cell is not None
        if np.linalg.det(structure.cell) < 0:
            raise ValueError(
                "torch-sim takes det(cell) for the volume, so that its pressures are wrong in a "
                f"left-handed cell; that of system {number} has det {-structure.volume:.6g} Å³; "
                "swap two of its lattice vectors, or make the model with compute_stress=False"
            )
