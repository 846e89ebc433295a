from __future__ import annotations

import signal
import threading

import pytest

from unigrad.signals import stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_is_noted_and_a_second_acts_as_usual(number: signal.Signals) -> None:
    acted: list[int] = []
    before = signal.signal(number, lambda number, _: acted.append(number))
    try:
        with stop_signals(second_acts=True) as received:
            assert received == []
            signal.raise_signal(number)
            assert (received, acted) == ([number], [])
            signal.raise_signal(number)
            assert (received, acted) == ([number], [number])
        signal.raise_signal(number)
        assert acted == [number, number]
    finally:
        signal.signal(number, before)


def test_a_terminal_that_closes_may_say_so_twice() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with stop_signals(second_acts=True) as received:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
    assert received == [signal.SIGHUP, signal.SIGHUP]
    assert signal.getsignal(signal.SIGHUP) == before


def test_nohup_is_heeded() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals(second_acts=True) as received:
            signal.raise_signal(signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_off_the_main_thread_nothing_is_listened_to() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen: list[object] = []

    def work() -> None:
        with stop_signals(second_acts=True) as received:
            seen.extend([received, [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[], handlers]


def test_where_each_is_gathered_none_acts() -> None:
    acted: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: acted.append(number))
    try:
        with stop_signals(second_acts=False) as received:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert (received, acted) == ([signal.SIGTERM, signal.SIGTERM], [])
        signal.raise_signal(signal.SIGTERM)
        assert acted == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
