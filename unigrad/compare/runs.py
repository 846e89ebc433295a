"""Several runs at once, each a process of its own: started, gone on with, watched, stopped and measured."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BufferedWriter

from unigrad.compare.plan import PlannedRun
from unigrad.errors import ConfigError
from unigrad.files import lock, replace_text
from unigrad.live import clock
from unigrad.runs.metrics import RunMetrics, measure
from unigrad.signals import stop_signals

TICK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """stopped_by: the signal that stopped the runs, if one did."""

    failed: tuple[PlannedRun, ...]
    stopped_by: int | None


@dataclass(frozen=True, slots=True)
class _Child:
    run: PlannedRun
    process: subprocess.Popen[bytes]
    start: float
    gpu: str | None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start


def check_free(runs: Sequence[PlannedRun]) -> None:
    """Raises ConfigError where a process that is still alive, such as one that outlived a killed comparison, trains."""
    for run in runs:
        if run.log.exists():
            _locked_log(run).close()


def train(
    runs: Sequence[PlannedRun], jobs: int, threads: int, gpus: Sequence[str], say: Callable[[str], None]
) -> Outcome:
    """Train those of `runs` that are not finished, `jobs` at a time with `threads` threads each, spread over `gpus`.

    A run that fails leaves the others alone. SIGINT, SIGTERM and SIGHUP are passed on to the runs, which finish
    their step, save and end; this returns once they have.
    """
    waiting = deque(run for run in runs if not run.is_finished)
    running: list[_Child] = []
    failed: list[PlannedRun] = []
    durations: list[float] = []
    passed_on = 0
    if len(waiting) < len(runs):
        say(f"{len(runs) - len(waiting)} of {len(runs)} runs are there already")
    with stop_signals(second_acts=False) as received:
        try:
            while running or (waiting and not received):
                while waiting and len(running) < jobs and not received:
                    run = waiting.popleft()
                    say(f"{run.name}: {'goes on' if run.is_started else 'starts'}, see {run.log}")
                    taken = Counter(child.gpu for child in running)
                    running.append(_start(run, threads, min(gpus, key=lambda gpu: taken[gpu], default=None)))
                for child in [child for child in running if child.process.poll() is not None]:
                    running.remove(child)
                    if child.run.is_finished and child.process.returncode == 0:
                        durations.append(child.seconds)
                        say(f"{_ended(child)}; {_left(waiting, running, durations, jobs)}")
                    elif not received:
                        failed.append(child.run)
                        say(
                            f"{child.run.name}: failed with exit code {child.process.returncode}: "
                            f"{_last_line(child.run)} ({child.run.log})"
                        )
                if len(received) > passed_on:
                    passed_on = len(received)
                    say(f"stopping {_runs(len(running))} after the step in flight, saved; once more stops at once")
                    for child in running:
                        child.process.terminate()
                time.sleep(TICK_SECONDS)
        finally:
            for child in running:
                child.process.terminate()
                child.process.wait()
    return Outcome(tuple(failed), received[0] if received else None)


def _start(run: PlannedRun, threads: int, gpu: str | None) -> _Child:
    command = [sys.executable, "-m", "unigrad", "train"]
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    if run.is_started:
        command += ["--resume", str(run.folder)]
    else:
        replace_text(run.config_file, run.config.dump())
        command += [str(run.config_file), "--output_dir", str(run.folder)]
    # The child inherits the lock with the log, and holds it for as long as it lives, whatever becomes of this process.
    with _locked_log(run) as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(threads),
                **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}),
            },
        )
    return _Child(run, process, time.monotonic(), gpu)


def _locked_log(run: PlannedRun) -> BufferedWriter:
    try:
        log = run.log.open("ab")
    except OSError as error:
        raise ConfigError(f"cannot write {run.log}: {error.strerror}") from None
    try:
        lock(log)
    except BlockingIOError:
        log.close()
        raise ConfigError(
            f"{run.folder} is being trained by another process; wait for its end or give another folder with --out"
        ) from None
    return log


def _ended(child: _Child) -> str:
    measured = measure(child.run.folder)
    accuracy = f"held-out accuracy {measured.accuracy:.1%}" if measured else "no held-out accuracy"
    return f"{child.run.name}: {accuracy} after {clock(child.seconds)}"


def _left(waiting: Sequence[PlannedRun], running: Sequence[_Child], durations: Sequence[float], jobs: int) -> str:
    if not waiting and not running:
        return "all runs ended"
    mean = sum(durations) / len(durations)
    seconds = mean * len(waiting) + sum(max(mean - child.seconds, 0.0) for child in running)
    return f"{_runs(len(waiting) + len(running))} left, about {clock(seconds / jobs)}"


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _last_line(run: PlannedRun) -> str:
    lines = run.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it printed nothing"


def measure_all(runs: Sequence[PlannedRun]) -> dict[str, dict[int, RunMetrics]]:
    """The finished runs' numbers by method and seed; every method is there, even with none."""
    measured: dict[str, dict[int, RunMetrics]] = {run.method: {} for run in runs}
    for run in runs:
        found = measure(run.folder) if run.is_finished else None
        if found:
            measured[run.method][run.seed] = found
    return measured
