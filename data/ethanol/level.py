"""The level of theory of the ethanol labels: PBE/def2-SVP with density fitting, by PySCF.

References:
    Perdew, Burke, Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996), doi:10.1103/PhysRevLett.77.3865.
    Weigend, Ahlrichs (def2), Phys. Chem. Chem. Phys. 7, 3297 (2005), doi:10.1039/b508541a.
    Weigend (fitting basis), Phys. Chem. Chem. Phys. 8, 1057 (2006), doi:10.1039/b515623h.
    Sun et al. (PySCF), J. Chem. Phys. 153, 024109 (2020), doi:10.1063/5.0006074.
"""

# pyright: reportMissingImports=false
# PySCF is a need of this recipe, not of geojax.

from collections.abc import Iterator

import numpy as np
from pyscf import dft, gto, lib
from pyscf.dft import numint

FUNCTIONAL, BASIS, AUXILIARY = "PBE", "def2-SVP", "def2-universal-jfit"
GRID, ATOM_GRID = 4, 9  # PySCF grid levels
LARGE, SMALL = 64, 16  # blocks of the grid, in units of PySCF's own block
TOLERANCE = 1e-10  # [Ha]
HARTREE, BOHR = 27.211386245988, 0.529177210903  # [eV], [Å]; CODATA 2018


class StoredOrbitals(numint.NumInt):
    """An integrator that keeps the orbital values on the grid from one SCF cycle to the next.

    Evaluating and reallocating them is half of an SCF cycle for a molecule of this size. The memory
    is kept from molecule to molecule: fresh pages cost more than the evaluation. Second derivatives
    are needed once, by the gradient, and are not kept.
    """

    def __init__(self):
        super().__init__()
        self.memory, self.buffer = np.empty(0), np.empty(0)
        self.grids = self.coords = None
        self.blocks = []

    def block_loop(self, mol, grids, nao=None, deriv=0, *args, **kwargs) -> Iterator[tuple]:
        """Blocks (values `[4, point, orbital]`, mask, weights, coordinates)."""
        if deriv == 2:
            # PySCF takes blocks as large as memory allows; small ones stay in the cache.
            kwargs |= {"blksize": SMALL * numint.BLKSIZE, "buf": self.scratch(mol)}
        if deriv != 1:
            yield from super().block_loop(mol, grids, nao, deriv, *args, **kwargs)
            return
        if grids.coords is None:
            grids.build(with_non0tab=True)
        # A grid is the same if it is the same object with the same array: both are kept alive
        # here, so an address cannot be given to a new one.
        if self.grids is not grids or self.coords is not grids.coords:
            self.grids, self.coords = grids, grids.coords
            self.blocks = list(self.evaluate(mol, grids))
        yield from self.blocks

    def scratch(self, mol) -> np.ndarray:
        """Memory of one small block with second derivatives (ten values an orbital and point)."""
        size = 10 * SMALL * numint.BLKSIZE * mol.nao
        if self.buffer.size < size:
            self.buffer = np.empty(size)
        return self.buffer

    def evaluate(self, mol, grids) -> Iterator[tuple]:
        """The blocks, each in its own part of the memory."""
        points, width = len(grids.coords), 4 * mol.nao
        if self.memory.size < points * width:
            self.memory = np.empty(int(1.1 * points * width))
        for first, last in lib.prange(0, points, LARGE * numint.BLKSIZE):
            mask = grids.non0tab[first // numint.BLKSIZE :]
            values = self.eval_ao(
                mol,
                grids.coords[first:last],
                deriv=1,
                non0tab=mask,
                cutoff=grids.cutoff,
                out=self.memory[first * width : last * width],
            )
            dense = not numint._sparse_enough(mask)
            block = grids.weights[first:last], grids.coords[first:last]
            yield values, None if dense else mask, *block


def molecule(
    symbols: list[str], positions: np.ndarray, integrator: StoredOrbitals | None = None
) -> tuple[float, np.ndarray, dict]:
    """Energy [eV], forces `[atom, 3]` [eV/Å] and the record of the self-consistent field.

    Converges on a coarse grid first, then on the grid of the labels from that density.

    Raises:
        RuntimeError: the field did not converge.
    """
    mol = gto.M(atom=list(zip(symbols, positions, strict=True)), basis=BASIS, verbose=0)
    field = dft.RKS(mol, xc=FUNCTIONAL).density_fit(auxbasis=AUXILIARY)
    field.with_df.build()  # else PySCF makes the three-centre integrals again in every cycle
    field._numint = integrator or StoredOrbitals()
    field.conv_check = False  # one more cycle after convergence
    field.grids.level, field.conv_tol = 1, 1e-6
    field.kernel()
    coarse = field.cycles
    field.grids = dft.gen_grid.Grids(mol)
    field.grids.level, field.conv_tol = GRID, TOLERANCE
    field.kernel(field.make_rdm1())
    if not field.converged:
        raise RuntimeError(f"a label needs a converged field; got none after {field.cycles} cycles")
    gradient = field.nuc_grad_method().kernel()
    record = {"cycles": [coarse, field.cycles], "points": len(field.grids.weights)}
    return field.e_tot * HARTREE, -gradient * (HARTREE / BOHR), record


def atom(symbol: str, unpaired: int) -> float:
    """Energy [eV] of an isolated atom: unrestricted, whole occupations, no symmetry imposed.

    Open p shells break the spherical symmetry. The second-order solver follows every instability
    down, so that the lowest solution is found, and the fine grid makes its energy independent of
    how the shell points (on the grid of the molecules this moves O by 0.1 meV).

    Raises:
        RuntimeError: the solution did not converge, or is still unstable.
    """
    mol = gto.M(atom=[(symbol, (0, 0, 0))], spin=unpaired, basis=BASIS, verbose=0)
    field = dft.UKS(mol, xc=FUNCTIONAL).density_fit(auxbasis=AUXILIARY)
    field.grids.level, field.conv_tol = ATOM_GRID, TOLERANCE
    field.kernel()
    field = field.newton()
    orbitals, stable = field.mo_coeff, False
    for _ in range(10):
        field.kernel(orbitals, field.mo_occ)
        orbitals, _, stable, _ = field.stability(return_status=True)
        if stable:
            break
    if not (field.converged and stable):
        raise RuntimeError(f"an atom needs a converged, stable field; got neither for {symbol}")
    return field.e_tot * HARTREE
