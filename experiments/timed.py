"""Programs that are timed in turn, each library in an interpreter of its own.

A study starts one `Interpreter` for each environment. It compiles what it is asked for and runs it
when it is its turn, so that a busy moment of the machine hits all libraries and not one. The other
side of the pipe is `serve`; it needs jax, and nothing of the study's own environment.

Three programs are made of a function that returns an array: "forward"; "backward", the value and
gradient of the sum of squares, in all operands; "double", the gradient in all operands of the
squared norm of the gradient in one of them, which is what training on forces calculates.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

PROGRAMS = ("forward", "backward", "double")
# One thread, no compiled program from an earlier run, full precision, memory as it is needed.
ENVIRONMENT = {
    "NPROC": "1",
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    "JAX_ENABLE_COMPILATION_CACHE": "0",
    "GEOJAX_CACHE": "off",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


class Timed(NamedTuple):
    """A function and its arguments, `function(*operands, *constants)`.

    Attributes:
        operands: what is differentiated.
        through: number of the operand through which "double" goes.
        weights: number of the operand that is set to one for `norm`.
        norm: of a result with these weights; equal in all libraries that calculate the same.
    """

    function: Callable[..., Any]
    operands: tuple[Any, ...]
    constants: tuple[Any, ...] = ()
    through: int = 1
    weights: int | None = None
    norm: Callable[[Any], float] | None = None


def program(kind: str, timed: Timed) -> Callable[..., Any]:
    """One of PROGRAMS, not compiled yet."""
    import jax

    numbers = tuple(range(len(timed.operands)))

    def energy(*arguments):
        return (timed.function(*arguments) ** 2).sum()

    def force(*arguments):
        return (jax.grad(energy, timed.through)(*arguments) ** 2).sum()

    return {
        "forward": timed.function,
        "backward": jax.value_and_grad(energy, numbers),
        "double": jax.grad(force, numbers),
    }[kind]


def compiled(kind: str, timed: Timed, limit: float) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A program ready to run, and what it took to make it.

    Raises:
        MemoryError: it needs more than `limit` bytes.
    """
    import jax
    import jax.numpy as jnp

    arguments = (*timed.operands, *timed.constants)
    begin = time.perf_counter()
    run = jax.jit(program(kind, timed)).lower(*arguments).compile()
    facts: dict[str, Any] = {"compile": time.perf_counter() - begin}
    memory: Any = run.memory_analysis()
    facts["temporary"] = int(memory.temp_size_in_bytes)
    needed = facts["temporary"] + memory.argument_size_in_bytes + memory.output_size_in_bytes
    if needed > limit:
        raise MemoryError(f"needs {needed / 1e9:.1f} GB, more than {limit / 1e9:.1f}")
    if kind == "forward":
        plain = list(arguments)
        if timed.weights is not None:
            plain[timed.weights] = jnp.ones_like(plain[timed.weights])
        out = run(*plain)
        facts["norm"] = timed.norm(out) if timed.norm else float(jnp.vdot(out, out))
    jax.block_until_ready(run(*arguments))
    return lambda: jax.block_until_ready(run(*arguments)), facts


def serve(
    methods: Callable[[list[Any]], list[str]],
    prepare: Callable[[list[Any], str], Timed],
    about: Callable[[], dict[str, Any]],
) -> None:
    """Answer requests, a line of JSON each, until there are no more.

    Args:
        methods: the names of what can be timed for a case.
        prepare: one of them, from the case and its name.
        about: facts of this environment.
    """
    import jax

    ready: dict[str, Callable[[], Any]] = {}

    def answer(ask: str, case: list[Any], method: str, kind: str, limit: float) -> dict[str, Any]:
        if ask == "about":
            device = jax.devices()[0]
            return {"device": device.device_kind, "backend": device.platform} | about()
        if ask == "methods":
            return {"methods": methods(case)}
        if ask == "compile":
            ready[method], facts = compiled(kind, prepare(case, method), limit)
            return facts
        if ask == "forget":
            ready.clear()
            jax.clear_caches()
            return {}
        return {"times": turn(ready[method], limit)}

    respond(answer)


def respond(answer: Callable[..., dict[str, Any]]) -> None:
    """Answer what an `Interpreter` asks until it asks no more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    for line in sys.stdin:
        try:
            found = answer(**json.loads(line))
        except Exception as error:  # a library that cannot do a case says so in its row
            text = str(error).strip() or repr(error)
            found = {"error": f"{type(error).__name__}: {text.splitlines()[0][:200]}"}
        print(json.dumps(found), file=answers, flush=True)


def turn(run: Callable[[], Any], seconds: float, most: int = 20) -> list[float]:
    """Times of some runs, one at least, until `seconds` are over."""
    times: list[float] = []
    while not times or (sum(times) < seconds and len(times) < most):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times


class Interpreter:
    """A process that serves requests; it is started again where it died.

    Attributes:
        deaths: how often it ended; what it had compiled is lost with each.
    """

    def __init__(self, command: list[str], patience: float):
        self.command, self.patience, self.deaths = command, patience, 0
        self.process: subprocess.Popen | None = None
        self.errors = tempfile.TemporaryFile("w+")

    def ask(
        self,
        ask: str,
        case: tuple[Any, ...] = (),
        method: str = "",
        kind: str = "",
        limit: float = 0.0,
    ) -> dict[str, Any]:
        """The answer, or {"error": reason}; `limit` is bytes of a program or seconds of a turn."""
        if self.process is None:
            self.errors.truncate(0)
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                env=os.environ | ENVIRONMENT,
                text=True,
                bufsize=1,
            )
        request = dict(ask=ask, case=list(case), method=method, kind=kind, limit=limit)
        assert self.process.stdin and self.process.stdout
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            waiting = select.select([self.process.stdout], [], [], self.patience)[0]
            line = self.process.stdout.readline() if waiting else ""
        except BrokenPipeError:
            waiting, line = True, ""
        if line:
            return json.loads(line)
        reason = self._last_words() if waiting else f"no answer within {self.patience:g} s"
        self.stop()
        return {"error": reason}

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return f"the process ended: {lines[-1][:200] if lines else 'killed, memory?'}"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.deaths += 1
