"""Programs that are not the model, or not what jax computes, are found."""

import jax
import numpy as np
import pytest
from e3nn_jax import IrrepsArray
from geojax_lammps import comparison
from geojax_lammps.comparison import compare_with_model, compare_with_tensorflow, padded_inputs
from geojax_lammps.program import INPUTS, edge_program

from tests.inference.test_elasticity import springs
from tests.test_potential import Springs


class Boxed(Springs):
    """Springs that know how long the first lattice vector is."""

    def apply(self, params, graph):
        length = graph.globals["cell"][0, 0, 0]
        return IrrepsArray("0e", super().apply(params, graph).array + length)


def found_by(model) -> dict[str, np.ndarray]:
    with jax.enable_x64(model.card.dtype == "float64"):
        found = jax.jit(edge_program(model))(*padded_inputs(model))
    return {name: np.array(value) for name, value in found.items()}


def test_a_model_of_edges_passes():
    for dtype in ("float32", "float64"):
        model = springs(Springs()).replace_card(dtype=dtype, E0s={8: -1e3, 14: -2e3})
        compare_with_model(model, found_by(model), padded_inputs(model))


def test_a_model_that_reads_the_cell_is_found():
    model = springs(Boxed())
    with pytest.raises(ValueError, match="the energies of 'springs' are not functions of edge"):
        compare_with_model(model, found_by(model), padded_inputs(model))


@pytest.mark.parametrize("name", ["forces", "stress"])
def test_wrong_derivatives_are_found(name):
    """Of an edge between an atom and its own image, forces say nothing."""
    model = springs(Springs())
    found, (_, _, senders, receivers, (_, _, e)) = found_by(model), padded_inputs(model)
    own = senders[:e] == receivers[:e]
    found["gradient"][np.flatnonzero(own if name == "stress" else ~own)[0]] += 1e-6
    with pytest.raises(ValueError, match=f"the {name} of 'springs'"):
        compare_with_model(model, found, padded_inputs(model))


def test_numbers_that_are_not_finite_are_found():
    model = springs(Springs())
    found = found_by(model)
    found["gradient"][0] = np.nan
    with pytest.raises(ValueError, match="the forces of 'springs'"):
        compare_with_model(model, found, padded_inputs(model))


@pytest.mark.slow
def test_another_program_of_tensorflow_is_found(tmp_path):
    tf = pytest.importorskip("tensorflow")
    module, inputs = tf.Module(), padded_inputs(springs(Springs()))

    @tf.function(
        input_signature=[
            tf.TensorSpec(x.shape, x.dtype, name) for name, x in zip(INPUTS, inputs, strict=True)
        ]
    )
    def run(species, vectors, senders, receivers, counts):
        return {"energies": tf.reduce_sum(vectors, 1)}

    module.run = run
    tf.saved_model.save(module, str(tmp_path), signatures=run.get_concrete_function())
    right = {"energies": inputs[1].sum(1)}
    compare_with_tensorflow(tmp_path, inputs, right)
    with pytest.raises(RuntimeError, match="TensorFlow computes what jax does; energies differ by"):
        wrong = {"energies": right["energies"] * (1 + 2 * comparison.SAME["float64"])}
        compare_with_tensorflow(tmp_path, inputs, wrong)
