"""The first signal is remembered, the second one kills as before."""

import os
import signal
import threading

import pytest

from geojax.signals import Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_remembered_and_the_handlers_go_back(number):
    before = signal.getsignal(number)
    with Signals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), number)
        assert signals.received == number
        assert signal.getsignal(number) is before  # a second one acts as if nothing were there
    assert signal.getsignal(number) is before


def test_other_threads_leave_signals_alone():
    found = []

    def work():
        with Signals() as signals:
            found.append(signals.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]
