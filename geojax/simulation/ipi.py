"""A model as a client of i-PI's socket protocol: i-PI, ASE and others move the atoms.

The server sends cells and positions, this process answers with energies, forces and virials, in
atomic units (those of ASE's client, which speaks the protocol) and virial = -V stress. The elements
and boundaries are those of a structure that is known beforehand, in the order of the server's.

References:
    Kapil et al., Comput. Phys. Commun. 236, 214 (2019) (i-PI 2.0).
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from geojax.graphs import Structure
from geojax.simulation.evaluation import EnergyForcesVirial, Evaluator

__all__ = ["serve_ipi"]

PORT = 31415  # as i-PI and ASE have it
PATIENCE = 0.1  # [s], between attempts to connect, and for the last words


def serve_ipi(
    model: Any,
    structure: Structure,
    *,
    address: str = "localhost",
    port: int | None = None,
    unix: str | None = None,
    wait: float = 0.0,
    skin: float = 0.5,
    progress: Callable[[int, EnergyForcesVirial], None] | None = None,
) -> int:
    """Answer a server until it stops, and return how many structures there were.

    The first structure is evaluated before the server is called, so that a model and a structure
    that do not fit end here. Where an evaluation fails, the connection is closed without an answer
    and the error is raised; i-PI stops then if its input says `exit_on_disconnect`, and waits for
    another client otherwise.

    Args:
        model: a `Model`, an `Ensemble` or an opened artifact.
        structure: elements, boundaries and inputs; its positions do not matter to the server.
        address: of the server's machine.
        port: of an internet socket; 31415 by default.
        unix: the name of a UNIX socket (i-PI's `<address>`) in place of address and port.
        wait: [s], how long to go on trying while there is no server yet.
        skin: [Å], of the neighbour list, see `inference.Calculator`.
        progress: called with the number of structures and what was sent, after each.

    Raises:
        ImportError: ase is not installed.
        ConnectionError: there is no server, it does not keep to the protocol, or it leaves in the
            midst of a step.
        ValueError: a port and the name of a UNIX socket; atoms other than the structure's; as
            `Evaluator`.
    """
    try:
        from ase.calculators.socketio import IPIProtocol, actualunixsocketname
    except ImportError as error:
        raise ImportError("the protocol is ASE's; pip install 'geojax[atoms]'") from error
    if port is not None and unix is not None:
        raise ValueError(
            f"a server has a port or the name of a UNIX socket; got port={port} and unix={unix!r}"
        )
    evaluate = Evaluator(model, skin=skin)
    evaluate(structure)
    where = actualunixsocketname(unix) if unix else (address, PORT if port is None else port)
    with _connected(where, wait) as connection:
        try:
            return _answer(IPIProtocol(connection), evaluate, structure, progress)
        finally:
            _leave(connection)


def _answer(
    protocol: Any,
    evaluate: Evaluator,
    structure: Structure,
    progress: Callable[[int, EnergyForcesVirial], None] | None,
) -> int:
    """The client's side of the protocol; ASE's own client stretches one atom over all that it
    knows, and has no virial of a molecule."""
    from ase.calculators.socketio import SocketClosed

    done, found = 0, None
    while True:
        try:
            message = protocol.recvmsg()
        except SocketClosed as error:  # as ASE's server says goodbye
            if found is not None:
                raise ConnectionError("the server left before it took the forces") from error
            return done
        if message == "EXIT":
            return done
        if message == "STATUS":
            protocol.sendmsg("READY" if found is None else "HAVEDATA")
        elif message == "INIT":
            protocol.recvinit()  # the number of a bead; all are alike here
        elif message == "POSDATA" and found is None:
            found = evaluate(_received(protocol, structure))
            done += 1
            if progress is not None:
                progress(done, found)
        elif message == "GETFORCE" and found is not None:
            protocol.sendforce(*found)
            found = None
        else:
            raise ConnectionError(
                f"a server sends positions and then asks for forces; got {message!r} while there "
                f"were {'no' if found is None else 'untaken'} forces; see that it speaks i-PI's "
                "protocol"
            )


def _received(protocol: Any, structure: Structure) -> Structure:
    """The structure as the server has moved it."""
    try:
        cell, _, positions = protocol.recvposdata()
    except AssertionError as error:
        raise ValueError(
            "cells and positions must be finite; the server sent one that is not; look at its last "
            "steps"
        ) from error
    if len(positions) != len(structure):
        raise ValueError(
            f"the server moves the atoms of the structure; got {len(positions)} atoms and a "
            f"structure of {len(structure)}; give the file that the server reads"
        )
    repeats = np.array(structure.pbc)[:, None]  # the rest of the server's cell is no lattice
    return structure.replace(positions=positions, cell=cell * repeats)


def _connected(where: tuple[str, int] | str, wait: float) -> socket.socket:
    """A connection, tried again while there is nothing to connect to."""
    end = time.monotonic() + wait
    while True:
        connection = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        try:
            connection.connect(where)
            return connection
        except (ConnectionRefusedError, FileNotFoundError) as error:
            connection.close()
            if time.monotonic() >= end:
                raise ConnectionError(
                    f"a server listens before its client calls; there is none at {where} "
                    f"({error}); start it first, or wait longer"
                ) from error
        except OSError:
            connection.close()
            raise
        time.sleep(PATIENCE)


def _leave(connection: socket.socket) -> None:
    """Close after reading what is left, as i-PI asks for forces ahead of time: else the connection
    is reset, at which i-PI 3.3 hangs; where it ends, i-PI stops or looks for another client."""
    connection.settimeout(PATIENCE)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
