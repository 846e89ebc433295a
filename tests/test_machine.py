"""What a process takes of its machine: read from made-up systems, and seen in processes of its own."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unigrad.machine import cores, is_intel, physical_cores, quota, threads_of_each, verifier_workers


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def topology(siblings: dict[int, str]) -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": text for n, text in siblings.items()}


def test_two_hyperthreads_are_one_core(tmp_path: Path) -> None:
    write(tmp_path, topology({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}))
    assert physical_cores([0, 1, 4, 5], tmp_path) == 2
    assert physical_cores([1, 5], tmp_path) == 1
    assert physical_cores([0, 1], tmp_path) == 2


def test_without_a_word_on_hyperthreads_each_is_a_core(tmp_path: Path) -> None:
    assert physical_cores(range(6), tmp_path) == 6


GROUPS = {
    "0::/": {"sys/fs/cgroup/cpu.max": "250000 100000"},
    "0::/jobs/mine": {
        "sys/fs/cgroup/jobs/cpu.max": "300000 100000",
        "sys/fs/cgroup/jobs/mine/cpu.max": "max 100000",
    },
    "4:memory:/m\n1:cpu,cpuacct:/box": {
        "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "150000",
        "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "50000",
        "sys/fs/cgroup/memory/m/cpu.max": "10000 100000",
    },
    "1:cpu:/\n0::/": {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
}


@pytest.mark.parametrize(("groups", "granted"), [*zip(GROUPS, (2.5, 3.0, 3.0, math.inf), strict=True)])
def test_the_quota_of_a_container(groups: str, granted: float, tmp_path: Path) -> None:
    assert quota(write(tmp_path, {"proc/self/cgroup": groups, **GROUPS[groups]})) == granted


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert quota(tmp_path) == math.inf


def test_runs_side_by_side_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_of_each(jobs) for jobs in (1, cores(), 10**6)] == [cores(), 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads_of_each(1) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", str(10**6))
    assert threads_of_each(1) == cores()


@pytest.mark.parametrize(
    ("cpuinfo", "expected"), [("processor\t: 0\nvendor_id\t: GenuineIntel", True), ("vendor_id\t: AuthenticAMD", False)]
)
def test_who_made_the_processor(cpuinfo: str, expected: bool, tmp_path: Path) -> None:
    assert is_intel(write(tmp_path, {"proc/cpuinfo": cpuinfo})) is expected
    assert not is_intel(tmp_path / "without")


@pytest.mark.parametrize(("threads", "workers"), [("1", 2), ("5", 5), ("64", 8), ("6,2", 6)])
def test_workers_follow_the_threads_within_bounds(threads: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert verifier_workers() == workers


def said(code: str, **asked: str) -> str:
    """By a process of its own with these variables, and none of the user's."""
    unset = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    environment = {name: value for name, value in os.environ.items() if name not in unset} | asked
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout.strip()


def test_torch_takes_the_cores_or_what_the_user_asks_for() -> None:
    count = "from unigrad.machine import limit_threads; import torch; limit_threads(); print(torch.get_num_threads())"
    assert int(said(count)) <= cores()
    assert said(count, OMP_NUM_THREADS="1") == "1"


def test_threads_that_spin_are_told_of() -> None:
    late = "import torch; from unigrad.machine import *; torch.set_num_threads({}); print(threads_in_words())"
    assert said(late.format(2)).startswith("2 threads; WARNING: torch was imported before unigrad")
    assert said(late.format(2), OMP_WAIT_POLICY="ACTIVE") == "2 threads"
    assert said(late.format(1)) == "1 thread"


def test_threads_spin_for_a_moment_unless_the_user_says_how_they_wait() -> None:
    settings = "import unigrad, os; print(*(os.environ.get(name) for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')))"
    assert said(settings) == "PASSIVE 1000"
    assert said(settings, GOMP_SPINCOUNT="7") == "PASSIVE 7"
    assert said(settings, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE None"
