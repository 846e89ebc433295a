"""Waiting for a user's coroutine, on one event loop for the whole process."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from unigrad.errors import UserCodeError


def awaited(awaitable: Awaitable[Any]) -> Any:
    """What it gives. Raises UserCodeError for whatever it raises, SystemExit too; but a KeyboardInterrupt, which is the
    user's at the terminal, is left as it is."""

    def run() -> Any:
        try:
            return _runner().run(_result(awaitable))
        except (UserCodeError, KeyboardInterrupt):
            raise
        except BaseException as error:  # of a task that it started
            raise UserCodeError from error

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


async def _result(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # the runner's answer to a SIGINT, which it makes a KeyboardInterrupt of
        raise UserCodeError from error
