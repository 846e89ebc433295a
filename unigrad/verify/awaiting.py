"""Waiting for what a user's function does: coroutines on one event loop for the whole process, calls in threads."""

from __future__ import annotations

import asyncio
import atexit
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from functools import cache
from threading import Thread
from typing import Any, Final, Literal

from unigrad.errors import UserCodeError


class _InterruptedError(Exception):
    """A KeyboardInterrupt on its way out of the loop."""


class _TimedOut(Enum):
    TIMED_OUT = 0


TIMED_OUT: Final = _TimedOut.TIMED_OUT
"""In place of what did not come in time."""
TimedOut = Literal[_TimedOut.TIMED_OUT]


def called(calls: Sequence[Callable[[], Any]], timeout: float | None) -> list[Any | TimedOut]:
    """What the calls return, made side by side, each in a thread of its own; a single one without a timeout, in
    seconds, is made in this thread. One that takes longer is left to end by itself. Raises whatever a call raises."""
    if len(calls) == 1 and timeout is None:
        return [calls[0]()]
    futures = [_begun(call) for call in calls]
    end = None if timeout is None else time.monotonic() + timeout
    return [_result_by(future, end) for future in futures]


def _begun(call: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 (the waiting thread raises it)
            future.set_exception(error)

    # No pool's: the process waits at its end for those.
    Thread(target=run, daemon=True).start()
    return future


def _result_by(future: Future[Any], end: float | None) -> Any | TimedOut:
    """end: by the monotonic clock; None: whenever it comes."""
    try:
        return future.result(None if end is None else max(0.0, end - time.monotonic()))
    except TimeoutError:
        if future.done():  # the call's own
            return future.result()
        return TIMED_OUT


def awaited(awaitables: Sequence[Awaitable[Any]], timeout: float | None = None) -> list[Any | TimedOut]:
    """What they give, awaited side by side, each for so many seconds at most.

    Raises UserCodeError for whatever one raises, SystemExit too; but a KeyboardInterrupt, which is the user's at the
    terminal, is left as it is."""

    def run() -> list[Any | TimedOut]:
        try:
            return _runner().run(_all(awaitables, timeout))
        except _InterruptedError as error:
            raise KeyboardInterrupt from error
        except (UserCodeError, KeyboardInterrupt):
            raise
        except BaseException as error:  # of a task that it started
            raise UserCodeError from error

    if not awaitables:
        return []
    if not _is_in_a_loop():
        return run()
    # A notebook's own loop runs in this thread, and no other can.
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(run).result()


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@cache
def _runner() -> asyncio.Runner:
    """Kept, so that a client that lives between two calls finds its loop again."""
    runner = asyncio.Runner()
    atexit.register(runner.close)
    return runner


async def _all(awaitables: Sequence[Awaitable[Any]], timeout: float | None) -> list[Any | TimedOut]:
    tasks = [asyncio.ensure_future(_in_time(each, timeout)) for each in awaitables]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        # So that none of them lives on in the loop.
        await asyncio.gather(*tasks, return_exceptions=True)


async def _in_time(awaitable: Awaitable[Any], timeout: float | None) -> Any | TimedOut:
    try:
        async with asyncio.timeout(timeout):
            return await _result(awaitable)
    except TimeoutError:
        return TIMED_OUT


async def _result(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except KeyboardInterrupt as error:
        # Out of a task it would leave the loop at once, and the others in it.
        raise _InterruptedError from error
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # at its time limit, or the runner's answer to a SIGINT, which it makes a KeyboardInterrupt of
        raise UserCodeError from error
