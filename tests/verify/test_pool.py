"""The worker processes: their limits, their deaths, their end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from unigrad.config import load_config
from unigrad.train.build import Build
from unigrad.train.scorer import build_scorer
from unigrad.types import Reason, TrainerState
from unigrad.verify import Submission, Verifier, pool
from unigrad.verify.kept import KeptVerdicts
from unigrad.verify.pool import LOSSES, Worker

ROOT = Path(__file__).resolve().parents[2]
TOWER = "9^{9^{9^9}}"
SQUARE = ("(x+1)^2", "x^2+2x+1")
EASY = ("2+x", "x+2")
START_WORKERS = Verifier.start_workers
"""Elsewhere in the tests it does nothing (conftest.py)."""


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker(timeout_seconds=1.0)
    yield worker
    worker.close()


def _process(worker: Worker) -> psutil.Process:
    worker.check(*EASY)
    assert worker._process is not None
    return psutil.Process(worker._process.pid)


def _child(worker: Worker) -> psutil.Process:
    """The process that checks."""
    (child,) = _process(worker).children()
    return child


def test_a_stuck_check_is_killed_and_the_next_one_works(worker: Worker) -> None:
    parent, first = _process(worker), _child(worker)
    start = time.monotonic()
    assert worker.check(TOWER, "7") is Reason.TIMED_OUT
    assert time.monotonic() - start < 15  # it takes 2.25 s of processor time; the rest is a busy machine's
    assert not first.is_running()
    assert worker.check(*SQUARE) is Reason.RIGHT
    assert parent == _process(worker)  # its start, which takes seconds, is not paid for again


def test_workers_that_are_started_early_do_the_first_checks() -> None:
    with Verifier(workers=2) as verifier:
        START_WORKERS(verifier)
        processes = [worker._process for worker in verifier._workers]
        assert all(process is not None and process.poll() is None for process in processes)
        verdicts = verifier.verify_batch([Submission(rf"\boxed{{{n}+x}}", f"x+{n}") for n in range(2, 8)])
        assert {verdict.reason for verdict in verdicts} == {Reason.RIGHT}
        assert [worker._process for worker in verifier._workers] == processes
    assert all(process is not None and process.poll() is not None for process in processes)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Verifier]:
    """Those whose workers were started."""
    started = list[Verifier]()
    monkeypatch.setattr(Verifier, "start_workers", lambda verifier: started.append(verifier))
    return started


def test_a_run_starts_them_before_its_first_step(started: list[Verifier]) -> None:
    with ExitStack() as stack:
        config = load_config("tiny", {})
        build_scorer(config, TrainerState(max_steps=1), KeptVerdicts(), stack, print, early_workers=False)
        assert len(started) == 0
        build_scorer(config, TrainerState(max_steps=1), KeptVerdicts(), stack, print, early_workers=True)
        assert len(started) == 1
        rewarded = load_config("tiny", {"verify.reward_function": "math.dist"})
        build_scorer(rewarded, TrainerState(max_steps=1), KeptVerdicts(), stack, print, early_workers=True)
    assert len(started) == 1


@pytest.mark.parametrize(
    ("recipe", "eval_steps", "times"), [("tiny-hpt", 0, 1), ("tiny-sft", 5, 1), ("tiny-sft", 0, 0)]
)
def test_a_run_that_scores_nothing_starts_none(
    recipe: str, eval_steps: int, times: int, started: list[Verifier], tmp_path: Path
) -> None:
    config = load_config(recipe, {"tiny.train_problems": "16", "train.eval_steps": str(eval_steps)})
    with ExitStack() as stack:
        Build(config, tmp_path, None, KeptVerdicts(), Console(quiet=True), stack).loop()
    assert len(started) == times


def _hard_pairs() -> list[tuple[str, str]]:
    """From a few thousand calls to millions, of several kinds of work; right and wrong ones."""
    pairs = []
    for n in range(2, 12, 2):
        pairs.append((rf"(x+1)^{{{n}}}(x-1)^{{{n}}}", f"(x^2-1)^{{{n}}}"))
        pairs.append(("+".join(rf"\sqrt{{{k}}}" for k in range(2, n + 2)), r"2\sqrt{3}"))
        pairs.append((rf"\sin({n}x)\cos(x)+\cos({n}x)\sin(x)", rf"\sin({n + 1}x)"))
        pairs.append((rf"\sum_{{k=1}}^{{{n}}} \frac{{1}}{{k+x}}", rf"\sum_{{k=2}}^{{{n + 1}}} \frac{{1}}{{k-1+x}}"))
    return pairs


def test_a_verdict_depends_on_no_load_no_history_and_no_process() -> None:
    pairs = _hard_pairs()

    def judged(seed: int) -> list[Reason]:
        worker = Worker(timeout_seconds=0.06)
        reasons = {pair: worker.check(*pair) for pair in random.Random(seed).sample(pairs, len(pairs))}
        worker.close()
        return [reasons[pair] for pair in pairs]

    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        with ThreadPoolExecutor(3) as threads:
            found = list(threads.map(judged, range(3)))
    finally:
        for process in load:
            process.kill()
            process.wait()
    assert found[0] == found[1] == found[2]
    assert 5 <= found[0].count(Reason.TIMED_OUT) <= len(pairs) - 5


def test_a_check_longer_than_the_uncounted_part_still_gets_its_verdict() -> None:
    # Of the 42,000 calls that this allows the check makes some 34,000, long ones: a fast machine takes 19 ms, and a
    # quarter of the limit is 5.
    worker = Worker(timeout_seconds=0.021)

    def meets_the_first_limit() -> bool:
        child = _child(worker)
        assert worker.check("+".join(rf"\sqrt{{{k}}}" for k in range(2, 12)), r"2\sqrt{3}") is Reason.WRONG
        gone, _ = psutil.wait_procs([child], timeout=5)
        return gone == [child]  # it was killed

    # The system counts so short a time by its ticks: on a busy machine sometimes too little.
    assert any(meets_the_first_limit() for _ in range(5))
    worker.close()


def test_the_worker_does_not_load_torch(worker: Worker) -> None:
    libraries = {Path(mapped.path).name for mapped in _process(worker).memory_maps()}
    assert not [name for name in libraries if "torch" in name]


def test_memory_is_bounded(worker: Worker) -> None:
    if sys.platform != "linux":
        pytest.skip("the limit is read from /proc")
    process = _process(worker)
    soft, _ = process.rlimit(psutil.RLIMIT_AS)
    assert soft < process.memory_info().vms + 2 * 2**30


def test_interrupts_do_not_reach_it(worker: Worker) -> None:
    assert os.getpgid(_process(worker).pid) != os.getpgid(0)


def test_a_worker_killed_from_outside_is_replaced_and_the_verdict_stands(worker: Worker) -> None:
    for find in (_process, _child):
        process = find(worker)
        process.kill()
        psutil.wait_procs([process], timeout=5)
        assert worker.check(*SQUARE) is Reason.RIGHT
    process = _process(worker)
    timer = threading.Timer(0.2, process.kill)  # in the middle of a check
    timer.start()
    assert worker.check(TOWER, "7") is Reason.TIMED_OUT
    timer.join()


def test_a_stopped_worker_is_replaced_and_the_verdict_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SILENCE_SECONDS", 15.0)
    worker = Worker(timeout_seconds=0.1)
    for find in (_process, _child):
        process = find(worker)
        process.suspend()  # spends no processor time
        assert worker.check(*EASY) is Reason.RIGHT
        assert psutil.wait_procs([process], timeout=5)[1] == []
    worker.close()


def test_a_worker_that_cannot_start_is_an_error_not_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    worker = Worker(timeout_seconds=1.0)
    with pytest.raises(RuntimeError, match="does not start"):
        worker.check(*SQUARE)


def _killed_at_each_start(worker: Worker, times: int) -> threading.Thread:
    """Kills the worker as soon as it runs, so many times."""

    def kill() -> None:
        killed: set[int] = set()
        while len(killed) < times:
            process = worker._process
            if process is not None and process.pid not in killed:
                process.kill()
                killed.add(process.pid)
            time.sleep(0.002)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_worker_killed_as_it_starts_is_started_again() -> None:
    worker = Worker(timeout_seconds=1.0)
    killer = _killed_at_each_start(worker, 3)
    assert worker.check(*SQUARE) is Reason.RIGHT
    killer.join()
    worker.close()


def test_a_worker_killed_at_each_start_is_an_error_that_says_so() -> None:
    worker = Worker(timeout_seconds=1.0)
    killer = _killed_at_each_start(worker, LOSSES)
    with pytest.raises(RuntimeError, match=f"lost {LOSSES} times in a row .it was killed by SIGKILL as it started"):
        worker.check(*SQUARE)
    killer.join()


def test_kills_leave_no_descriptor_and_no_zombie() -> None:
    if sys.platform != "linux":
        pytest.skip("descriptors are counted in /proc")
    before = len(list(Path("/proc/self/fd").iterdir()))
    worker = Worker(timeout_seconds=1.0)
    for _ in range(3):
        _child(worker).kill()
        assert worker.check(*SQUARE) is Reason.RIGHT
    process = _process(worker)
    assert len(process.children()) == 1
    worker.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not process.is_running()


def test_what_would_eat_the_memory_gets_a_verdict(worker: Worker) -> None:
    for pair in (("(10^{10})!", "1"), (r"2^{10^{12}}+x", "x"), (r"\binom{10^{12}}{10^{9}}", "3")):
        assert worker.check(*pair) in {Reason.TIMED_OUT, Reason.UNPARSEABLE, Reason.WRONG}


def test_closing_ends_the_processes() -> None:
    with Verifier(workers=1) as verifier:
        assert verifier.verify_batch([Submission(rf"\boxed{{{SQUARE[0]}}}", SQUARE[1])])[0].correct
        process = _process(verifier._workers[0])
    assert not process.is_running()
    with pytest.raises(RuntimeError):
        verifier.verify_batch([Submission(rf"\boxed{{{EASY[0]}}}", EASY[1])])


def test_an_unguarded_script_from_stdin_can_verify() -> None:
    script = rf"from unigrad.verify import verify; print(verify(r'\boxed{{{SQUARE[0]}}}', '{SQUARE[1]}').reason)"
    done = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.stdout, done.stderr) == ("right\n", "")


def test_workers_do_not_outlive_a_killed_parent() -> None:
    script = f"""
from unigrad.verify.pool import Worker
idle, busy = Worker(1.0), Worker(1.0)
for worker in (idle, busy):
    worker.check({SQUARE[0]!r}, {SQUARE[1]!r})
print(idle._process.pid, busy._process.pid, flush=True)
busy.check({TOWER!r}, "7")
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        time.sleep(0.3)
        workers += [child for worker in workers for child in worker.children()]
        parent.send_signal(signal.SIGKILL)
    assert len(workers) == 4
    assert psutil.wait_procs(workers, timeout=30)[1] == []
