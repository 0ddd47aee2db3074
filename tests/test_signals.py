"""Signals: a batch system's SIGTERM ends a command as Ctrl-C does, also before anything trains."""

import os
import signal
import threading

import pytest

from cards_jax import signals


def test_sigterm_is_an_interrupt_and_afterwards_what_it_was():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), signals.interrupting():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_leaves_signals_alone():
    before, inside = signal.getsignal(signal.SIGTERM), []

    def work():
        with signals.interrupting(), signals.Signals().watched():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]
