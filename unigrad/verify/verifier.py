"""From completions to verdicts: the quick cases at once, the rest in parallel on worker processes."""

from __future__ import annotations

import atexit
import functools
import os
import queue
import re
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self, get_args

from unigrad.machine import verifier_workers
from unigrad.types import AnswerKind, NoBox, Reason, Verdict
from unigrad.verify.boxed import last_boxed
from unigrad.verify.choice import judge_choice
from unigrad.verify.kept import KeptVerdicts, Pair
from unigrad.verify.math_answers import MAX_ANSWER_CHARS, compare, extract
from unigrad.verify.notation import spell, unwrap_gold
from unigrad.verify.pool import Worker

_THOUGHT = re.compile(
    r"(?P<end></(?:think|thinking|thought|reasoning)>|<\|end_of_thought\|>)"
    r"|<(?:think|thinking|thought|reasoning)>|<\|begin_of_thought\|>",
    re.I,
)
"""The tags that models write around what they think before they answer."""


_SPECIAL_TOKEN = re.compile(r"<\|[^<>|\s]{1,80}\|>|</?(?!answer>)(?:[a-z_]\w*|\w{2,})>")
"""A model's special tokens, which a policy may sample anywhere; `<answer>` is no such, nor `<A>`."""


class Submission(NamedTuple):
    """A completion, and the gold answer that it is held against. truncated: it ended because its length ran out."""

    completion: str
    answer: str
    kind: AnswerKind = "math"
    truncated: bool = False


class Check(NamedTuple):
    """A check that runs: what was read as the answer, and what will be known of it."""

    extracted: str
    reason: Future[Reason]


class Verifier:
    """Verifies completions, from any thread. No process starts before an answer needs one, or before `start_workers`.

    timeout_seconds: of one check, as `worker` counts them; at most about ten times as much processor time.
    workers: how many processes check at a time; None: as many as `verifier_workers` says.
    no_box: what a completion without a complete box is.
    kept: what is known already, and takes up what will be; the verifier's own if none is given.
    """

    def __init__(
        self,
        timeout_seconds: float = 1.0,
        workers: int | None = None,
        *,
        no_box: NoBox = "last_number",
        kept: KeptVerdicts | None = None,
    ) -> None:
        workers = verifier_workers() if workers is None else workers
        if not timeout_seconds > 0 or workers < 1:
            raise ValueError(
                f"Verifier: timeout_seconds={timeout_seconds} and workers={workers} must be positive; "
                "the defaults are 1.0 and None"
            )
        if no_box not in get_args(NoBox):
            raise ValueError(f"Verifier: no_box={no_box!r} must be one of {', '.join(get_args(NoBox))}")
        self._no_box = no_box
        self._kept = KeptVerdicts() if kept is None else kept
        self._workers = [Worker(timeout_seconds) for _ in range(workers)]
        self._idle: queue.Queue[Worker] = queue.Queue()
        for worker in self._workers:
            self._idle.put(worker)
        self._lock = threading.Lock()
        self._running: dict[Pair, Future[Reason]] = {}
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="verify")

    def start_workers(self) -> None:
        """Have the processes ready by the time that an answer needs one; to be called before any does."""
        for worker in self._workers:
            worker.start()

    def start(self, submission: Submission) -> Verdict | Check:
        """The verdict, or the check that it takes, begun. Equal answers are checked once, in this verifier's life.

        Whatever the strings, each gets a verdict. Raises RuntimeError where a worker is needed and this verifier is
        closed.
        """
        completion, answer, kind = self._answering_part(submission), submission.answer, submission.kind
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
        pair = (extracted, gold)
        if (reason := compare(*pair)) is not None:
            return Verdict(reason is Reason.RIGHT, extracted, reason)
        with self._lock:
            if (reason := self._kept.get(pair)) is not None:
                return Verdict(reason is Reason.RIGHT, extracted, reason)
            if pair not in self._running:
                self._running[pair] = self._threads.submit(self._check, pair)
            return Check(extracted, self._running[pair])

    def finish(self, started: Verdict | Check) -> Verdict:
        """The verdict of what was begun. Raises RuntimeError where the worker could not start."""
        if isinstance(started, Verdict):
            return started
        reason = started.reason.result()
        return Verdict(reason is Reason.RIGHT, started.extracted, reason)

    def verify_batch(self, submissions: Sequence[Submission | tuple[str, str, AnswerKind]]) -> list[Verdict]:
        """Their verdicts, in their order; see `start`."""
        started = [self.start(Submission(*submission)) for submission in submissions]
        return [self.finish(each) for each in started]

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

    def _answering_part(self, submission: Submission) -> str:
        """What stands after the thinking; nothing where that never ended, or where a box is wanted and missing."""
        text = submission.completion
        for tag in deque(_THOUGHT.finditer(text), maxlen=1):
            text = text[tag.end() :] if tag["end"] else ""
        text = _SPECIAL_TOKEN.sub(" ", text)
        needs_box = submission.truncated or self._no_box == "wrong"
        return "" if needs_box and last_boxed(text) is None else text

    def _check(self, pair: Pair) -> Reason:
        worker = self._idle.get()
        try:
            reason = worker.check(*pair)
            self._kept.add(pair, reason)
            return reason
        finally:
            self._idle.put(worker)
            with self._lock:
                del self._running[pair]


def verify(
    completion: str,
    answer: str,
    kind: AnswerKind = "math",
    *,
    no_box: NoBox = "last_number",
    truncated: bool = False,
) -> Verdict:
    r"""Is `completion`'s final answer the gold `answer`?

    math: the last complete box (\boxed{...}, \fbox{...}, \boxed 5), else the final number in the text. Plain numbers
    and equal texts are compared here, exactly; all else by math-verify, in a process that is killed after so much work.
    choice: an option A to J (or 1 to 9), see `choice.judge_choice`.
    no_box: "wrong" takes nothing but a box. truncated: the completion's length ran out, and without a box it has no
    answer. What stands before `</think>` is no answer, nor is a thought that was never ended.

    Any string whatever gets a verdict, from any thread: right; wrong; unparseable (no answer can be read, or the check
    breaks math-verify or its memory limit); timed out; bad gold (`answer` is empty or nothing that math-verify reads).
    """
    verifier = _process_verifier(os.getpid(), no_box)
    return verifier.verify_batch([Submission(completion, answer, kind, truncated)])[0]


@functools.cache
def _process_verifier(pid: int, no_box: NoBox) -> Verifier:
    """A process's own: one that was forked must not read its parent's replies, nor end its parent's workers."""
    verifier = Verifier(no_box=no_box)
    atexit.register(_close_in, pid, verifier)
    return verifier


def _close_in(pid: int, verifier: Verifier) -> None:
    if os.getpid() == pid:
        verifier.close()
