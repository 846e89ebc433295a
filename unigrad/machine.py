"""The machine that a process runs on: the cores it may use, and what it does with them."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user chooses the threads of torch."""
FEWEST_WORKERS, MOST_WORKERS = 2, 8
LATE = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
"""Whether torch was loaded before OpenMP could be told how to wait (see `unigrad/__init__.py`, which imports this)."""


@dataclass(frozen=True, slots=True)
class Launched:
    """This process as one of `size` that train together, `local_size` of them on this machine; ranks count from 0.

    restarts: how often all were started again, as one was lost.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0


def launched() -> Launched:
    """What torchrun says by its variables; without them a process is alone."""
    rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or size is None:
        return Launched()
    local_rank, local_size = os.environ.get("LOCAL_RANK", rank), os.environ.get("LOCAL_WORLD_SIZE", size)
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Launched(int(rank), int(size), int(local_rank), int(local_size), int(restarts))


def cores() -> int:
    """The cores that this process keeps busy at no other's cost: within its affinity, of two hyperthreads one, and no
    more than a container's quota pays for. At least 1."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return max(1, math.floor(min(physical_cores(allowed), quota())))


def physical_cores(allowed: Iterable[int], root: Path = ROOT) -> int:
    """How many cores the `allowed` logical ones lie on; each counts as one where the system does not say."""
    return len({_read(root / f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list") or n for n in allowed})


def quota(root: Path = ROOT) -> float:
    """Cores whose time the control groups of this process, each within the next, grant it; infinite where none does."""
    groups = re.findall(r"^\d+:([^:]*):/(.*)$", _read(root / "proc/self/cgroup"), re.M)
    granted = [math.inf]
    for controllers, group in groups:
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        within = mounted / group
        for folder in (within, *within.parents):
            text = _read(folder / "cpu.max") or (
                f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
            )
            if found := re.fullmatch(r"(\d+) (\d+)", text):
                granted.append(int(found[1]) / int(found[2]))
            if folder == mounted:
                break
    return min(granted)


def is_intel(root: Path = ROOT) -> bool:
    """Whether the system says that its processor is one of Intel's."""
    return "GenuineIntel" in _read(root / "proc/cpuinfo")


def asked_threads() -> int | None:
    """The user's own number of threads a process, by OMP_NUM_THREADS; None where there is none."""
    found = re.match(r"[1-9]\d*", os.environ.get(THREADS[0], "").strip())
    return int(found[0]) if found else None


def threads_of_each(processes: int) -> int:
    """Of several processes at once: a share of the cores, and no more than the user asks for. At least 1."""
    return min(max(1, cores() // processes), asked_threads() or sys.maxsize)


def verifier_workers() -> int:
    """Processes that verify beside a policy: as many as it has threads, within bounds.

    They work while the policy decodes, in bursts; one slow check must not hold up the others.
    """
    return min(max(asked_threads() or threads_of_each(launched().local_size), FEWEST_WORKERS), MOST_WORKERS)


def limit_threads() -> None:
    """No more threads of torch than this rank's share of `cores`, unless the user asks for a number: torch knows of no
    quota, and on some machines takes both hyperthreads of a core, which share its arithmetic."""
    import torch

    if not any(os.environ.get(name) for name in THREADS):
        torch.set_num_threads(min(torch.get_num_threads(), threads_of_each(launched().local_size)))


def threads_in_words() -> str:
    """How many threads torch has, and a warning where they will spin while they wait."""
    import torch

    count = torch.get_num_threads()
    words = f"{count} thread{'s' * (count > 1)}"
    if LATE and count > 1:
        words += (
            "; WARNING: torch was imported before unigrad, so these spin while they wait, and beside other work on the "
            "cores a small model becomes many times slower: import unigrad first, or set OMP_WAIT_POLICY=PASSIVE"
        )
    return words


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
