"""What cannot be prepared is refused before anything is compiled."""

import jax
import numpy as np
import pytest


def test_an_empty_training_set_is_refused(problem):
    p = problem()
    p.train = []
    with pytest.raises(ValueError, match="training set is empty"):
        p.prepare()


@pytest.mark.slow
def test_parameters_start_alike_for_one_seed_in_the_dtype_asked_for(problem):
    def start(seed):
        run = problem().prepare(seed=seed)
        return jax.tree.leaves(run.plan.programs["init"].run(jax.device_put(run.chunks[0])).params)

    one, same, other = start(1), start(1), start(2)
    assert all((a == b).all() for a, b in zip(one, same, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))
    assert all(x.dtype == np.float32 for x in one)


@pytest.mark.slow
def test_double_precision_is_an_argument(problem, x64):
    run = problem().prepare(dtype="float64")
    state = run.plan.programs["init"].run(jax.device_put(run.chunks[0]))
    assert all(x.dtype == np.float64 for x in jax.tree.leaves(state.params))
