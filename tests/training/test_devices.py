"""Eight devices take the path of one (RELIABILITY figure A25)."""

import subprocess
import sys

import jax
import pytest

from geojax.training.devices import data_mesh, on_mesh

SCRIPT = """
import sys, tempfile
from pathlib import Path
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
from tests.training.conftest import Problem
losses = {}
for devices in (1, 8):
    p = Problem(17)
    with tempfile.TemporaryDirectory() as folder:
        found = p.fit(Path(folder), epochs=17, batch_size=8, devices=devices, dtype="float64")
    losses[devices] = [line["valid.loss"] for line in found.history]
    assert found.compilations == 3, found.compilations
difference = np.abs(np.array(losses[1]) / np.array(losses[8]) - 1).max()
print(difference)
sys.exit(int(difference > 1e-10))
"""


@pytest.mark.slow
def test_eight_devices_give_the_losses_of_one():
    flags = "--xla_force_host_platform_device_count=8"
    import os

    environment = os.environ | {"XLA_FLAGS": flags, "GEOJAX_TYPECHECK": "0"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="devices that exist; 99 asked for"):
        data_mesh(99)


def test_one_device_needs_no_mapping():
    function = lambda x: x
    assert on_mesh(function, data_mesh(1)) is function
    assert data_mesh().size == len(jax.devices())
