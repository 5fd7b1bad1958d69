"""How fast are harmonics, Wigner matrices and coupling coefficients, against the peers?

Float32, one thread, medians and quartiles, every library in its turn; "backward" is the value and
gradient of the sum of squares. sphericart, whose harmonics are written in C++, has no Wigner
matrices. Those of e3nn-jax are made of angles, and are timed from the same 3x3 matrices. The error
is the largest over all harmonics of 2000 directions, from float64 results of geojax, which the
tests compare with scipy. All real coupling tensors of degrees up to lmax are made in float64 (e3nn-
jax up to 8, where it takes long enough). The peers live in an environment that the script makes.

  run:     python experiments/harmonics-speed.py [--peers PYTHON]
  time:    ten minutes on a quiet CPU core, half of it compilation
  expect:  as fast as both or faster; Wigner matrices 5 times, coupling 20 times e3nn-jax
  reached: results/harmonics-speed.json
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from timed import Interpreter, Timed, serve

HERE = Path(__file__).parent
PEERS = ["jax==0.10.1", "e3nn-jax==0.21.0", "sphericart-jax==2.0.4"]
DEGREES = (1, 2, 3, 4, 6, 8, 10, 12)
# What is timed, for which numbers of vectors or matrices, up to which degree.
CASES = [("harmonics", 1000, 6), ("harmonics", 4000, 12), ("harmonics", 32_000, 12)]
CASES += [("wigner", 4000, 12), ("wigner", 32_000, 4)]
COUPLING = {"geojax": (4, 6, 8, 10, 12), "e3nn-jax": (4, 6, 8)}
ROUNDS, TURN, PATIENCE = 5, 0.15, 300.0


# Run in a process of its own for geojax, and in one for the peers.


def methods(side: str, case: list[Any]) -> list[str]:
    """Who can do a case."""
    if side == "geojax":
        return ["geojax"]
    return ["e3nn-jax"] + ["sphericart-jax"] * (case[0] == "harmonics")


def prepare(case: list[Any], name: str) -> Timed:
    """The function of a library, and its vectors or matrices."""
    import jax.numpy as jnp

    what, size, lmax = case
    function = FUNCTIONS[what, name](lmax)
    return Timed(function, (jnp.asarray(_inputs(what, size), "float32"),))


def about() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("jax", "e3nn-jax", "sphericart-jax"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"versions": found}


def _inputs(what: str, size: int) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    if what == "harmonics":
        return rng.normal(size=(size, 3))
    turns = np.linalg.qr(rng.normal(size=(size, 3, 3)))[0]
    return turns * np.linalg.det(turns)[:, None, None]  # e3nn's angles need proper rotations


def _flat(blocks: Any) -> Any:
    import jax.numpy as jnp

    return jnp.concatenate([block.reshape(len(block), -1) for block in blocks], -1)


def _geojax_harmonics(lmax: int):
    from geojax.so3 import harmonics

    return lambda v: harmonics(v, lmax)


def _geojax_wigner(lmax: int):
    from geojax.so3 import wigner_d

    return lambda matrix: _flat(wigner_d(matrix, lmax))


def _e3nn_harmonics(lmax: int):
    import e3nn_jax

    irreps = e3nn_jax.s2_irreps(lmax)
    options: dict[str, Any] = {"normalize": True, "normalization": "component"}
    return lambda v: e3nn_jax.spherical_harmonics(irreps, v, **options).array


def _e3nn_wigner(lmax: int):
    import e3nn_jax

    def blocks(matrix):
        angles = e3nn_jax.matrix_to_angles(matrix)
        return _flat([e3nn_jax.Irrep(l, 1).D_from_angles(*angles) for l in range(lmax + 1)])

    return blocks


def _sphericart_harmonics(lmax: int):
    import sphericart.jax  # pyright: ignore[reportMissingImports]

    return lambda v: sphericart.jax.spherical_harmonics(v, lmax)


FUNCTIONS = {
    ("harmonics", "geojax"): _geojax_harmonics,
    ("harmonics", "e3nn-jax"): _e3nn_harmonics,
    ("harmonics", "sphericart-jax"): _sphericart_harmonics,
    ("wigner", "geojax"): _geojax_wigner,
    ("wigner", "e3nn-jax"): _e3nn_wigner,
}


# The study.


def measure(case: tuple[str, int, int], libraries: list[Interpreter]) -> dict[str, Any]:
    """Forward and backward of each library: median, quartiles and compile time [s]."""
    takers = [(name, lib) for lib in libraries for name in lib.ask("methods", case)["methods"]]
    row: dict[str, Any] = {}
    for kind in ("forward", "backward"):
        facts = {name: lib.ask("compile", case, name, kind, 12e9) for name, lib in takers}
        times: dict[str, list[float]] = {name: [] for name in facts}
        for _ in range(ROUNDS):
            for name, library in takers:
                if "error" not in facts[name]:
                    times[name] += library.ask("run", method=name, limit=TURN).get("times", [])
        for name, t in times.items():
            figures = facts[name] if not t else {"compile": facts[name]["compile"]}
            if t:
                figures |= {"median": median(t), "runs": len(t)}
            if len(t) > 1:
                figures |= {"quartiles": quantiles(t, n=4)[::2]}
            row.setdefault(name, {})[kind] = figures
        for library in libraries:
            library.ask("forget")
    print(case, json.dumps({n: [f.get("median") for f in r.values()] for n, r in row.items()}))
    return row


def ratios(rows: dict[str, Any]) -> dict[str, Any]:
    """The time of each peer over ours, by what, peer, program and case."""
    found: dict[str, Any] = {}
    for case, row in rows.items():
        what = case.split()[0]
        for name in row.keys() - {"geojax"}:
            for kind, figures in row[name].items():
                ours = row["geojax"][kind]
                if "median" in figures and "median" in ours:
                    place = found.setdefault(what, {}).setdefault(name, {}).setdefault(kind, {})
                    place[case] = round(figures["median"] / ours["median"], 2)
    return found


def errors() -> dict[str, dict[int, float]]:
    """The largest error of float32 harmonics."""
    import jax
    import numpy as np

    v = _inputs("harmonics", 2000).astype("float32")
    with jax.enable_x64(True):
        exact = np.asarray(_geojax_harmonics(max(DEGREES))(jax.numpy.asarray(v, "float64")))
    made = {"geojax": _geojax_harmonics, "e3nn-jax": _e3nn_harmonics}
    found: dict[str, dict[int, float]] = {}
    for name, make in made.items():
        for l in DEGREES:
            values = np.asarray(make(l)(jax.numpy.asarray(v)))
            found.setdefault(name, {})[l] = float(abs(values - exact[:, : (l + 1) ** 2]).max())
    return found


def coupling_times() -> dict[str, dict[int, float]]:
    """Seconds for all coupling tensors of degrees up to lmax, none of them known before."""
    import e3nn_jax

    from geojax.so3 import clebsch_gordan, paths

    found: dict[str, dict[int, float]] = {}
    for name, make in (("geojax", clebsch_gordan), ("e3nn-jax", e3nn_jax.clebsch_gordan)):
        total, done = 0.0, -1
        for lmax in COUPLING[name]:  # both keep what they made, so only what is new takes time
            begin = perf_counter()
            for path in paths(lmax, lmax, lmax, parity="all"):
                if max(path) > done:
                    make(*path)
            total, done = total + perf_counter() - begin, lmax
            found.setdefault(name, {})[lmax] = total
    return found


def peer_environment() -> str:
    """The Python of an environment with the peers, made at the first run."""
    folder = HERE.parent / ".cache" / "peer-harmonics"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
    return str(python)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", help="a Python that has the peers; made where it is not given")
    parser.add_argument("--serve", choices=["geojax", "peers"], help="be one of the two processes")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(lambda case: methods(arguments.serve, case), prepare, about)
        return
    pythons = {"geojax": sys.executable, "peers": arguments.peers or peer_environment()}
    libraries = [
        Interpreter([python, __file__, "--serve", side], PATIENCE)
        for side, python in pythons.items()
    ]
    versions = {}
    for library in libraries:
        facts = library.ask("about")
        if "error" in facts:
            raise SystemExit(f"an environment does not start: {facts['error']}")
        versions |= facts["versions"]
    rows = {}
    try:
        for what, size, top in CASES:
            for lmax in (l for l in DEGREES if l <= top):
                rows[f"{what} {size} lmax {lmax}"] = measure((what, size, lmax), libraries)
    finally:
        for library in libraries:
            library.stop()
    from results import write

    found = {
        "versions": versions,
        "ratios": ratios(rows),
        "errors": errors(),
        "coupling": coupling_times(),
        "rows": rows,
    }
    write("harmonics-speed", found, "python experiments/harmonics-speed.py")
    print(json.dumps({name: found[name] for name in ("ratios", "errors", "coupling")}, indent=1))


if __name__ == "__main__":
    main()
