"""From completions to verdicts: the quick cases at once, the rest in parallel on worker processes."""

from __future__ import annotations

import atexit
import functools
import os
import queue
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from unigrad.types import AnswerKind, Reason, Verdict
from unigrad.verify.boxed import last_boxed
from unigrad.verify.choice import judge_choice
from unigrad.verify.math_answers import MAX_ANSWER_CHARS, compare, extract
from unigrad.verify.notation import spell, unwrap_gold
from unigrad.verify.pool import Worker


class Verifier:
    """Verifies completions, from any thread. No process starts before an answer needs one.

    timeout_seconds: processor time of one check; on the clock, a check ends after at most twice as much.
    workers: how many processes check at a time.
    """

    def __init__(self, timeout_seconds: float = 1.0, workers: int = 2) -> None:
        if not timeout_seconds > 0 or workers < 1:
            raise ValueError(
                f"Verifier: timeout_seconds={timeout_seconds} and workers={workers} must be positive; "
                "the defaults are 1.0 and 2"
            )
        self._workers = [Worker(timeout_seconds) for _ in range(workers)]
        self._idle: queue.Queue[Worker] = queue.Queue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="verify")

    def verify_batch(self, items: Sequence[tuple[str, str, AnswerKind]]) -> list[Verdict]:
        """The verdicts on (completion, gold answer, kind), in their order. Equal answers are checked once.

        Whatever the strings, each gets a verdict. Raises RuntimeError where a worker is needed and this verifier is
        closed, or the worker cannot start.
        """
        checks: dict[tuple[str, str], Future[Reason]] = {}
        verdicts = [self._judge(*item, checks) for item in items]
        return [verdict if isinstance(verdict, Verdict) else _verdict(*verdict) for verdict in verdicts]

    def close(self) -> None:
        """Waits for the running checks (bounded by the time limit) and ends the processes."""
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _judge(
        self, completion: str, answer: str, kind: AnswerKind, checks: dict[tuple[str, str], Future[Reason]]
    ) -> Verdict | tuple[str, Future[Reason]]:
        """The verdict, or the extracted answer and its check."""
        if kind == "choice":
            return judge_choice(completion, answer)
        if kind != "math":
            raise ValueError(f"unknown kind of answer {kind!r}: 'math' or 'choice'")
        gold = unwrap_gold(answer[:MAX_ANSWER_CHARS])
        gold = last_boxed(gold) or gold
        if not spell(gold) or len(answer) > MAX_ANSWER_CHARS:
            return Verdict(False, extract(completion), Reason.BAD_GOLD)
        extracted = extract(completion)
        if extracted is None:
            return Verdict(False, None, Reason.UNPARSEABLE)
        question = (extracted, gold)
        reason = compare(*question)
        if reason is not None:
            return Verdict(reason is Reason.RIGHT, extracted, reason)
        if question not in checks:
            checks[question] = self._threads.submit(self._check, *question)
        return extracted, checks[question]

    def _check(self, extracted: str, gold: str) -> Reason:
        worker = self._idle.get()
        try:
            return worker.check(extracted, gold)
        finally:
            self._idle.put(worker)


def verify(completion: str, answer: str, kind: AnswerKind = "math") -> Verdict:
    r"""Is `completion`'s final answer the gold `answer`?

    math: the last complete box (\boxed{...}, \fbox{...}, \boxed 5), else the final number in the text. Plain numbers
    and equal texts are compared here, exactly; all else by math-verify, in a process that is killed after a second.
    choice: an option A to J (or 1 to 9), see `choice.judge_choice`.

    Any string whatever gets a verdict, from any thread: right; wrong; unparseable (no answer can be read, or the check
    breaks math-verify or its memory limit); timed out; bad gold (`answer` is empty or nothing that math-verify reads).
    """
    return _process_verifier(os.getpid()).verify_batch([(completion, answer, kind)])[0]


@functools.cache
def _process_verifier(pid: int) -> Verifier:
    """A process's own: one that was forked must not read its parent's replies, nor end its parent's workers."""
    verifier = Verifier()
    atexit.register(_close_in, pid, verifier)
    return verifier


def _close_in(pid: int, verifier: Verifier) -> None:
    if os.getpid() == pid:
        verifier.close()


def _verdict(extracted: str, check: Future[Reason]) -> Verdict:
    reason = check.result()
    return Verdict(reason is Reason.RIGHT, extracted, reason)
