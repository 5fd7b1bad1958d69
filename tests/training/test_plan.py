"""The plan says what is compiled and how large it is; programs refuse other shapes."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from geojax.training.plan import Compilations, compile_program


def test_compilations_are_counted_while_entered():
    with Compilations() as seen:
        jax.jit(lambda x: x * 3.25 + 1)(np.float32(2))
        first = seen.count
        jax.jit(lambda x: x * 4.75 + 1)(np.float32(2))
    assert first >= 1 and seen.count > first
    before = seen.count
    jax.jit(lambda x: x * 5.5 + 1)(np.float32(2))
    assert seen.count == before


def test_a_program_refuses_another_shape():
    program = compile_program(lambda x: x.sum(), np.ones(3, np.float32))
    assert float(program.run(np.ones(3, np.float32))) == 3
    with pytest.raises(TypeError, match="compiled"):
        program.run(np.ones(4, np.float32))


def test_memory_is_that_of_the_arguments_and_of_what_lies_between():
    between = lambda x: jnp.tanh(x @ x) @ x  # the left factor has to be there before the product
    program = compile_program(between, np.ones((128, 128), np.float32))
    assert program.arguments == 4 * 128 * 128
    assert program.temporary >= 4 * 128 * 128 and program.seconds > 0


def test_the_plan_of_a_run(problem):
    plan = problem().prepare().plan
    record = json.loads(json.dumps(plan.record()))
    assert record["compilations"] == 3
    assert list(record["programs"]) == ["init", "epoch", "evaluate"]
    assert record["structures"] == 11 and record["steps_per_epoch"] == 3
    assert 0 <= record["padding"]["edges"] < 1
    assert record["memory_bytes"] > 0
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(plan.table())
    text = console.export_text()
    assert "3, and no more" in text and f"{plan.parameters:,}" in text
