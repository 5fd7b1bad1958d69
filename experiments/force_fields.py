"""The same two networks in geojax, mlip and mace-torch, for studies that compare their speed.

The widths are the same: 2 layers, 64 channels of degree 0 and 1, 8 Bessel functions; NequIP with
the radial network [64, 64] and readout 32; MACE with lmax 3, correlation 3 (body order 4), the
radial network [64, 64, 64] and readout 16. The peers count more parameters: mlip's NequIP makes
vectors in its last layer that its readout drops, and has a self-connection in its first; both MACEs
have weights for couplings that span the same polynomials more than once. mace-torch has the
residual first layer, its default, which is less work than ours.

The peers live in environments of their own, which `environment` makes. Functions that start with a
library's name are called inside its environment.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CUTOFF, CHANNELS, LAYERS = 5.0, 64, 2
PEERS = {"mlip": ["mlip==0.2.5", "jax==0.10.1"], "mace": ["torch==2.13.0", "mace-torch==0.3.16"]}


def environment(name: str) -> str:
    """The Python of an environment with the peer, made at the first run; anew where that failed."""
    folder = Path(__file__).parent.parent / ".cache" / f"peer-{name}"
    python = folder / "bin" / "python"
    whole = folder / "whole"
    if not whole.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for package in PEERS[name]:
            subprocess.run([python, "-m", "pip", "install", "-q", package], check=True)
        whole.touch()
    return str(python)


def geojax_network(kind: str) -> Any:
    """Its elements and number of neighbours come from the data (`fit_to_data`)."""
    from geojax.networks import MACE, NequIP

    return {
        "NequIP": NequIP(CUTOFF, CHANNELS, 1, LAYERS, parity=False),
        "MACE": MACE(CUTOFF, CHANNELS, lmax=3, lmax_hidden=1, layers=LAYERS, correlation=3),
    }[kind]


def mlip_batches(path: str, batch: int) -> tuple[list[Any], Any]:
    """Padded batches of the frames as mlip makes them, and what it knows of the data."""
    from mlip.data import ExtxyzReader, GraphDatasetBuilder  # pyright: ignore

    config = GraphDatasetBuilder.Config(graph_cutoff_angstrom=CUTOFF, batch_size=batch)
    builder = GraphDatasetBuilder({"train": ExtxyzReader(path)}, config)
    splits = builder.get_datasets()
    return list(splits["train"] if isinstance(splits, dict) else splits[0]), builder.dataset_info


def mlip_field(kind: str, info: Any) -> Any:
    """mlip's force field, with weights."""
    from mlip.models import ForceField, Mace, Nequip  # pyright: ignore

    if kind == "NequIP":
        irreps = f"{CHANNELS}x0e + {CHANNELS}x1o"
        options = {"target_irreps": irreps, "l_max": 1, "radial_mlp_hidden": [64, 64]}
        network = Nequip(Nequip.Config(num_layers=LAYERS, **options), info)
    else:
        options = {"num_channels": CHANNELS, "l_max": 3, "node_symmetry": 1, "correlation": 3}
        network = Mace(Mace.Config(num_layers=LAYERS, **options), info)
    return ForceField.from_mlip_network(network)


def mace_model(frames: list[Any]) -> tuple[Any, list[Any]]:
    """mace-torch's model on one thread, in float32, and the frames (of ASE) as its graphs."""
    # e3nn keeps its tables as pickles, which this torch refuses to load by default
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    import numpy as np
    import torch  # pyright: ignore[reportMissingImports]
    from e3nn import o3  # pyright: ignore[reportMissingImports]
    from mace import data, modules, tools  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    table = tools.get_atomic_number_table_from_zs(z for atoms in frames for z in atoms.numbers)
    keys = data.KeySpecification(info_keys={"energy": "energy"}, arrays_keys={"forces": "forces"})
    for atoms in frames:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        atoms.info["energy"], atoms.arrays["forces"] = energy, forces
    graphs = [
        data.AtomicData.from_config(
            data.config_from_atoms(atoms, key_specification=keys), z_table=table, cutoff=CUTOFF
        )
        for atoms in frames
    ]
    neighbors = np.mean([g.edge_index.shape[1] / g.num_nodes for g in graphs])
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=LAYERS,
        num_elements=len(table),
        hidden_irreps=o3.Irreps(f"{CHANNELS}x0e + {CHANNELS}x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(table)),
        avg_num_neighbors=float(neighbors),
        atomic_numbers=table.zs,
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    return model, graphs


def write_frames(path: str, structures: Iterable[Any]) -> None:
    """The structures as ASE writes labelled frames, which every library can read.

    Labels that are not there are written as zero.
    """
    import ase.io
    import numpy as np
    from ase.calculators.singlepoint import SinglePointCalculator

    from geojax.datasets import to_ase

    frames = []
    for structure in structures:
        atoms = to_ase(structure)
        if not any(structure.pbc):
            atoms.cell = None  # some files give one, and readers differ in what it means
        energy, forces = structure.properties.energy, structure.properties.forces
        labels = {
            "energy": 0.0 if energy is None else float(energy),
            "forces": np.zeros((len(structure), 3)) if forces is None else forces,
        }
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
