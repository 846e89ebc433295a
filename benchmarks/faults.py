"""Faults from outside: commands killed at random moments and at every write, disks that fill up, killed workers of
the verifier. After each the command is given again, and must end as one that nothing happened to, bit for bit.

    nice python benchmarks/faults.py moments writes full evaluate compare workers       # any of them; an hour for all

Needs Linux and a C compiler. docs/results/faults.md has the figures.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from faulty import TRAIN, Ended, Faulty, contents, go_on, train

from unigrad.verify import Submission, Verifier

EVALUATE = (
    "evaluate", "tiny", "--suite", "tiny", "--limit", "3", "--samples", "2", "--max-completion-length", "12",
    "--out", "run",
)  # fmt: skip
COMPARE = (
    "compare", "tiny", "--methods", "sft,grpo", "--seeds", "1", "--jobs", "2", "--out", "run", *TRAIN,
    "--data.max_demonstration_length", "100",
)  # fmt: skip
KILLED = -9


def moments(faulty: Faulty, scratch: Path, count: int) -> None:
    """Killed at random moments, uniform over the run's time."""
    whole, seconds, _ = _whole(faulty, scratch, lambda folder: go_on(faulty, folder))
    draw = random.Random(0)
    afters = [draw.uniform(0, seconds) for _ in range(count)]
    found = Counter(
        _attempt(scratch, whole, lambda folder, after=after: faulty.run(folder, *train("run"), after=after),
                 lambda folder: go_on(faulty, folder))
        for after in afters
    )  # fmt: skip
    print(f"train, killed at {count} random moments: {_said(found)}", flush=True)


def writes(faulty: Faulty, scratch: Path, count: int) -> None:
    """Killed at each write: of a write of bytes, half is done."""
    _at_each(faulty, scratch, train("run"), lambda folder: go_on(faulty, folder), "half", count)


def full(faulty: Faulty, scratch: Path, count: int) -> None:
    """No room from each write on, until the process has ended."""
    _at_each(faulty, scratch, train("run"), lambda folder: go_on(faulty, folder), "full", count)


def evaluate(faulty: Faulty, scratch: Path, count: int) -> None:
    for kind in ("half", "full"):
        _at_each(faulty, scratch, EVALUATE, lambda folder: faulty.run(folder, *EVALUATE), kind, count)


def compare(faulty: Faulty, scratch: Path, count: int) -> None:
    """Killed at each write of its own; what it started lives on, and no second may start beside that."""

    def again(folder: Path) -> Ended:
        ended = faulty.run(folder, *COMPARE)
        while ended.code == 2 and "another process" in ended.output:
            time.sleep(0.2)
            ended = faulty.run(folder, *COMPARE)
        return ended

    for kind in ("half", "full"):
        _at_each(faulty, scratch, COMPARE, again, kind, count)


def _whole(faulty: Faulty, scratch: Path, run: Callable[[Path], Ended]) -> tuple[dict[str, Any], float, int]:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    ended = run(folder)
    assert ended.code == 0, ended.output
    assert ended.writes is not None
    return contents(folder / "run"), ended.seconds, ended.writes


def _at_each(
    faulty: Faulty, scratch: Path, command: tuple[str, ...], again: Callable[[Path], Ended], kind: str, count: int
) -> None:
    whole, _, number = _whole(faulty, scratch, lambda folder: faulty.run(folder, *command))
    places = range(1, number + 1, max(1, number // count))
    found: Counter[str] = Counter()
    for at in places:
        outcome = _attempt(
            scratch, whole, lambda folder, at=at: faulty.run(folder, *command, at=at, kind=kind), again
        )  # fmt: skip
        found[outcome] += 1
        if outcome != "equal":
            print(f"  {command[0]}, {kind} at write {at}: {outcome}", flush=True)
    what = {"half": "killed at", "full": "the disk full from"}[kind]
    print(f"{command[0]}, {what} {len(places)} of its {number} writes: {_said(found)}", flush=True)


def _attempt(
    scratch: Path, whole: dict[str, Any], fault: Callable[[Path], Ended], again: Callable[[Path], Ended]
) -> str:
    """ "equal", or what is wrong with it."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    try:
        first = fault(folder)
        if first.code not in (KILLED, 0) and (wrong := _complaint(first)):
            return wrong
        last = again(folder)
        if last.code:
            return f"the second time: code {last.code}: {last.output.strip()[-300:]}"
        found = contents(folder / "run")
        differ = sorted(name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))
        return f"not equal: {', '.join(differ)}" if differ else "equal"
    finally:
        shutil.rmtree(folder)


def _complaint(ended: Ended) -> str | None:
    """What is wrong with how a command failed: it must say why, in one line."""
    errors = [line for line in ended.output.splitlines() if line.startswith("unigrad: error:")]
    if ended.code not in (1, 2) or "Traceback" in ended.output or len(errors) != 1:
        return f"code {ended.code}, {len(errors)} lines of error: {ended.output.strip()[-300:]}"
    return None


def _said(found: Counter[str]) -> str:
    return f"{found['equal']} of {found.total()} ends equal"


def workers(checks: int) -> None:
    """Worker processes and their children killed at random moments, also while they start."""
    ours = psutil.Process()
    done, kills, draw = threading.Event(), 0, random.Random(0)

    def kill() -> None:
        nonlocal kills
        while not done.wait(draw.uniform(0, 1.5)):
            for process in draw.sample(found := ours.children(recursive=True), min(1, len(found))):
                process.kill()
                kills += 1

    found: Counter[str] = Counter()
    with Verifier(workers=2) as verifier:
        verifier.verify_batch([Submission(r"\boxed{x+1}", "1+x")])
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        killer = threading.Thread(target=kill)
        killer.start()
        for submission, right in _submissions(checks):
            try:
                found["right verdict" if verifier.verify_batch([submission])[0].correct is right else "wrong"] += 1
            except RuntimeError as error:
                found[str(error)] += 1
        done.set()
        killer.join()
        leaked = len(os.listdir("/proc/self/fd")) - before  # noqa: PTH208
        zombies = sum(each.status() == psutil.STATUS_ZOMBIE for each in ours.children(recursive=True))
    left = len(ours.children(recursive=True))
    print(f"{checks} checks, {kills} kills: {dict(found)}; {leaked} descriptors leaked, {zombies} zombies, {left} left")


def _submissions(count: int) -> Iterator[tuple[Submission, bool]]:
    for number in range(count):
        right = number % 2 == 0
        yield Submission(rf"\boxed{{x^2+{number}x+{number}}}", f"{number}(x+1)+x^2{'' if right else '+1'}"), right


SECTIONS = {"moments": moments, "writes": writes, "full": full, "evaluate": evaluate, "compare": compare}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="+", choices=[*SECTIONS, "workers"])
    parser.add_argument("--count", type=int, default=1000, help="of moments, or of writes at most, evenly spread")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for section in options.sections:
            if section == "workers":
                workers(options.count)
                continue
            with Faulty(Path(name)) as server:
                SECTIONS[section](server, Path(name), options.count)
