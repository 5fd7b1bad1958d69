"""The tables of products and harmonics, and the lines of their picture, from the results."""

from results import markdown, milli, result


def products() -> str:
    """How many times faster than peers products are, by degree."""
    found = result("products-speed") or {"ratios": {}, "devices": {}}
    rows, degrees = [], [*map(str, range(1, 9)), "10"]
    for device, targets in found["ratios"].items():
        for target, programs in targets.items():
            for program, ratios in programs.items():
                goals = {entry["target"] for entry in ratios.values()} - {None}
                cells = [f"{ratios[l]['ratio']:.1f}" if l in ratios else "" for l in degrees]
                text = f"{PRODUCTS[target]}, {PROGRAMS[program]}"
                rows.append([text, device, *cells, "".join(f"{goal:g}" for goal in goals)])
    heads = ["times faster than the best peer", "on", *(f"L = {l}" for l in degrees), "goal"]
    return markdown(heads, rows)


PRODUCTS = {
    "B1": "weighted product",
    "B2": "weighted product",
    "B1 native": "weighted product, native kernel",
    "B2 native": "weighted product, native kernel",
    "B3 mlip": "signals, mlip",
    "B3 grid": "signals, PriceofFreedom's transforms",
    "B3 e3nn-jax": "signals, e3nn-jax's CG",
    "B4": "convolution",
    "B4 native": "convolution, native kernel",
}


PROGRAMS = {
    "forward": "forward",
    "backward": "with gradient",
    "double": "gradient of squared forces",
}


PANELS = {
    "A": ("weighted product, 4096 edges, 32 channels", "channels=32 edges=4096"),
    "B": ("two features, batch 8192", "channels=1 edges=8192"),
    "C": ("convolution, 2048 edges, 32 channels", "channels=32 edges=2048"),
}


def product_lines(device: str) -> dict[str, dict[str, dict[int, float]]]:
    """Milliseconds of value and gradient: panel -> method -> degree -> time."""
    tables = (result("products-speed") or {"rows": {}})["rows"].get(device, {})
    panels = {}
    for table, (title, size) in PANELS.items():
        lines: dict[str, dict[int, float]] = {}
        for case, row in tables.get(table, {}).items():
            degree, rest = case.split(" ", 1)
            for method, programs in row.items() if rest == size else ():
                median = programs.get("backward", {}).get("median")
                if median is not None:
                    lines.setdefault(method, {})[int(degree[2:])] = milli(median)
        if lines:
            panels[title] = lines
    return panels


def harmonics() -> str:
    """How many times faster than peers harmonics and Wigner matrices are, by degree."""
    found = (result("harmonics-speed") or {"ratios": {}})["ratios"]
    rows, degrees = [], ["1", "2", "3", "4", "6", "8", "10", "12"]
    for what, peers in found.items():
        for peer, programs in peers.items():
            for program, ratios in programs.items():
                names = {l: f"{what} 4000 lmax {l}" for l in degrees}
                cells = [f"{ratios[n]:.2g}" if n in ratios else "" for n in names.values()]
                rows.append([f"{what}, {PROGRAMS[program]}", peer, *cells])
    return markdown(["times faster", "than", *(f"l = {l}" for l in degrees)], rows)
