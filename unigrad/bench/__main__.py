"""Takes training steps in this process and prints what they cost as JSON: `unigrad.bench.bench` starts it."""

from __future__ import annotations

import ctypes
import json
import resource
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from unigrad.bench.clock import clocked
from unigrad.bench.measured import Measured, Part
from unigrad.bench.operations import matrix_rate, needed
from unigrad.bench.work import build
from unigrad.errors import ConfigError, as_line, one_line
from unigrad.hybrid import Objective
from unigrad.machine import limit_threads, threads_in_words
from unigrad.policy.architecture import dimensions
from unigrad.train.step import Step


def measure(options: dict[str, str], sizes: dict[str, int], repeats: int) -> Measured:
    """Of `repeats` steps after one that warms up. Raises what a run raises."""
    limit_threads()
    with tempfile.TemporaryDirectory(prefix="unigrad-bench-") as folder, ExitStack() as stack:
        step, objective = build(options, sizes, Path(folder), stack)
        policy, config = step.policy, step.config
        model = dimensions(policy.model)
        rows = config.train.questions_per_step * config.rollout.num_generations
        new = config.rollout.max_completion_length
        tokens = min(rows * (config.data.max_prompt_length + new), config.train.tokens_per_micro_batch)
        matrix = (tokens, model.hidden, model.intermediate)
        rate = matrix_rate(policy, *matrix)
        step.take(1, objective, 0.0)
        held = _held(policy.device)
        taken = [_timed(step, number, objective) for number in range(2, repeats + 2)]
        peak = _peak(policy.device)
        return Measured(
            model=options.get("model.name_or_path", "tiny"),
            parameters=model.parameters,
            dtype=policy.computes_in,
            device=torch.cuda.get_device_name(policy.device) if policy.device.type == "cuda" else str(policy.device),
            threads=threads_in_words(),
            seconds={str(part): [each[part] for each in taken] for part in Part},
            tokens=rows * new,
            peak=peak,
            working=max(peak - held, 0),
            operations=needed(model, config),
            matrix=matrix,
            matrix_rate=rate,
        )


def _timed(step: Step, number: int, objective: Objective) -> dict[str, float]:
    with clocked(step) as clock:
        return clock.parts(step.take(number, objective, 0.0).metrics)


def _held(device: torch.device) -> int:
    """Bytes that are held now; from here on a GPU's peak counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    _give_back()
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else _peak(device)


def _give_back() -> None:
    """To the system what the C library keeps of freed memory, where it can: it would pass for held."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    asked: dict[str, Any] = json.load(sys.stdin)
    try:
        measured = measure(asked["options"], asked["sizes"], asked["repeats"])
    except (ConfigError, ValueError, OSError) as error:
        sys.stderr.write((as_line(error) if isinstance(error, ConfigError) else one_line(error)) + "\n")
        return 2
    sys.stdout.write(json.dumps(asdict(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
