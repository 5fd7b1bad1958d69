"""What outputs start from: by hand, for each kind of output."""

import numpy as np
import pytest

from geojax.datasets import Dataset
from geojax.graphs import Properties, Structure, sample
from geojax.outputs import Output
from geojax.training.normalise import normalised, with_atomrefs
from geojax.training.terms import Term

SHARES = {1: 2.0, 8: 5.0}


def molecule(*species: int, above: float = 0.0, atoms: bool = True) -> Structure:
    """Its alpha is the sum of shares and `above` for each atom."""
    x = np.arange(len(species))[:, None] * np.array([[0, 0, 1.5]])
    alpha = sum(SHARES[z] for z in species) + above * len(species)
    targets = {"alpha": alpha, "gap": float(len(species))}
    energy = 3.0 * len(species) + above * len(species)
    numbers = np.array(species) if atoms else np.zeros(len(species), int)
    return Structure(x, numbers, properties=Properties(energy, targets=targets))


STRUCTURES = [
    molecule(*species, above=above)
    for species in ((1, 1, 8), (8, 8), (1, 8, 8, 1, 1))
    for above in (-0.2, 0.2)
]
ALPHA, GAP = Output("targets.alpha", unit="Bohr³"), Output("targets.gap", pool="mean")


def data(structures) -> Dataset:
    return Dataset("mine", tuple(structures), ())


def test_summed_targets_of_atoms_get_shares():
    alpha, gap, energy = with_atomrefs((ALPHA, GAP, Output()), data(STRUCTURES))
    assert alpha.atomrefs == pytest.approx({"H": 2.0, "O": 5.0}, abs=1e-9)
    assert gap == GAP and energy == Output()


@pytest.mark.parametrize(
    "output",
    [
        Output("targets.alpha", scale=2.0),
        Output("targets.alpha", atomrefs={"H": 1.0, "O": 1.0}),
        Output("targets.beta"),
        Output("targets.mu", "1o", norm=True),
    ],
)
def test_what_is_given_or_is_no_sum_stays(output):
    assert with_atomrefs((output,), data(STRUCTURES)) == (output,)


def test_points_have_no_elements():
    points = data([molecule(1, 1, 8, atoms=False)])
    assert with_atomrefs((ALPHA,), points) == (ALPHA,)


def test_scales_and_shifts_by_hand():
    refs = Output("targets.alpha", atomrefs={"H": 2.0, "O": 5.0})
    left = [  # labels as `train` gives them: relative to their references
        s.replace(
            properties=s.properties._replace(
                targets={
                    **s.properties.targets,
                    "alpha": s.properties.targets["alpha"] - sum(SHARES[int(z)] for z in s.species),
                }
            )
        )
        for s in STRUCTURES
    ]
    samples = [sample(s, 0.0) for s in left]
    terms = [Term("energy"), Term("targets.alpha"), Term("targets.gap")]
    alpha, gap, energy = normalised((refs, GAP, Output()), terms, samples)
    assert alpha.scale == pytest.approx(0.2) and alpha.shift == 0
    assert alpha.atomrefs == refs.atomrefs
    sizes = np.array([len(s) for s in STRUCTURES])
    assert gap.shift == pytest.approx(sizes.mean()) and gap.scale == pytest.approx(sizes.std())
    assert energy.shift == pytest.approx(3.0) and energy.scale == pytest.approx(0.2)


def test_labels_that_composition_explains_wholly_are_not_scaled_by_rounding():
    exact = [
        sample(s.replace(properties=Properties(targets={"alpha": 1e-14})), 0.0) for s in STRUCTURES
    ]
    refs = Output("targets.alpha", atomrefs={"H": 2.0, "O": 5.0})
    assert normalised((refs,), [Term("targets.alpha")], exact)[0].scale == 1.0


def test_classes_are_not_scaled():
    labelled = [
        sample(s.replace(properties=Properties(targets={"kind": np.int32(len(s) % 2)})), 0.0)
        for s in STRUCTURES
    ]
    output = Output("targets.kind", "2x0e", pool="mean")
    term = Term("targets.kind", kind="cross-entropy")
    assert normalised((output,), [term], labelled) == (output,)
