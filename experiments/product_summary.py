"""What follows from the rows of `products-speed.py`: ratios against peers, the fastest kernels.

Rows are `{table: {case: {method: {program: figures}}}}`; what was not measured is left out.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from product_cases import Case, case_of

OURS = "geojax "
GAUNT = ("geojax gaunt-direct", "geojax gaunt-fft", "geojax gaunt-grid")
SIGNALS = (*GAUNT, "geojax vector-signal")
NATIVE = ("geojax cg-native",)
# PriceofFreedom's products call e3nn-jax's transforms, so those stand for it where it is missing.
FREEDOM = (
    "PriceofFreedom s2grid",
    "PriceofFreedom s2grid_fft",
    "e3nn-jax s2grid",
    "e3nn-jax s2grid, fft",
)
AGREE = 1e-3  # relative, of squared norms in float32
REFERENCE = (32, 4096)  # channels and edges of table A where the peers are measured

Row = dict[str, Any]
Pick = Callable[[str], bool]


def is_coupled(name: str) -> bool:
    """A kernel of geojax that has a weight for each path."""
    return name.startswith(OURS) and name not in SIGNALS


def is_xla(name: str) -> bool:
    """A coupled kernel that needs no compiler beside XLA."""
    return is_coupled(name) and name not in NATIVE


def is_peer(name: str) -> bool:
    return not name.startswith(OURS)


def ranking(row: Row, kind: str, pick: Pick) -> list[tuple[float, str]]:
    """Median times and methods, the fastest first; without those that were not measured."""
    return sorted(
        (programs[kind]["median"], name)
        for name, programs in row.items()
        if name != "skipped" and pick(name) and "median" in programs.get(kind, {})
    )


def ratios(tables: dict[str, dict[str, Row]]) -> dict[str, Any]:
    """`{target: {program: {lmax: {geojax, peer, ratio, target}}}}` of BENCH's B1 to B4."""
    found: dict[str, Any] = {}

    def enter(
        name: str,
        case: Case,
        row: Row,
        kinds: Iterable[str],
        ours: Pick,
        peers: Pick,
        target: float | None,
    ) -> None:
        for kind in kinds:
            mine, other = ranking(row, kind, ours), ranking(row, kind, peers)
            if mine and other:
                (time, method), (their_time, peer) = mine[0], other[0]
                entry = {
                    "geojax": method,
                    "peer": peer,
                    "ratio": their_time / time,
                    "target": target,
                }
                if name == "B2":  # at most half
                    sizes = (row[of][kind]["temporary"] for of in (method, peer))
                    entry |= {"memory": next(sizes) / max(next(sizes), 1), "memory target": 0.5}
                found.setdefault(name, {}).setdefault(kind, {})[str(case.lmax)] = entry

    both = ("forward", "backward")
    gaunt: Pick = lambda name: name in GAUNT
    native: Pick = lambda name: name in NATIVE
    for case, row in _rows(tables, "A"):
        if case[2:] == REFERENCE:
            enter("B1", case, row, both[:1], is_xla, is_peer, 3.0)
            enter("B2", case, row, ("backward", "double"), is_xla, is_peer, 4.0)
            enter("B1 native", case, row, both[:1], native, is_peer, None)
            enter("B2 native", case, row, ("backward", "double"), native, is_peer, 13.0)
    for case, row in _rows(tables, "B"):
        if case.lmax >= 2:
            enter("B3 mlip", case, row, both, gaunt, lambda name: name == "mlip Gaunt", 1.0)
        if case.lmax >= 6:
            enter("B3 grid", case, row, both, gaunt, lambda name: name in FREEDOM, 3.5)
            enter("B3 e3nn-jax", case, row, both, gaunt, lambda name: name == "e3nn-jax", 15.0)
    for case, row in _rows(tables, "C"):
        enter("B4", case, row, both, is_xla, is_peer, 4.0)
        enter("B4 native", case, row, both, native, is_peer, None)
    return found


def fastest(tables: dict[str, dict[str, Row]]) -> dict[str, Any]:
    """`{table: {channels: {lmax: methods}}}`: kernels by the time of value and gradient.

    The fastest comes first; who chooses takes the first that it can use. Table "A" is at the edges
    of `REFERENCE` where they were measured; "B gaunt" is the other family.
    """
    found: dict[str, Any] = {}
    gaunt: Pick = lambda name: name in GAUNT
    for name, table, pick in (
        ("A", "A", is_coupled),
        ("B", "B", is_coupled),
        ("B gaunt", "B", gaunt),
        ("C", "C", is_coupled),
    ):
        # the reference size comes last and stays
        ordered = sorted(_rows(tables, table), key=lambda item: item[0].edges == REFERENCE[1])
        for case, row in ordered:
            names = [method for _, method in ranking(row, "backward", pick)]
            if names:
                channels = found.setdefault(name, {}).setdefault(str(case.channels), {})
                channels[str(case.lmax)] = [method.removeprefix(OURS) for method in names]
    return found


def choices(found: dict[str, Any]) -> dict[str, Any]:
    """`{channels: {lmax: methods}}` for method="auto": convolutions where measured, else rows."""
    table: dict[str, Any] = {}
    for name in ("A", "C"):
        for channels, by_degree in found.get(name, {}).items():
            table.setdefault(channels, {}).update(by_degree)
    return table


def disagreeing(tables: dict[str, dict[str, Row]]) -> list[str]:
    """Methods whose result has another norm than the first of those that calculate the same."""
    found = []
    for table in tables:
        for case, row in _rows(tables, table):
            first: dict[bool, tuple[str, float]] = {}
            for name, programs in row.items():
                norm = {} if name == "skipped" else programs.get("forward", {})
                if "norm" not in norm or name == "geojax vector-signal":  # it alone has odd paths
                    continue
                signals = name in (*GAUNT, *FREEDOM, "mlip Gaunt")
                other, expected = first.setdefault(signals, (name, norm["norm"]))
                if abs(norm["norm"] - expected) > AGREE * abs(expected):
                    found.append(f"{table} {case.name}: {name} is not {other}")
    return found


def _rows(tables: dict[str, dict[str, Row]], table: str) -> Iterator[tuple[Case, Row]]:
    cases = [(case_of(table, name), row) for name, row in tables.get(table, {}).items()]
    yield from sorted(cases, key=lambda item: item[0])
