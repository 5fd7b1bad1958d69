"""How fast are the products of features, against the libraries of the field (BENCH B1-B4)?

Float32, one thread, medians and quartiles, the same numbers for all, every library in its turn. The
tables are those of `product_cases.py`; the results of libraries that calculate the same must agree.

    A  forward, backward (all operands) and the double backward of force training, paths kept apart.
       Products that turn edges to the pole take edge vectors where the others take harmonics.
       Every size for geojax, 4096 edges of 32 channels and L <= 3 for the peers.
    B  forward and backward, batch 8192. e3nn-jax returns its paths unsummed; all others sum them.
    C  forward and backward in features, weights and edge vectors: 2048 edges, 256 nodes, 32
       channels. gaunt-grid has its weights per degree, not per path: another calculation, shown for
       the crossover, never counted.

The peers live in an environment that the script makes (PriceofFreedom where its repository can be
reached); on a GPU give one that has jax and the peers' kernels for it. A run adds its rows to those
that are there, by device, so the study can be run in parts and on several machines; what was
measured already is measured again only with --again.

  run:     python experiments/products-speed.py [--table A B C] [--lmax 1 2 3] [--peers PYTHON]
  time:    about five hours on a quiet CPU core, most of it compilation; table A with `--channels 32
           --edges 4096` half an hour, B and C three quarters each; `--quick` tries everything on
           tiny sizes and writes nothing
  expect:  B1 3 times the best peer; B2 4 times, half the memory; B3 mlip's, 3.5 times
           PriceofFreedom, 15 times e3nn-jax; B4 4 times
  reached: results/products-speed.json, and geojax/products/fastest.json for method="auto"
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from product_cases import NODES, Case, kept_rows, numbers
from product_summary import choices, disagreeing, fastest, ratios
from timed import PROGRAMS, Interpreter, Timed, serve

HERE = Path(__file__).parent
CHOICES = HERE.parent / "geojax" / "products" / "fastest.json"  # what method="auto" reads
OURS = "geojax "
PEERS = [
    "jax==0.10.1",
    "e3nn-jax==0.21.0",
    "mlip==0.2.5",
    "e3j==0.1.1",
    "cuequivariance==0.13.0",
    "cuequivariance-jax==0.13.0",
]
FREEDOM = (
    "git+https://github.com/atomicarchitects/PriceofFreedom"
    "@a7dbecc167acc8a4c5fbf7097f6dcd4f04697fd1"
)
ROUNDS, TURN, ENOUGH = 5, 0.2, 20.0  # turns of each program; seconds of a turn, of a program


# geojax's side: run in a process of its own, like every peer.


def methods(case: list[Any]) -> list[str]:
    """All kernels that can do the case, by code of their own."""
    import jax

    from geojax.products import PRODUCTS

    table, lmax = case[:2]
    found = []
    for name, product in PRODUCTS.items():
        coupled = product.family == "coupled"
        able = product.lmax is None or lmax <= product.lmax
        suits = {
            "A": coupled,
            "B": not product.direction,
            "C": coupled or name == "gaunt-grid",
        }[table]
        here = product.platform in (None, jax.default_backend())
        own = name != "cg-native" or lmax <= 4  # beyond, its code is that of cg
        found += [OURS + name] if able and suits and here and own else []
    return found


def prepare(case: list[Any], name: str) -> Timed:
    """A product of geojax with its operands."""
    import jax.numpy as jnp

    from geojax import so3
    from geojax.graphs import Graph
    from geojax.nn.message import convolve
    from geojax.products import PRODUCTS, Direction, tensor_product

    table, lmax, channels, edges = case
    given, method = numbers(Case(*case)), name.removeprefix(OURS)
    chosen = PRODUCTS[method]
    x, vectors, weights = map(jnp.asarray, (given.x, given.vectors, given.weights))
    options: dict[str, Any] = {"lmax": lmax, "method": method}

    def plain(x, y):
        parity = "all" if method == "vector-signal" else "even"
        return tensor_product(x, y, **options, parity=parity)

    def weighted(x, y, w):
        second = Direction(y, lmax) if chosen.direction else y
        return tensor_product(x, second, w, **options, paths="keep")

    def convolution(x, vectors, w, senders, receivers):
        nodes = {"positions": jnp.zeros((NODES, 3), x.dtype)}
        counts = jnp.asarray([NODES]), jnp.asarray([edges])
        graph = Graph(nodes, {}, receivers, senders, {}, *counts)
        direction = Direction(vectors, lmax)
        y = direction if chosen.direction else direction.harmonics()
        return convolve(x, y, w, graph, **options)

    if table == "B":
        return Timed(plain, (x, jnp.asarray(given.y)))
    if table == "A":
        y = vectors if chosen.direction else so3.harmonics(vectors, lmax)[..., None]
        return Timed(weighted, (x, y, weights), weights=2)
    if chosen.family == "gaunt":
        weights = jnp.ones((edges, 3 * (lmax + 1), channels), x.dtype)
    ends = jnp.asarray(given.senders), jnp.asarray(given.receivers)
    return Timed(convolution, (x, vectors, weights), ends, weights=2)


def about() -> dict[str, Any]:
    from datetime import date

    from geojax.checks.doctor import machine

    return {"machine": machine(), "date": date.today().isoformat()}


# The study's side.


def cases(arguments: argparse.Namespace) -> Iterable[Case]:
    """The rows that were asked for, small ones first."""
    degrees = {"A": range(1, 9), "B": (*range(1, 9), 10), "C": range(1, 7)}
    channels = {"A": (1, 32, 128), "B": (1,), "C": (32,)}
    edges = {"A": (1024, 4096, 32768), "B": (8192,), "C": (2048,)}
    if arguments.quick:
        degrees = {"A": (1, 2), "B": (1, 2, 6), "C": (1, 2)}
        channels, edges = dict.fromkeys("ABC", (2,)) | {"B": (1,)}, dict.fromkeys("ABC", (512,))
    for table in arguments.table:
        for lmax in degrees[table]:
            for c in channels[table]:
                for e in edges[table]:
                    wanted = (arguments.lmax, lmax), (arguments.channels, c), (arguments.edges, e)
                    if all(not asked or value in asked for asked, value in wanted):
                        yield Case(table, lmax, c, e)


def with_peers(case: Case, quick: bool) -> bool:
    """Whether the peers are measured at this size."""
    return quick or case.table != "A" or (case.lmax <= 3 and case[2:] == (32, 4096))


class Study:
    """Rows of one device, measured case by case.

    Attributes:
        rows: table, case, method, program -> figures, or the reason why there are none.
        slow: (table, method, program) -> the lmax from which on nothing is tried any more.
    """

    def __init__(self, rows: dict[str, Any], arguments: argparse.Namespace):
        self.rows, self.arguments = rows, arguments
        self.slow: dict[tuple[str, str, str], int] = {}

    def measure(self, case: Case, libraries: list[Interpreter]) -> None:
        """All methods and programs of a case, each in its turn."""
        row = self.rows.setdefault(case.table, {}).setdefault(case.name, {})
        size = 4e-9 * case.edges * case.channels * kept_rows(case.lmax)
        if case.table == "A" and size > self.arguments.result:
            row["skipped"] = f"the result has {size:.1f} GB, more than {self.arguments.result:g}"
            return
        takers = [
            (name, library)
            for library in libraries
            for name in library.ask("methods", case).get("methods", [])
        ]
        for kind in PROGRAMS if case.table == "A" else PROGRAMS[:2]:
            open_ones = [
                (name, library)
                for name, library in takers
                if self.arguments.again or kind not in row.get(name, {})
            ]
            if open_ones:
                found = self.program(case, kind, open_ones)
                for name, figures in found.items():
                    row.setdefault(name, {})[kind] = figures
                _say(case, kind, found)
            for library in libraries:
                library.ask("forget")

    def program(self, case: Case, kind: str, takers: list[tuple[str, Interpreter]]) -> dict:
        """The figures of one program of each method."""
        facts, failed = self._compile(case, kind, takers)
        times: dict[str, list[float]] = {name: [] for name in facts}
        for number in range(ROUNDS):
            for name, library in takers:
                if name not in facts or (number > 2 and sum(times[name]) > ENOUGH):
                    continue
                answer = library.ask("run", method=name, limit=TURN)
                if "error" in answer:
                    failed[name] = {"skipped": answer["error"]}
                    del facts[name]
                else:
                    times[name] += answer["times"]
        return failed | {
            name: {
                "median": median(times[name]),
                "quartiles": quantiles(times[name], n=4)[::2],
                "runs": len(times[name]),
            }
            | found
            for name, found in facts.items()
        }

    def _compile(self, case: Case, kind: str, takers: list[tuple[str, Interpreter]]):
        """What each program took to compile; {"skipped": reason} for those that have none."""
        facts: dict[str, dict] = {}
        failed: dict[str, dict] = {}
        made: dict[str, int] = {}  # in which life of the library: a dead process lost its programs
        limit = 1e9 * self.arguments.memory
        while left := [
            (name, library)
            for name, library in takers
            if name not in failed and made.get(name) != library.deaths
        ]:
            name, library = left[0]
            known = self.slow.get((case.table, name, kind), 99)
            if case.lmax >= known:
                failed[name] = {"skipped": f"took too long at L = {known}"}
                continue
            answer = library.ask("compile", case, name, kind, limit)
            if "error" in answer:
                failed[name] = {"skipped": answer["error"]}
                if "no answer" in answer["error"]:
                    self.slow[case.table, name, kind] = case.lmax
            else:
                facts[name], made[name] = answer, library.deaths
        return {name: found for name, found in facts.items() if name not in failed}, failed


def _say(case: Case, kind: str, found: dict[str, dict]) -> None:
    for name, figures in found.items():
        said = figures.get("skipped") or (
            f"{1e3 * figures['median']:9.3f} ms {figures['temporary'] / 1e6:8.1f} MB"
            f" {figures['compile']:6.1f} s compile"
        )
        print(f"{case.table} {case.name} {kind:8} {name:26} {said}", flush=True)


def peer_environment() -> str:
    """The Python of an environment with the peers, made at the first run."""
    folder = HERE.parent / ".cache" / "peer-products"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [python, "-m", "pip", "install", "-q"]
        subprocess.run([*install, *PEERS], check=True)
        subprocess.run([*install, "--no-deps", FREEDOM])  # may be out of reach: it is optional
    return str(python)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", nargs="+", default=["A", "B", "C"], choices=["A", "B", "C"])
    parser.add_argument("--lmax", nargs="+", type=int, help="these degrees only")
    parser.add_argument("--channels", nargs="+", type=int, help="of table A")
    parser.add_argument("--edges", nargs="+", type=int, help="of table A")
    parser.add_argument("--peers", help="a Python that has the peers; made where it is not given")
    parser.add_argument("--again", action="store_true", help="measure what is there already")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; writes nothing")
    parser.add_argument("--memory", type=float, default=12.0, help="limit of a program [GB]")
    parser.add_argument("--result", type=float, default=2.0, help="limit of a result [GB]")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds to compile [s]")
    parser.add_argument("--serve", action="store_true", help="be the process that has geojax")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(methods, prepare, about)
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # results.py asks for a device
    peers = arguments.peers or peer_environment()
    ours = Interpreter([sys.executable, __file__, "--serve"], arguments.patience)
    theirs = Interpreter([peers, str(HERE / "product_peers.py")], arguments.patience)
    device, versions = ours.ask("about"), theirs.ask("about")
    for facts in (device, versions):
        if "error" in facts:
            raise SystemExit(f"an environment does not start: {facts['error']}")
    if device["device"] != versions["device"]:
        raise SystemExit(f"two devices: {device['device']}, peers on {versions['device']}")
    name = device["device"]
    path = HERE / "results" / "products-speed.json"
    record = json.loads(path.read_text()) if path.exists() and not arguments.quick else {}
    rows, devices = record.get("rows", {}), record.get("devices", {})
    devices[name] = device | {"peers": versions["versions"]}
    study = Study(rows.setdefault(name, {}), arguments)
    try:
        for case in cases(arguments):
            libraries = [ours, theirs] if with_peers(case, arguments.quick) else [ours]
            study.measure(case, libraries)
            _write(rows, devices, arguments.quick)
    finally:
        ours.stop()
        theirs.stop()
    wrong = disagreeing(rows[name])
    print("\n".join(wrong) or "all results agree")


def _write(rows: dict[str, Any], devices: dict[str, Any], quick: bool) -> None:
    """The rows and what follows from them; after every case, so that a run can be cut short."""
    found = {
        "devices": devices,
        "ratios": {name: ratios(tables) for name, tables in rows.items()},
        "fastest": {devices[name]["backend"]: fastest(tables) for name, tables in rows.items()},
        "disagreeing": {name: disagreeing(tables) for name, tables in rows.items()},
        "rows": rows,
    }
    if quick:
        return
    from results import write

    write("products-speed", found, "python experiments/products-speed.py")
    table = {backend: choices(methods) for backend, methods in found["fastest"].items()}
    CHOICES.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
