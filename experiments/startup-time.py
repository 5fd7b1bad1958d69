"""How long until something happens: import, --help, first prediction, compilations (BENCH B9, B10).

Whole processes, each several times; the median counts.

  run:     python experiments/startup-time.py
  time:    two minutes
  expect:  import at most 1.5 s (jax itself is stated), --help at most 0.3 s, exported file to first
           prediction at most 3 s cold and 1 s with a warm compile cache
  reached: results/startup-time.json
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from results import write

FIRST = """
import time; begin = time.perf_counter()
import numpy as np
from geojax.inference import open_artifact
from geojax.graphs import Structure
water = Structure(np.array({positions}), np.array({species}))
model = open_artifact({path!r})
model([water])
print(time.perf_counter() - begin)
"""


def seconds(command: list[str], environment: dict[str, str] | None = None, runs: int = 7):
    """Wall-clock seconds of whole processes."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        subprocess.run(
            command, check=True, capture_output=True, env=os.environ | (environment or {})
        )
        times.append(time.perf_counter() - begin)
    return {"median": median(times), "least": min(times), "most": max(times), "runs": runs}


def main() -> None:
    import geojax

    python = sys.executable
    geo = [python, "-m", "geojax"]
    figures = {
        "python": seconds([python, "-c", "pass"]),
        "import jax": seconds([python, "-c", "import jax"]),
        "import geojax": seconds([python, "-c", "import geojax"]),
        "import geojax, all of it": seconds(
            [python, "-c", "import geojax.zoo, geojax.training, geojax.checks"]
        ),
        "geojax --help": seconds([*geo, "--help"]),
    }
    frame = geojax.datasets.load("ethanol").test[0]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.geojax")
        geojax.export(geojax.load("nequip-ethanol"), path)
        facts = {"positions": frame.positions.tolist(), "species": frame.species.tolist()}
        script = [python, "-c", FIRST.format(path=path, **facts)]
        cold, warm = [], []
        for run in range(3):
            cache = {"GEOJAX_CACHE": str(Path(folder) / f"cache-{run}")}
            cold.append(seconds(script, cache, runs=1)["median"])
            warm.append(seconds(script, cache, runs=1)["median"])
    figures["first prediction, cold"] = {"median": float(np.median(cold)), "runs": 3}
    figures["first prediction, warm cache"] = {"median": float(np.median(warm)), "runs": 3}
    write("startup-time", {"seconds": figures})
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
