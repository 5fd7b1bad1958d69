"""A log gets a line now and then, the last one always."""

import io

from rich.console import Console

from geojax.training.progress import Progress


def test_a_log_says_the_errors_and_what_is_best():
    text = io.StringIO()
    console = Console(file=text, force_terminal=False, width=120)
    line = {"epoch": 3.0, "loss": 1.0, "valid.loss": 2.0, "valid.forces.mae": 0.0123}
    with Progress(console, 10, 0) as progress:
        progress.advance(5)
        progress.validated(line, best=True, last=False)
        progress.validated(line | {"epoch": 4.0}, best=False, last=False)
        progress.validated(line | {"epoch": 5.0}, best=False, last=True)
    assert text.getvalue().splitlines() == [
        "epoch 3: forces.mae 12.3 meV/Å *",
        "epoch 5: forces.mae 12.3 meV/Å",
    ]


def test_a_terminal_gets_a_bar():
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with Progress(console, 10, 0) as progress:
        progress.advance(10)
        progress.validated({"epoch": 1.0, "loss": 0.5}, best=True, last=True)
    assert "10/10" in text.getvalue() and "loss 0.5" in text.getvalue()
